"""The filter on input directions: what it keeps, what it damps, and its invariants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients.inputs import Estimator, InputConflict, direction_filter

torch.set_num_threads(1)


def moments(domains: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rows = torch.randn(domains, 3 * size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return rows.transpose(1, 2) @ rows


def test_a_direction_that_one_domain_uses_is_damped_and_a_shared_one_kept() -> None:
    # In a rotated basis: no entry of the gradient is any domain's own.
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    shared, own = turn[0], turn[1:5]
    used = torch.stack([torch.outer(shared, shared) + torch.outer(each, each) for each in own])
    matrix, mask = direction_filter(used, tau=3.0, shrinkage=0.01)
    kept = torch.stack([torch.dot(each @ matrix, each) for each in turn])
    assert kept[0] > 0.95
    assert kept[1:5].max() < 0.01
    assert kept[5:].min() > 0.95, "directions that nobody uses are no conflict"
    assert float(mask.min()) == pytest.approx(torch.exp(torch.tensor(-9.0)), rel=1.0)


def test_the_conflict_of_one_domains_direction_is_the_number_of_domains_less_one() -> None:
    for domains in (2, 4, 6):
        used = torch.stack([torch.diag(torch.eye(8, dtype=torch.float64)[d]) for d in range(domains)])
        _, mask = direction_filter(used, tau=1.0, shrinkage=1e-6)
        assert -mask.log().min() == pytest.approx(domains - 1, rel=1e-3)


def test_no_temperature_one_domain_or_equal_domains_leave_the_gradient() -> None:
    several = moments(4, 6)
    assert torch.equal(direction_filter(several, 0.0)[0], torch.eye(6, dtype=torch.float64))
    assert torch.equal(direction_filter(several[:1], 3.0)[0], torch.eye(6, dtype=torch.float64))
    alike = several[:1].expand(4, -1, -1)
    assert torch.allclose(direction_filter(alike, 3.0)[0], torch.eye(6, dtype=torch.float64), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), domains=st.integers(2, 6), scale=st.floats(1e-6, 1e6))
def test_order_and_scale_do_not_matter_and_the_mask_is_a_mask(seed: int, domains: int, scale: float) -> None:
    drawn = moments(domains, 5, seed)
    matrix, mask = direction_filter(drawn, 2.0)
    assert 0.0 < float(mask.min()) <= float(mask.max()) <= 1.0
    turned = direction_filter(drawn.flip(0), 2.0)[0]
    scaled = direction_filter(drawn * scale, 2.0)[0]
    single = direction_filter(drawn.float(), 2.0)[0].double()
    assert torch.allclose(matrix, turned, atol=1e-9)
    assert torch.allclose(matrix, scaled, atol=1e-7)
    assert torch.allclose(matrix, single, atol=1e-3)


@pytest.mark.parametrize("estimator", ["plain", "split", "cross"])
def test_averages_run_and_filters_serve_until_they_are_refreshed_or_loaded(estimator: Estimator) -> None:
    gradients = torch.randn(30, 3, 7, 5, generator=torch.Generator().manual_seed(3))
    conflict, other = (InputConflict(0.9, refresh=4, estimator=estimator) for _ in range(2))
    seen = []
    for step, by_domain in enumerate(gradients):
        if step == 17:  # in between two refreshes
            other.load_state_dict(conflict.state_dict())
        for each in (conflict,) if step < 17 else (conflict, other):
            for domain, gradient in enumerate(by_domain):
                each.add("layer", domain, gradient)
        seen.append(conflict.filter("layer", 1.0)[0])
        if step >= 17:
            assert torch.equal(seen[-1], other.filter("layer", 1.0)[0])
    assert torch.equal(seen[9], seen[11])
    assert not torch.equal(seen[11], seen[12])
    expected = gradients[0, 0].T @ gradients[0, 0]
    for by_domain in gradients[1:] if estimator == "plain" else gradients[2::2]:
        expected = 0.9 * expected + 0.1 * by_domain[0].T @ by_domain[0]
    assert torch.allclose(conflict.state_dict()["moment/0.0/layer"], expected, rtol=1e-4)


def noisy(own: float, samples: int, seed: int) -> torch.Tensor:
    """Moments of two halves of samples of 12 directions, of which the first four are each one domain's own."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 4, samples, 12, generator=generator, dtype=torch.float64)
    for domain in range(4):
        rows[:, domain, :, domain] *= 1.0 + own
    return rows.transpose(-1, -2) @ rows / samples


def test_halves_tell_noise_from_conflict() -> None:
    for seed in range(5):
        alike = noisy(0.0, 15, seed)
        plain, split = direction_filter(alike.mean(0), 3.0)[1], direction_filter(alike, 3.0)[1]
        assert float(plain.mean()) < 0.7
        assert float(split.mean()) > 0.95, "noise does not damp what no domain has of its own"
        matrix, _ = direction_filter(noisy(8.0, 15, seed), 3.0)
        kept = matrix.diagonal()
        assert float(kept[:4].max()) < 0.2, "a domain's own directions are damped all the same"
        assert float(kept[4:].mean()) > 0.5


def test_without_a_floor_a_conflict_no_larger_than_noise_is_seen_over_many_draws() -> None:
    """Noise has no sign: what it adds on the domains' own directions averages out, and the floor takes them whole."""
    shut: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for seed in range(40):
        for floor, seen in shut.items():
            matrix, _ = direction_filter(noisy(1.0, 15, seed), 3.0, floor=floor)
            seen.append(matrix.diagonal()[:4].mean() - matrix.diagonal()[4:].mean())
    with_floor, without = (float(torch.stack(shut[floor]).mean()) for floor in (True, False))
    assert without < with_floor - 0.1, "the floor loses a conflict of that size"
    assert without < -0.2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), domains=st.integers(2, 6))
def test_the_floor_only_ever_opens_the_mask(seed: int, domains: int) -> None:
    halves = torch.stack([moments(domains, 5, seed), moments(domains, 5, seed + 1)])
    with_floor, without = direction_filter(halves, 2.0)[1], direction_filter(halves, 2.0, floor=False)[1]
    assert (with_floor >= without - 1e-12).all()


def test_equal_halves_with_enough_samples_are_the_plain_filter() -> None:
    several = moments(4, 6)
    plain = direction_filter(several, 2.0)
    split = direction_filter(torch.stack([several, several]), 2.0)
    torch.testing.assert_close(split[0], plain[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(split[1], plain[1], rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), domains=st.integers(2, 6), scale=st.floats(1e-6, 1e6))
def test_the_order_of_halves_and_domains_and_the_scale_do_not_matter(seed: int, domains: int, scale: float) -> None:
    halves = torch.stack([moments(domains, 5, seed), moments(domains, 5, seed + 1)])
    matrix, mask = direction_filter(halves, 2.0)
    assert 0.0 < float(mask.min()) <= float(mask.max()) <= 1.0
    for other in (halves.flip(0), halves.flip(1), halves * scale):
        torch.testing.assert_close(direction_filter(other, 2.0)[0], matrix, rtol=1e-6, atol=1e-7)


def test_a_domain_that_one_half_has_not_seen_is_left_out_or_all_halves_are_one() -> None:
    gradients = torch.randn(4, 3, 7, 5, generator=torch.Generator().manual_seed(4))
    conflict = InputConflict(0.5, estimator="split")
    conflict.add("layer", 0, gradients[0, 0])
    conflict.add("layer", 1, gradients[0, 1])
    first = conflict.filter("layer", 1.0)[0]  # the other half has seen nothing yet
    together = torch.stack([each.T @ each for each in gradients[0, :2]])
    assert torch.allclose(first, direction_filter(together, 1.0)[0], atol=1e-5)
    for domain in range(3):
        conflict.add("layer", domain, gradients[1, domain])
    second = conflict.filter("layer", 1.0)[0]  # domain 2 is in one half only
    halves = torch.stack([together, torch.stack([each.T @ each for each in gradients[1, :2]])])
    assert torch.allclose(second, direction_filter(halves, 1.0)[0], atol=1e-5)
