"""Penalties by hand, beside another method, switched on after a while, and in a training loop of one's own."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from method_helpers import (
    Batch,
    closure_of,
    domain_losses,
    factor_gradients,
    factors,
    gradient,
    logits_of,
    make_batch,
    mean_loss,
    relative_error,
    shares,
    take_step,
    toy_student,
    view,
)

from isodistill.aligner import GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import Forward, RunInfo, Window, build_method

SETS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def set_batch(seed: int = 0) -> Batch:
    """Two sets over four domains; the members of a set end in one answer token."""
    batch = make_batch((0, 1, 2, 3, 3, 2, 1, 0), seed=seed)
    labels = batch.labels.clone()
    for row, answer in enumerate((7, 7, 7, 7, 9, 9, 9, 9)):
        last = int((labels[row] != -100).nonzero().max())
        labels[row, last] = answer
    return Batch(batch.ids, batch.attention, labels, batch.domains)


def at_answers(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What predicts the last label token of each sequence, (S, ...), from values (S, T, ...)."""
    return torch.stack([values[row, int((labels[row] != -100).nonzero().max()) - 1] for row in range(len(labels))])


def jensen_shannon(logits: torch.Tensor, labels: torch.Tensor, sets: torch.Tensor) -> list[torch.Tensor]:
    """The mean Kullback-Leibler divergence of a set's members from their mixture, one number for each set."""
    p = torch.softmax(at_answers(logits, labels), -1)
    found = []
    for s in sets.unique():
        members = p[sets == s]
        mixture = members.mean(0)
        found.append(sum((q * (q / mixture).log()).sum() for q in members) / len(members))
    return found


# Consistency


def test_consistency_is_the_jensen_shannon_divergence():
    student, batch = toy_student(), set_batch()
    aligner = GradientAligner(student, "consistency", penalty_weight=16.0)
    found = take_step(aligner, student, batch, SETS)
    divergences = jensen_shannon(logits_of(student, batch), batch.labels, SETS)
    expected = gradient(mean_loss(student, batch) + 16.0 * sum(divergences) / 2, student)
    assert relative_error(found, expected) < 1e-9
    assert relative_error(found, gradient(mean_loss(student, batch), student)) > 1e-2


def test_consistency_of_hidden_states_is_one_minus_the_pairs_cosines():
    student, batch = toy_student(), set_batch()
    found = take_step(GradientAligner(student, "consistency", penalty_weight=4.0, form="hidden"), student, batch, SETS)
    hidden = at_answers(student(batch.ids, batch.attention)[1], batch.labels)
    by_set = []
    for s in (0, 1):
        members = (s == SETS).nonzero().squeeze(1).tolist()
        pairs = [1 - F.cosine_similarity(hidden[i], hidden[j], dim=0) for i, j in itertools.combinations(members, 2)]
        by_set.append(sum(pairs) / len(pairs))
    expected = gradient(mean_loss(student, batch) + 4.0 * sum(by_set) / 2, student)
    assert relative_error(found, expected) < 1e-9


def divergence(forward: Forward, form: str = "distribution") -> float:
    method = build_method("consistency", penalty_weight=1.0, form=form)
    value = float(method.penalty(forward).detach())
    assert method.diagnostics().values == {"consistency_divergence": pytest.approx(value)}
    return value


def test_pinned_divergences():
    """Two members that are sure of different tokens are log 2 apart; three members, two alike: 0.6365."""
    logits = torch.full((2, 3, 4), -1e4, dtype=torch.float64)
    logits[0, :, 1] = logits[1, :, 2] = 0.0
    labels = torch.tensor([[-100, -100, 3], [-100, -100, 3]])
    domains, one_set = torch.tensor([0, 1]), torch.tensor([5, 5])
    assert divergence(Forward.from_logits(logits, labels, domains, one_set)) == pytest.approx(0.693147, abs=1e-6)
    same = logits[:1].repeat(2, 1, 1)
    assert divergence(Forward.from_logits(same, labels, domains, one_set)) == pytest.approx(0.0, abs=1e-12)
    three = Forward.from_logits(logits[[0, 0, 1]], labels[[0, 0, 1]], torch.tensor([0, 1, 2]), torch.tensor([5, 5, 5]))
    assert divergence(three) == pytest.approx(0.636514, abs=1e-6)


def test_a_set_told_with_different_answers_brings_no_divergence():
    student, batch = toy_student(), set_batch()
    labels = batch.labels.clone()
    last = int((labels[1] != -100).nonzero().max())
    labels[1, last] = 8
    told = Batch(batch.ids, batch.attention, labels, batch.domains)
    found = divergence(view(student, told, SETS))
    assert found == pytest.approx(float(jensen_shannon(logits_of(student, told), labels, SETS)[1]) / 2, rel=1e-9)


@pytest.mark.parametrize(
    "form",
    [
        "distribution",
        "hidden",
    ],
)
def test_members_of_no_set_have_nothing_to_differ_from(form):
    student, batch = toy_student(), set_batch()
    assert divergence(view(student, batch), form) == pytest.approx(0.0, abs=1e-12)


def test_hidden_form_without_hidden_states_is_refused():
    student, batch = toy_student(), set_batch()
    forward = view(student, batch, SETS)
    forward.hidden = None
    with pytest.raises(IsodistillError, match="needs the hidden states"):
        build_method("consistency", form="hidden").penalty(forward)


# Word dropout


def dropout_inputs(rows: int = 400, length: int = 60, prompt: int = 40) -> dict[str, torch.Tensor]:
    labels = torch.full((rows, length), -100)
    labels[:, prompt:-3] = 1  # three positions of padding
    attention = torch.ones(rows, length, dtype=torch.int64)
    attention[:, -3:] = 0
    return {"input_ids": torch.ones(rows, length, dtype=torch.int64), "attention_mask": attention, "labels": labels}


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_word_dropout_hides_prompt_tokens_alone(p):
    method = build_method("word_dropout", probability=p)
    method.bind(RunInfo(seed=3))
    inputs = dropout_inputs()
    before = {key: tensor.clone() for key, tensor in inputs.items()}
    found = method.augment(inputs)
    assert all(torch.equal(inputs[key], before[key]) for key in inputs), "the batch itself stays"
    assert torch.equal(found["input_ids"], inputs["input_ids"])
    assert torch.equal(found["labels"], inputs["labels"])
    hidden = (inputs["attention_mask"] == 1) & (found["attention_mask"] == 0)
    assert not hidden[:, 0].any()
    assert not hidden[:, 40:].any()
    assert bool((found["attention_mask"] <= inputs["attention_mask"]).all())
    # Four standard deviations of a share of 400 x 39 draws.
    assert float(hidden[:, 1:40].float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / (400 * 39)) ** 0.5)


def test_word_dropout_is_drawn_anew_and_follows_the_seed():
    def masks(seed: int) -> list[torch.Tensor]:
        method = build_method("word_dropout", probability=0.3)
        method.bind(RunInfo(seed=seed))
        return [method.augment(dropout_inputs(20))["attention_mask"] for _ in range(3)]

    first, again, other = masks(0), masks(0), masks(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_word_dropout_trains_on_what_it_shows():
    student, batch = toy_student(), make_batch(length=14)
    aligner = GradientAligner(student, "word_dropout", probability=0.5, run=RunInfo(seed=2))
    found = take_step(aligner, student, batch)
    again = build_method("word_dropout", probability=0.5)
    again.bind(RunInfo(seed=2))
    shown = again.augment({"attention_mask": batch.attention, "labels": batch.labels})["attention_mask"]
    assert not torch.equal(shown, batch.attention)
    seen = Batch(batch.ids, shown, batch.labels, batch.domains)
    assert relative_error(found, gradient(mean_loss(student, seen), student)) < 1e-10


# Beside another method


def iga_by_hand(by_domain, w: list[float], tau: float) -> dict[str, torch.Tensor]:
    aligned = {}
    for key in by_domain[0]:
        mean = sum(x * g[key] for x, g in zip(w, by_domain, strict=True))
        variance = sum(x * (g[key] - mean) ** 2 for x, g in zip(w, by_domain, strict=True))
        aligned[key] = torch.exp(-tau * variance / mean**2) * mean
    return aligned


@pytest.mark.parametrize("method", ["erm_balanced", "iga"])
def test_iga_with_consistency_masks_the_gradients_of_the_penalised_loss(method):
    """Domain d's gradient is what the penalised loss sends through its own sequences, times 1 / w_d."""
    student, batch, tau = toy_student(), set_batch(), 0.7
    options = (
        {"tau": tau, "mask_space": "factor", "mask_stage": "gradient", "statistics_decay": 0.0}
        if method == "iga"
        else {}
    )
    aligner = GradientAligner(
        student, method, penalty="consistency", penalty_options={"penalty_weight": 16.0}, **options
    )
    found = take_step(aligner, student, batch, SETS)
    w, by_domain = shares(batch), []
    for domain, share in enumerate(w):
        own = (batch.domains == domain).view(-1, 1, 1)
        logits = logits_of(student, batch)
        logits = torch.where(own, logits, logits.detach())
        total = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch.labels[:, 1:], ignore_index=-100)
        total = total + 16.0 * sum(jensen_shannon(logits, batch.labels, SETS)) / 2
        by_domain.append({key: g / share for key, g in gradient(total, student).items()})
    if method == "iga":
        expected = iga_by_hand(by_domain, w, tau)
    else:
        expected = {key: sum(g[key] for g in by_domain) / 4 for key in found}
    assert relative_error(found, expected) < 1e-9
    assert relative_error(found, take_step(GradientAligner(student, method, **options), student, batch)) > 1e-2


@pytest.mark.parametrize("weighting", ["tokens", "uniform"])
def test_iga_with_vrex_masks_the_reweighted_gradients(weighting):
    student, batch, tau, weight = toy_student(), set_batch(), 0.7, 10.0
    aligner = GradientAligner(
        student,
        "iga",
        penalty="vrex",
        penalty_options={"penalty_weight": weight, "anneal_fraction": 0.0},
        domain_weighting=weighting,
        tau=tau,
        mask_space="factor",
        mask_stage="gradient",
        statistics_decay=0.0,
    )
    found = take_step(aligner, student, batch)
    w, losses = shares(batch, weighting), domain_losses(student, batch)
    # By autograd: the objective's derivative in each loss, over w_d.
    leaves = torch.stack([loss.detach() for loss in losses]).requires_grad_()
    share = torch.tensor(w, dtype=torch.float64)
    mean = (share * leaves).sum()
    (mean + weight * (share * (leaves - mean) ** 2).sum()).backward()
    by_domain = [
        {key: leaves.grad[d] / w[d] * g for key, g in gradient(loss, student).items()} for d, loss in enumerate(losses)
    ]
    assert relative_error(found, iga_by_hand(by_domain, w, tau)) < 1e-9


@pytest.mark.parametrize("penalty", ["irm", "fishr"])
def test_a_penalty_beside_erm_is_the_penalty_alone(penalty):
    student, batch = toy_student(), make_batch()
    options = {"penalty_weight": 20.0, "anneal_fraction": 0.0}
    alone = take_step(GradientAligner(student, penalty, **options), student, batch)
    beside = take_step(GradientAligner(student, "erm", penalty=penalty, penalty_options=options), student, batch)
    assert all(torch.equal(alone[key], beside[key]) for key in alone)


FISHR_LOSES = pytest.mark.xfail(
    reason="a documented departure: the tap misses the last B's own occurrence in Fishr's penalty", strict=True
)


@pytest.mark.parametrize("space", ["factor", "weight"])
@pytest.mark.parametrize("penalty", ["irm", "consistency", pytest.param("fishr", marks=FISHR_LOSES)])
def test_a_penalty_beside_iga_without_a_mask_is_the_penalty_alone(penalty, space):
    student, batch = toy_student(), set_batch()
    options = {"penalty_weight": 20.0} | ({} if penalty == "consistency" else {"anneal_fraction": 0.0})
    alone = take_step(GradientAligner(student, penalty, **options), student, batch, SETS)
    iga = {"tau": 0.0, "mask_space": space, "mask_stage": "gradient"}
    aligner = GradientAligner(student, "iga", penalty=penalty, penalty_options=options, **iga)
    assert relative_error(take_step(aligner, student, batch, SETS), alone) < 1e-9


@pytest.mark.parametrize("method", ["fish", "koyama"])
@pytest.mark.parametrize("penalty", ["vrex", "consistency"])
def test_a_method_that_replays_takes_no_penalty(method, penalty):
    options = {"anneal_fraction": 0.0} if penalty == "vrex" else {}
    with pytest.raises(IsodistillError, match=f"method='{method}'"):
        GradientAligner(toy_student(), method, penalty=penalty, penalty_options=options)


# Annealing


@pytest.mark.parametrize(("name", "before"), [("irm", 1.0), ("vrex", 1.0), ("fishr", 0.0)])
def test_the_weight_switches_once_and_the_optimizer_forgets_once(name, before):
    student = toy_student()
    optimizer = torch.optim.Adam(factors(student).values(), lr=1e-3)
    aligner = GradientAligner(
        student, name, penalty_weight=9.0, anneal_fraction=0.3, run=RunInfo(num_domains=4, total_steps=10)
    )
    aligner.attach_optimizer(optimizer)
    weights, steps_taken, found = [], [], []
    for step in range(6):
        weights.append(aligner.method.penalty_weight)
        batch = make_batch(seed=step)
        fixed = GradientAligner(student, name, penalty_weight=weights[-1], anneal_fraction=0.0)
        expected = take_step(fixed, student, batch)
        fixed.close()
        gradients = take_step(aligner, student, batch)
        if name != "fishr":  # its running averages began earlier
            found.append(relative_error(gradients, expected))
        optimizer.step()
        steps_taken.append({int(state["step"]) for state in optimizer.state.values()})
    assert weights == [before] * 3 + [9.0] * 3
    # Adam counts from one again at the step of the switch, and at no other.
    assert steps_taken == [{1}, {2}, {3}, {1}, {2}, {3}]
    assert all(error < 1e-12 for error in found)


def test_no_annealing_never_resets():
    method = build_method("vrex", anneal_fraction=0.0)
    method.bind(RunInfo())
    for _ in range(3):
        assert method.penalty_weight == 10.0
        assert not method.resets_optimizer
        method.end_step()


@pytest.mark.parametrize("name", ["irm", "vrex", "fishr"])
def test_annealing_without_the_runs_length_is_refused_by_name(name):
    with pytest.raises(
        IsodistillError, match=rf"method='{name}' anneals .* pass total_steps, or set anneal_fraction=0"
    ):
        GradientAligner(toy_student(), name, anneal_fraction=0.3)


# A loop of one's own


def test_the_readmes_loop_with_an_objective():
    student, batch = toy_student(), set_batch()
    aligner = GradientAligner(student, "consistency", penalty="groupdro")
    student.zero_grad()
    with aligner.record(batch.domains, batch.items):
        logits, _ = student(batch.ids, batch.attention)
        aligner.objective(Forward.from_logits(logits, batch.labels, batch.domains, SETS)).backward()
    values = aligner.step().values
    losses = domain_losses(student, batch)
    assert {f"domain_loss/{d}": pytest.approx(float(loss)) for d, loss in enumerate(losses)}.items() <= values.items()
    assert {"consistency_divergence", "groupdro_max_q"} <= values.keys()


def test_objective_outside_of_a_block_is_refused():
    student, batch = toy_student(), set_batch()
    with pytest.raises(IsodistillError, match="objective was called outside"):
        GradientAligner(student, "consistency").objective(view(student, batch, SETS))


def test_a_loss_method_without_the_objective_is_refused_by_name():
    student, batch = toy_student(), set_batch()
    aligner = GradientAligner(student, "groupdro")
    with aligner.record(batch.domains, batch.items):
        mean_loss(student, batch).backward()
    with pytest.raises(IsodistillError, match="method='groupdro' needs the domains' losses"):
        aligner.step()


@pytest.mark.parametrize("method", ["vrex", "groupdro", "consistency", "irm"])
def test_two_micro_batches_add_up(method):
    student, batch = toy_student(), set_batch()
    options = {"anneal_fraction": 0.0} if method in ("vrex", "irm") else {}
    whole = take_step(GradientAligner(student, method, **options), student, batch, SETS)
    aligner = GradientAligner(student, method, accumulation_steps=2, **options)
    student.zero_grad()
    for half in (slice(4), slice(4, None)):
        part = batch.rows(half)
        with aligner.record(part.domains, part.items, normalizer=batch.total):
            aligner.objective(view(student, part, SETS[half]), normalizer=batch.total).backward()
    aligner.step()
    difference = relative_error(factor_gradients(student), whole)
    # IRM's halves are those of a micro-batch, as its class says.
    assert (difference < 1e-9) == aligner.method.micro_batch_exact


@pytest.mark.parametrize("name", ["fish", "koyama"])
def test_a_replaying_method_asks_for_what_it_needs(name):
    student, batch = toy_student(), make_batch()
    aligner = GradientAligner(student, name)
    with aligner.record(batch.domains, batch.items):
        pass
    with pytest.raises(
        IsodistillError, match=rf"method='{name}' runs the step's data again: pass aligner.step a closure"
    ):
        aligner.step()
    if name == "fish":
        with pytest.raises(IsodistillError, match=r"call aligner\.attach_optimizer first"):
            aligner.step(closure_of(student, batch))


@pytest.mark.parametrize("name", ["fish", "koyama"])
def test_a_replay_of_nothing_is_refused(name):
    student, batch = toy_student(), make_batch()
    aligner = GradientAligner(student, name)
    aligner.attach_optimizer(torch.optim.SGD(factors(student).values(), lr=0.1))
    with pytest.raises(IsodistillError, match="record"):
        aligner.step(closure_of(student, batch))


def test_domain_scales_see_the_losses_of_the_step():
    method = build_method("vrex", penalty_weight=2.0, anneal_fraction=0.0)
    assert method.domain_scales(Window([0, 1], [0.25, 0.75], [1.0, 3.0])) == pytest.approx([-5.0, 3.0])
