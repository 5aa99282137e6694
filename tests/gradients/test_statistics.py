from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients import DomainMoments, RunningMoments


def sequence(seed: int, steps: int) -> list[DomainMoments]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(steps)]
    return [DomainMoments(pair[0], pair[1].square()) for pair in draw]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.99), st.integers(1, 12))
def test_averages_equal_the_normalised_weighted_sum(seed, decay, steps):
    moments = sequence(seed, steps)
    running = RunningMoments(decay)
    for step, current in enumerate(moments, start=1):
        found = running.update("layer", current)
        weights = torch.tensor([decay ** (step - i) for i in range(1, step + 1)], dtype=torch.float64)
        weights /= weights.sum()
        for field in ("mean", "variance"):
            past = torch.stack([getattr(m, field) for m in moments[:step]])
            torch.testing.assert_close(getattr(found, field), torch.tensordot(weights, past, dims=1))


def test_decay_zero_passes_through_and_stores_nothing():
    running = RunningMoments(0.0)
    current = sequence(0, 1)[0]
    assert running.update("layer", current) is current
    assert running.state_dict() == {}


def test_names_are_independent_and_inputs_stay_unmodified():
    first, second = sequence(1, 2)
    copies = [DomainMoments(m.mean.clone(), m.variance.clone()) for m in (first, second)]
    running = RunningMoments(0.9)
    running.update("a", first)
    found = running.update("b", second)
    torch.testing.assert_close(found.mean, second.mean)
    for original, copy in zip((first, second), copies, strict=True):
        assert torch.equal(original.mean, copy.mean)
        assert torch.equal(original.variance, copy.variance)


def test_state_round_trip_continues_bit_identically():
    moments = sequence(2, 6)
    running = RunningMoments(0.8)
    for current in moments[:3]:
        running.update("model.layers.0.mlp.up_proj", current)
    other = RunningMoments(0.8)
    other.load_state_dict(running.state_dict())
    for current in moments[3:]:
        a, b = (r.update("model.layers.0.mlp.up_proj", current) for r in (running, other))
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.variance, b.variance)


def test_identical_domains_stay_at_zero_variance():
    running = RunningMoments(0.9)
    for current in sequence(3, 4):
        found = running.update("layer", DomainMoments(current.mean, torch.zeros_like(current.variance)))
        assert torch.equal(found.variance, torch.zeros_like(found.variance))


def test_loaded_state_follows_the_gradient_device():
    running = RunningMoments(0.9)
    running.update("layer", sequence(4, 1)[0])
    other = RunningMoments(0.9)
    other.load_state_dict(running.state_dict())
    meta = DomainMoments(*(torch.zeros(3, 4, dtype=torch.float64, device="meta") for _ in range(2)))
    found = other.update("layer", meta)
    assert found.mean.device.type == "meta"
    assert found.mean.shape == (3, 4)
