"""The filter on input directions: what it keeps, what it damps, and its invariants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients.inputs import InputConflict, direction_filter

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


def test_averages_run_and_filters_serve_until_they_are_refreshed_or_loaded() -> None:
    gradients = torch.randn(30, 3, 7, 5, generator=torch.Generator().manual_seed(3))
    conflict, other = InputConflict(0.9, refresh=4), InputConflict(0.9, refresh=4)
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
    for by_domain in gradients[1:]:
        expected = 0.9 * expected + 0.1 * by_domain[0].T @ by_domain[0]
    assert torch.allclose(conflict.state_dict()["moment/0/layer"], expected, rtol=1e-4)
