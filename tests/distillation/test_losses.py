"""Losses against sums written out in float64, and against TRL's."""

from __future__ import annotations

import math

import pytest
import torch
from trl.experimental.gkd import GKDTrainer

from isodistill.distillation import (
    DIVERGENCES,
    TeacherTokens,
    distillation_loss,
    domain_means,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)
from isodistill.errors import IsodistillError

N, V = 7, 23


def distributions(seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(N, V, generator=generator, dtype=torch.float64) * scale for _ in range(2))
    return teacher.log_softmax(-1), student


def top(logprobs: torch.Tensor, k: int) -> TeacherTokens:
    values, ids = logprobs.topk(k, dim=-1)
    return TeacherTokens(ids, values)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def coarse(probabilities: torch.Tensor, ids: torch.Tensor) -> list[float]:
    known = [float(probabilities[i]) for i in ids]
    others = [float(x) for i, x in enumerate(probabilities) if i not in set(ids.tolist())]
    return [*known, sum(others)] if others else known


@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_divergences_equal_sums_written_out(k: int) -> None:
    teacher, student = distributions()
    tokens = top(teacher, k)
    for row in range(N):
        p, q = coarse(teacher[row].exp(), tokens.ids[row]), coarse(student[row].softmax(-1), tokens.ids[row])
        m = [0.3 * a + 0.7 * b for a, b in zip(p, q, strict=True)]
        assert forward_kl(student, tokens)[row].item() == pytest.approx(kl(p, q), abs=1e-9)
        assert reverse_kl(student, tokens)[row].item() == pytest.approx(kl(q, p), abs=1e-9)
        expected = 0.3 * kl(p, m) + 0.7 * kl(q, m)
        assert jensen_shannon(student, tokens, 0.3)[row].item() == pytest.approx(expected, abs=1e-9)


def test_with_the_whole_vocabulary_it_is_the_exact_divergence() -> None:
    teacher, student = distributions()
    tokens = top(teacher, V)
    q = student.log_softmax(-1)
    exact = (teacher.exp() * (teacher - q)).sum(-1)
    torch.testing.assert_close(forward_kl(student, tokens), exact, rtol=1e-12, atol=1e-12)
    exact = (q.exp() * (q - teacher)).sum(-1)
    torch.testing.assert_close(reverse_kl(student, tokens), exact, rtol=1e-12, atol=1e-12)
    # TRL's beta weighs the same mixture.
    ours = jensen_shannon(student, tokens, 0.3).mean()
    labels = torch.zeros(1, N, dtype=torch.long)
    theirs = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], labels, beta=0.3, reduction="batchmean")
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_fewer_tokens_give_a_lower_bound_that_grows() -> None:
    teacher, student = distributions(1)
    for divergence in DIVERGENCES.values():
        values = torch.stack([divergence(student, top(teacher, k)) for k in range(1, V + 1)])
        assert (values >= -1e-12).all()
        assert (values.diff(dim=0) >= -1e-9).all()


def test_equal_distributions_have_no_divergence_and_no_gradient() -> None:
    teacher, _ = distributions(2)
    for k in (3, V):
        for divergence in DIVERGENCES.values():
            student = teacher.clone().requires_grad_()
            loss = divergence(student, top(teacher, k))
            torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-9)
            (gradient,) = torch.autograd.grad(loss.sum(), student)
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", list(DIVERGENCES))
@pytest.mark.parametrize("k", [4, V])
def test_gradients_equal_finite_differences(name: str, k: int) -> None:
    teacher, student = distributions(3)
    tokens = top(teacher, k)
    assert torch.autograd.gradcheck(lambda logits: DIVERGENCES[name](logits, tokens), student.requires_grad_())


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_extreme_and_rounded_inputs_stay_finite(name: str) -> None:
    teacher, student = distributions(4, scale=60.0)
    tokens = top(teacher, 4)
    rounded = TeacherTokens(tokens.ids, tokens.logprobs.to(torch.float16))  # may add up to more than 1
    logits = student.to(torch.bfloat16).requires_grad_()
    loss = DIVERGENCES[name](logits, rounded)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()
    if name == "jsd":
        assert (loss <= math.log(2) + 1e-5).all()


def test_the_mixture_and_its_ends() -> None:
    teacher, student = distributions(5)
    tokens, labels = top(teacher, 6), torch.arange(N)
    entropy = torch.nn.functional.cross_entropy(student, labels, reduction="none")
    torch.testing.assert_close(distillation_loss(student, labels, tokens, weight=0.0), entropy)
    torch.testing.assert_close(distillation_loss(student, labels, tokens, weight=1.0), forward_kl(student, tokens))
    mixed = distillation_loss(student, labels, tokens, reverse_kl, weight=0.25)
    torch.testing.assert_close(mixed, 0.75 * entropy + 0.25 * reverse_kl(student, tokens))


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_an_empty_slot_counts_among_the_others(name: str) -> None:
    """Three tokens in five slots say what three tokens say, whatever ids the empty slots name."""
    teacher, student = distributions(6)
    three = top(teacher, 3)
    for filler in (0, int(three.ids[0, 0])):
        ids = torch.cat([three.ids, torch.full((N, 2), filler)], dim=1)
        logprobs = torch.cat([three.logprobs, torch.full((N, 2), -torch.inf, dtype=torch.float64)], dim=1)
        logits = student.clone().requires_grad_()
        loss = DIVERGENCES[name](logits, TeacherTokens(ids, logprobs))
        torch.testing.assert_close(loss, DIVERGENCES[name](student, three))
        (gradient,) = torch.autograd.grad(loss.sum(), logits, create_graph=True)
        plain = student.clone().requires_grad_()
        (expected,) = torch.autograd.grad(DIVERGENCES[name](plain, three).sum(), plain)
        torch.testing.assert_close(gradient, expected)
        (second,) = torch.autograd.grad(gradient.square().sum(), logits)
        assert second.isfinite().all()


def test_a_place_without_tokens_is_left_to_the_trace() -> None:
    teacher, student = distributions(7)
    tokens = top(teacher, 4)
    logprobs = tokens.logprobs.clone()
    logprobs[2:5] = -torch.inf
    gap = TeacherTokens(tokens.ids, logprobs)
    assert gap.known.tolist() == [True, True, False, False, False, True, True]
    labels, logits = torch.arange(N), student.clone().requires_grad_()
    loss = distillation_loss(logits, labels, gap, reverse_kl, weight=0.8)
    entropy = torch.nn.functional.cross_entropy(student, labels, reduction="none")
    torch.testing.assert_close(loss[2:5], entropy[2:5])
    torch.testing.assert_close(loss[:2], (0.2 * entropy + 0.8 * reverse_kl(student, tokens))[:2])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()
    weights = torch.tensor([0.8, 0.0, 1.0, 1.0, 1.0, 0.5, 0.8], dtype=torch.float64)
    each = distillation_loss(student, labels, gap, reverse_kl, weight=weights)
    torch.testing.assert_close(each[5], 0.5 * entropy[5] + 0.5 * reverse_kl(student, tokens)[5])
    torch.testing.assert_close(each[1], entropy[1])


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_the_temperature_is_that_of_the_softmax(name: str) -> None:
    """With the whole vocabulary; with a part of it, equal distributions still have no divergence."""
    teacher, student = distributions(8)
    soft = DIVERGENCES[name](student, top(teacher, V), temperature=2.5)
    expected = DIVERGENCES[name](student / 2.5, top((teacher / 2.5).log_softmax(-1), V))
    torch.testing.assert_close(soft, expected, rtol=1e-9, atol=1e-12)
    zero = DIVERGENCES[name](teacher, top(teacher, 3), temperature=2.5)
    torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-9)
    logits = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: DIVERGENCES[name](z, top(teacher, 4), temperature=0.7), logits)


def test_domain_means_weigh_every_domain_alike() -> None:
    losses = torch.tensor([1.0, 3.0, 10.0, 2.0], requires_grad=True)
    means = domain_means(losses, torch.tensor([0, 0, 1, 0]), 3)
    torch.testing.assert_close(means, torch.tensor([2.0, 10.0, 0.0]))
    (gradient,) = torch.autograd.grad(means[1], losses)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 0.0, 1.0, 0.0]))


def test_wrong_weights_are_refused() -> None:
    teacher, student = distributions()
    with pytest.raises(IsodistillError, match="beta is 1"):
        jensen_shannon(student, top(teacher, 2), 1.0)
    with pytest.raises(IsodistillError, match=r"weight of the divergence is 1\.5"):
        distillation_loss(student, torch.zeros(N, dtype=torch.long), top(teacher, 2), weight=1.5)
    with pytest.raises(IsodistillError, match=r"temperature of the divergence is 0\.0"):
        distillation_loss(student, torch.zeros(N, dtype=torch.long), top(teacher, 2), temperature=0.0)
