"""Each rule as DomainBed writes it, by plain autograd on a toy student in fp64, beside the aligner's gradient."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from method_helpers import (
    Batch,
    closure_of,
    domain_losses,
    factors,
    gradient,
    logits_of,
    make_batch,
    mean_loss,
    relative_error,
    shares,
    summed,
    take_step,
    tiny_llama,
    token_losses,
    toy_student,
)
from torch import nn

from isodistill.aligner import GradientAligner
from isodistill.gradients import find_adapted_layers
from isodistill.methods import METHODS, RunInfo, Window

both_weightings = pytest.mark.parametrize("weighting", ["tokens", "uniform"])


@pytest.fixture
def student() -> nn.Module:
    return toy_student()


@pytest.fixture
def batch() -> Batch:
    return make_batch()


def move(model: nn.Module, gradients: dict[str, torch.Tensor], lr: float = 0.3) -> None:
    with torch.no_grad():
        for name, parameter in factors(model).items():
            parameter -= lr * gradients[name]


def gradients_by_domain(model: nn.Module, batch: Batch) -> list[dict[str, torch.Tensor]]:
    return [gradient(loss, model) for loss in domain_losses(model, batch)]


# Risks


def test_erm_balanced_is_the_mean_of_the_domains_means(student, batch):
    found = take_step(GradientAligner(student, "erm_balanced"), student, batch)
    expected = gradient(sum(domain_losses(student, batch)) / 4, student)
    assert relative_error(found, expected) < 1e-10
    assert relative_error(found, gradient(mean_loss(student, batch), student)) > 1e-3


def irm_penalty(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """DomainBed's ``IRM._irm_penalty``; a sample is a sequence, its loss runs over its label tokens."""
    scale = torch.ones((), dtype=logits.dtype, requires_grad=True)
    halves = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        scored = logits[half, :-1].flatten(0, 1) * scale
        loss = F.cross_entropy(scored, labels[half, 1:].flatten(), ignore_index=-100)
        halves.append(torch.autograd.grad(loss, [scale], create_graph=True)[0])
    return torch.sum(halves[0] * halves[1])


@pytest.mark.parametrize("weight", [0.7, 100.0])
def test_irm(student, batch, weight):
    aligner = GradientAligner(student, "irm", penalty_weight=weight, anneal_fraction=0.0)
    found = take_step(aligner, student, batch)
    penalties = [irm_penalty(logits_of(student, part), part.labels) for part in batch.domain_batches()]
    expected = gradient(mean_loss(student, batch) + weight * sum(penalties) / 4, student)
    assert relative_error(found, expected) < 1e-9
    assert relative_error(found, gradient(mean_loss(student, batch), student)) > 1e-2


def test_irm_leaves_out_a_domain_of_one_sequence(student):
    batch = make_batch((0, 1, 0, 2, 2, 0))
    found = take_step(GradientAligner(student, "irm", penalty_weight=5.0, anneal_fraction=0.0), student, batch)
    parts = [part for part in batch.domain_batches() if len(part.ids) > 1]
    penalty = sum(irm_penalty(logits_of(student, part), part.labels) for part in parts) / 2
    assert relative_error(found, gradient(mean_loss(student, batch) + 5.0 * penalty, student)) < 1e-9


@both_weightings
@pytest.mark.parametrize("weight", [0.7, 10.0])
def test_vrex(student, batch, weight, weighting):
    aligner = GradientAligner(student, "vrex", penalty_weight=weight, anneal_fraction=0.0, domain_weighting=weighting)
    found = take_step(aligner, student, batch)
    losses = torch.stack(domain_losses(student, batch))
    w = torch.tensor(shares(batch, weighting), dtype=torch.float64)
    mean = (w * losses).sum()
    objective = mean + weight * (w * (losses - mean) ** 2).sum()
    assert relative_error(found, gradient(objective, student)) < 1e-10
    if weighting == "uniform":
        # DomainBed's own line.
        plain = losses.mean() + weight * ((losses - losses.mean()) ** 2).mean()
        assert relative_error(found, gradient(plain, student)) < 1e-10


@both_weightings
def test_groupdro_over_three_steps(student, weighting):
    eta = 0.5
    aligner = GradientAligner(student, "groupdro", eta=eta, domain_weighting=weighting)
    q = torch.ones(4, dtype=torch.float64)
    for step in range(3):
        batch = make_batch(seed=step)
        found = take_step(aligner, student, batch)
        losses = domain_losses(student, batch)
        for d, loss in enumerate(losses):
            q[d] *= (eta * loss.detach()).exp()
        q /= q.sum()
        expected = gradient(torch.dot(torch.stack(losses), q), student)
        assert relative_error(found, expected) < 1e-10, step
        move(student, found)
    assert (q - 0.25).abs().max() > 1e-3
    assert aligner.method.q() == {d: pytest.approx(float(q[d]), rel=1e-10) for d in range(4)}


def test_groupdro_keeps_the_weight_of_an_absent_domain():
    method = METHODS["groupdro"](eta=1.0)
    method.domain_scales(Window([0, 1, 2], [1 / 3] * 3, [0.0, 1.0, 2.0]))
    scales = method.domain_scales(Window([0, 2], [0.5, 0.5], [1.0, 0.0]))
    q = torch.tensor([1.0, 1.0, 2.0]).exp()
    assert method.q() == {d: pytest.approx(float(q[d] / q.sum()), rel=1e-6) for d in range(3)}
    assert scales == [pytest.approx(float(q[d] / (q[0] + q[2]) * 2), rel=1e-6) for d in (0, 2)]


# Fish


@pytest.mark.parametrize("meta_step", [0.5, 1.0])
def test_fish_clones_walks_and_moves_a_part_of_the_way(student, meta_step):
    inner_lr = 0.05
    meta = copy.deepcopy(student)
    optimizer = torch.optim.Adam(factors(student).values(), lr=inner_lr)
    aligner = GradientAligner(student, "fish", meta_step=meta_step, run=RunInfo(seed=5))
    aligner.attach_optimizer(optimizer)
    inner_state, orders = None, []
    for step in range(3):
        batch = make_batch(seed=step)
        order: list[int] = []
        with aligner.record(batch.domains, batch.items):
            pass
        aligner.step(closure_of(student, batch, order))
        before = {name: p.detach().clone() for name, p in factors(student).items()}
        optimizer.step()
        assert all(torch.equal(p, before[name]) for name, p in factors(student).items()), "no step beside the walk"
        assert sorted(order) == [0, 1, 2, 3]
        orders.append(order)

        clone = copy.deepcopy(meta)
        inner = torch.optim.Adam(factors(clone).values(), lr=inner_lr)
        if inner_state is not None:
            inner.load_state_dict(inner_state)
        for d in order:
            inner.zero_grad()
            mean_loss(clone, batch.rows(batch.domains == d)).backward()
            inner.step()
        inner_state = inner.state_dict()
        with torch.no_grad():
            for p, q in zip(factors(meta).values(), factors(clone).values(), strict=True):
                p += meta_step * (q - p)
        assert relative_error(before, {name: p.detach() for name, p in factors(meta).items()}) < 1e-10, step
    assert len({tuple(order) for order in orders}) > 1, "the order is drawn anew"


# Fishr


def per_sample_gradients(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(S, P): autograd's gradients of each sequence alone, of A and B of the last adapted layer."""
    layer = find_adapted_layers(model)[-1]
    rows = []
    for i in range(len(batch.ids)):
        loss = mean_loss(model, batch.rows(slice(i, i + 1)))
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, [layer.A, layer.B], create_graph=True)]))
    return torch.stack(rows)


class MovingAverage:
    """DomainBed's, with its correction by 1 / (1 - ema)."""

    def __init__(self, ema: float) -> None:
        self.ema, self.data = ema, None

    def update(self, data: torch.Tensor) -> torch.Tensor:
        previous = torch.zeros_like(data) if self.data is None else self.data
        average = self.ema * previous + (1 - self.ema) * data
        self.data = average.clone().detach()
        return average / (1 - self.ema)


@pytest.mark.parametrize(("scale", "weight"), [("raw", 50.0), ("relative", 2.0)])
def test_fishr_over_three_steps(student, scale, weight):
    ema = 0.6
    aligner = GradientAligner(student, "fishr", penalty_weight=weight, ema=ema, scale=scale)
    averages = [MovingAverage(ema) for _ in range(3)]
    for step in range(3):
        batch = make_batch((0, 1, 2, 2, 1, 0, 0), seed=step)
        found = take_step(aligner, student, batch)
        variances = []
        for d, part in enumerate(batch.domain_batches()):
            grads = per_sample_gradients(student, part)
            centred = grads - grads.mean(dim=0, keepdim=True)
            variances.append(averages[d].update(centred.pow(2).mean(dim=0)))
        mean = torch.stack(variances).mean(dim=0)
        penalty = sum((v - mean).pow(2).mean() for v in variances) / 3
        if scale == "relative":
            penalty = penalty / mean.detach().pow(2).mean()
        plain = gradient(mean_loss(student, batch), student)
        expected = gradient(mean_loss(student, batch) + weight * penalty, student)
        assert relative_error(found, expected) < 1e-9, step
        assert relative_error(found, plain) > 1e-3, "the penalty must be felt"
        move(student, found)


def test_fishr_reaches_the_layers_before_the_last(student, batch):
    found = take_step(GradientAligner(student, "fishr", penalty_weight=5.0), student, batch)
    plain = gradient(mean_loss(student, batch), student)
    early = [name for name in found if ".mix." in name]
    assert early
    assert all((found[name] - plain[name]).norm() > 1e-4 * plain[name].norm() for name in early)


# Masks


@both_weightings
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_and_mask(student, batch, tau, weighting):
    found = take_step(GradientAligner(student, "and_mask", tau=tau, domain_weighting=weighting), student, batch)
    by_domain = gradients_by_domain(student, batch)
    mean = summed(shares(batch, weighting), by_domain)
    for name in found:
        signs = torch.stack([torch.sign(g[name]) for g in by_domain])
        mask = (signs.mean(dim=0).abs() >= tau).double()
        assert (tau == 0.0) == bool(mask.all())
        expected = mask * mean[name] / (1e-10 + mask.sum() / mask.numel())
        torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-14)


def test_and_mask_counts_three_domains_of_three_as_all():
    # mean(sign) of three equal signs is 1 only up to a rounding in some orders of division.
    stack = torch.tensor([[1.0, 1.0], [2.0, -1.0], [3.0, 1.0]]).unsqueeze(1)
    aligned, _ = METHODS["and_mask"](tau=1.0).align_factors({"l.lora_A": stack}, Window([0, 1, 2], [1 / 3] * 3))
    torch.testing.assert_close(aligned["l.lora_A"], torch.tensor([[4.0, 0.0]]))


@both_weightings
@pytest.mark.parametrize(("tau", "k"), [(0.0, 1e-6), (0.5, 10.0), (0.25, 1e-5)])
def test_sand_mask(student, batch, tau, k, weighting):
    found = take_step(GradientAligner(student, "sand_mask", tau=tau, k=k, domain_weighting=weighting), student, batch)
    by_domain = gradients_by_domain(student, batch)
    mean = summed(shares(batch, weighting), by_domain)
    smooth = 0
    for name in found:
        grads = torch.stack([g[name] for g in by_domain])
        agreement = torch.sign(grads).mean(dim=0).abs()
        mask = torch.tanh(k * grads.var(dim=0).pow(-1) * (agreement - tau))
        mask = torch.max(mask, torch.zeros_like(mask))
        smooth += int(((mask > 0.01) & (mask < 0.99)).sum())
        expected = mask * mean[name] / (1e-10 + mask.sum() / mask.numel())
        torch.testing.assert_close(found[name], expected, rtol=1e-7, atol=1e-14)
    assert (smooth > 0) == (k < 1.0), "a small k must exercise the tanh"


@pytest.mark.parametrize("domains", [3, 4])
def test_with_three_or_four_domains_the_default_sand_mask_is_the_default_and_mask(domains):
    generator = torch.Generator().manual_seed(domains)
    gradients = {"layer.lora_A": 1e-3 * torch.randn(domains, 8, 16, generator=generator, dtype=torch.float64)}
    window = Window(list(range(domains)), [1 / domains] * domains)
    (smooth, _), (hard, _) = (METHODS[name]().align_factors(gradients, window) for name in ("sand_mask", "and_mask"))
    # Of three domains two agree to a third of it all, which is below the threshold of a half; of four, three to a half.
    torch.testing.assert_close(smooth["layer.lora_A"], hard["layer.lora_A"], rtol=1e-6, atol=0.0)


@both_weightings
def test_gsnr_over_three_steps(student, weighting):
    decay = 0.7
    aligner = GradientAligner(student, "gsnr", statistics_decay=decay, domain_weighting=weighting)
    means: dict[str, torch.Tensor] = {}
    variances: dict[str, torch.Tensor] = {}
    for step in range(3):
        batch = make_batch(seed=step)
        found = take_step(aligner, student, batch)
        by_domain, w = gradients_by_domain(student, batch), shares(batch, weighting)
        mean = summed(w, by_domain)
        for name in found:
            variance = sum(x * (g[name] - mean[name]) ** 2 for x, g in zip(w, by_domain, strict=True))
            means[name] = decay * means.get(name, 0.0) + (1 - decay) * mean[name]
            variances[name] = decay * variances.get(name, 0.0) + (1 - decay) * variance
            correction = 1 - decay ** (step + 1)
            ratio = (means[name] / correction) ** 2 / (variances[name] / correction)
            torch.testing.assert_close(found[name], ratio / (1 + ratio) * mean[name], rtol=1e-7, atol=1e-14)
        move(student, found)


# The inter-gradient penalty


def koyama_by_double_backward(losses: list[torch.Tensor], w: list[float], weight: float, model: nn.Module):
    """DomainBed's rule (called IGA there) on weighted means: the mean gradient is detached."""
    by_domain = [gradient(loss, model, create_graph=True) for loss in losses]
    mean = {name: g.detach() for name, g in summed(w, by_domain).items()}
    penalty = sum((g[name] - mean[name]).pow(2).sum() for g in by_domain for name in mean)
    return gradient(sum(x * loss for x, loss in zip(w, losses, strict=True)) + weight * penalty, model)


@both_weightings
@pytest.mark.parametrize("weight", [0.0, 1.0, 1000.0])
def test_koyama_equals_double_backward(student, batch, weight, weighting):
    start = {name: p.detach().clone() for name, p in factors(student).items()}
    aligner = GradientAligner(student, "koyama", penalty_weight=weight, domain_weighting=weighting)
    found = take_step(aligner, student, batch)
    expected = koyama_by_double_backward(domain_losses(student, batch), shares(batch, weighting), weight, student)
    assert relative_error(found, expected) < (1e-10 if weight == 0.0 else 1e-5)
    assert all(torch.equal(p, start[name]) for name, p in factors(student).items()), "the parameters come back exactly"


def test_koyamas_error_falls_with_the_square_of_delta(student, batch):
    expected = koyama_by_double_backward(domain_losses(student, batch), shares(batch), 1.0, student)
    coarse, fine = (
        relative_error(
            take_step(GradientAligner(student, "koyama", penalty_weight=1.0, delta=d), student, batch), expected
        )
        for d in (1e-3, 1e-4)
    )
    assert 90 < coarse / fine < 110


def test_koyama_on_a_llama_equals_double_backward():
    model = tiny_llama(torch.float64)
    model.base_model.model.set_attn_implementation("eager")
    for module in list(model.modules()):
        # Llama's own norm rounds to fp32 inside, which a difference would feel.
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                setattr(
                    module, name, nn.RMSNorm(32, eps=child.variance_epsilon, dtype=torch.float64).requires_grad_(False)
                )
    batch = make_batch((0, 1, 2, 0))

    def loss_of_domain(domain: int) -> torch.Tensor:
        part = batch.rows(batch.domains == domain)
        logits = model(input_ids=part.ids, attention_mask=part.attention).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), part.labels[:, 1:].flatten(), ignore_index=-100)

    aligner = GradientAligner(model, "koyama", penalty_weight=10.0)
    with aligner.record(batch.domains, batch.items):
        pass
    aligner.step(lambda domain: loss_of_domain(domain).backward())
    found = {name: p.grad.clone() for name, p in factors(model).items()}
    expected = koyama_by_double_backward([loss_of_domain(d) for d in range(3)], shares(batch), 10.0, model)
    # Attention's softmax rounds to fp32 inside, which a difference divides by its length.
    assert relative_error(found, expected) < 1e-3


def test_the_reference_losses_are_the_batch_split_by_domain(student, batch):
    losses = domain_losses(student, batch)
    together = sum(w * loss for w, loss in zip(shares(batch), losses, strict=True))
    torch.testing.assert_close(together, mean_loss(student, batch))
    assert bool((token_losses(student, batch).detach() > 0).sum() == batch.total)
