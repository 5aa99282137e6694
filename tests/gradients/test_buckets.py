"""Factors side by side: the same numbers as one by one, whatever comes together in a bucket."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients import DomainMoments, GradientStack, RunningMoments, conflict_mask, domain_moments
from isodistill.gradients import buckets as module
from isodistill.gradients.buckets import FactorGradients, Segments, buckets_of, pack
from isodistill.gradients.mask import NORMALIZATIONS

quick = settings(max_examples=25, deadline=None)
SHAPES = {"a.lora_A": (3, 6), "a.lora_B": (5, 3), "b.lora_A": (1, 1), "b.lora_B": (4, 2), "c.lora_A": (7, 9)}


def draw(seed: int, domains: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Of very different sizes, so that a mean over a neighbour too would show.
    return {
        name: torch.randn(domains, *shape, generator=generator) * 10.0 ** (2 - 2 * place)
        for place, (name, shape) in enumerate(SHAPES.items())
    }


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**31))
def test_sums_means_and_spread_of_segments(sizes: list[int], seed: int) -> None:
    flat = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    segments = Segments(sizes)
    pieces = flat.split(sizes)
    torch.testing.assert_close(segments.sums(flat), torch.stack([piece.sum() for piece in pieces]))
    torch.testing.assert_close(segments.means(flat), torch.stack([piece.mean() for piece in pieces]))
    values = torch.arange(1.0, len(sizes) + 1)
    spread = segments.spread(values).expand(sum(sizes))
    assert torch.equal(spread, torch.cat([value.expand(size) for value, size in zip(values, sizes, strict=True)]))


def test_what_other_devices_run_gives_the_same_sums() -> None:
    sizes, flat = [3, 1, 5], torch.arange(9.0)
    found = torch.segment_reduce(flat, "sum", lengths=Segments(sizes).lengths(flat))
    assert torch.equal(found, Segments(sizes).sums(flat))


@pytest.mark.parametrize("limit", [1, 20, 40, 1000])
def test_packing_keeps_order_shape_and_value(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(module, "_CPU_ENTRIES", limit)
    gradients = draw(0)
    packed = pack(gradients.items())
    assert list(packed) == list(gradients)
    assert all(torch.equal(packed[name], gradient) for name, gradient in gradients.items())
    assert all(len(bucket.names) == 1 or bucket.values.shape[1] <= limit for bucket in packed.buckets)
    assert len(packed.buckets) == {1: 5, 20: 4, 40: 3, 1000: 1}[limit]
    assert buckets_of(packed) is packed.buckets
    packed.buckets[0].values.zero_()
    assert not packed["a.lora_A"].any(), "the tensors are views of the buckets"
    assert gradients["a.lora_A"].any(), "and copies of what was packed"


def test_a_bucket_holds_one_dtype() -> None:
    gradients = draw(0)
    gradients["b.lora_A"] = gradients["b.lora_A"].double()
    packed = pack(gradients.items())
    assert [bucket.values.dtype for bucket in packed.buckets] == [torch.float32, torch.float64, torch.float32]
    assert isinstance(packed, FactorGradients)
    assert len(pack([])) == 0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_mask_of_a_bucket_is_that_of_each_factor(normalization, decay: float) -> None:
    together, apart = RunningMoments(decay), RunningMoments(decay)
    weights = [0.2, 0.3, 0.5]
    for step in range(3):
        gradients = draw(step)
        if step == 1:  # a layer that did not run: fewer steps behind it, and other buckets from then on
            del gradients["b.lora_A"], gradients["b.lora_B"]
        (bucket,) = buckets_of(gradients)
        moments = domain_moments(bucket.values.unbind(0), weights)
        averages, correction = together.advance(bucket.names, bucket.shapes, moments)
        mask = conflict_mask(
            averages.mean,
            averages.variance,
            1.5,
            normalization,
            correction=correction,
            segments=bucket.segments,
        )
        for name, found in bucket.views(mask).items():
            alone = apart.update(name, domain_moments(gradients[name].unbind(0), weights))
            expected = conflict_mask(alone.mean, alone.variance, 1.5, normalization)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    states = together.state_dict(), apart.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[1].items():
        torch.testing.assert_close(states[0][key], tensor, rtol=1e-6, atol=0.0)
        assert states[0][key].shape == tensor.shape


def test_averages_saved_one_by_one_go_on_in_a_bucket() -> None:
    alone = RunningMoments(0.8)
    first, second = draw(0), draw(1)
    for name, stack in first.items():
        alone.update(name, domain_moments(stack.unbind(0), [1 / 3] * 3))
    together = RunningMoments(0.8)
    together.load_state_dict(alone.state_dict())
    (bucket,) = buckets_of(second)
    moments = domain_moments(bucket.values.unbind(0), [1 / 3] * 3)
    averages, correction = together.advance(bucket.names, bucket.shapes, moments)
    for name, found in bucket.views(averages.mean / correction).items():
        expected = alone.update(name, domain_moments(second[name].unbind(0), [1 / 3] * 3))
        torch.testing.assert_close(found, expected.mean)


def test_identical_domains_in_a_bucket_are_never_masked() -> None:
    gradients = {name: stack[:1].repeat(4, 1, 1) for name, stack in draw(2).items()}
    (bucket,) = buckets_of(gradients)
    moments = domain_moments(bucket.values.unbind(0), [0.1, 0.2, 0.3, 0.4])
    averages, correction = RunningMoments(0.9).advance(bucket.names, bucket.shapes, moments)
    assert isinstance(averages, DomainMoments)
    mask = conflict_mask(averages.mean, averages.variance, 3.0, correction=correction, segments=bucket.segments)
    assert torch.equal(mask, torch.ones_like(mask))


def test_the_stack_adds_up_whichever_domains_a_block_brings() -> None:
    class Layer:
        name = "l"

    generator = torch.Generator().manual_seed(0)
    stack, expected = GradientStack("factor"), torch.zeros(4, 2, 3)
    for domains, scale in (([0, 2], 1.0), ([0, 2], 0.5), ([1, 2], 2.0), ([0], 1.0)):
        gradients = torch.randn(len(domains), 2, 3, generator=generator)
        kept = gradients.clone()
        stack.add_factor(Layer(), "lora_A", gradients, domains, scale)  # type: ignore[arg-type]
        assert torch.equal(gradients, kept)
        expected[domains] += scale * gradients
    assert stack.names() == ["l.lora_A"]
    torch.testing.assert_close(stack.stacked("l.lora_A", [0, 1, 2, 3]), expected)
    torch.testing.assert_close(stack.stacked("l.lora_A", [2, 1]), expected[[2, 1]])
    stack.clear()
    assert stack.names() == []
