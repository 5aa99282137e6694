from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.gradients import conflict, conflict_mask, conflict_share, domain_moments
from isodistill.gradients.mask import NORMALIZATIONS

SCALE_FREE = ["relative", "bounded", "layer_mean"]
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
domain_counts = st.integers(2, 6)


def draw(seed: int, domains: int, shape: tuple[int, ...] = (5, 7)) -> tuple[torch.Tensor, list[float]]:
    """K gradients whose entries span six orders of magnitude, and unequal weights of sum 1."""
    rng = np.random.default_rng(seed)
    magnitude = 10.0 ** rng.uniform(-6, 0, shape)
    gradients = rng.normal(size=(domains, *shape)) * magnitude + magnitude * rng.normal(size=shape)
    weights = rng.uniform(0.2, 1.0, domains)
    return torch.from_numpy(gradients), (weights / weights.sum()).tolist()


def reference_moments(gradients: torch.Tensor, weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
    g, w = gradients.double().numpy(), np.asarray(weights)
    mean = np.tensordot(w, g, axes=1)
    return mean, np.tensordot(w, (g - mean) ** 2, axes=1)


def reference_conflict(mean: np.ndarray, variance: np.ndarray, normalization: str) -> np.ndarray:
    eps = 1e-12 * np.mean(mean**2)
    return {
        "raw": lambda: variance,
        "relative": lambda: variance / (mean**2 + eps),
        "bounded": lambda: variance / (variance + mean**2 + eps),
        "layer_mean": lambda: variance / variance.mean(),
    }[normalization]()


@quick
@given(seeds, domain_counts, st.sampled_from([(torch.float64, 1e-10), (torch.float32, 1e-4)]))
def test_moments_equal_two_pass_reference(seed, domains, precision):
    dtype, tolerance = precision
    gradients, weights = draw(seed, domains)
    before = gradients.to(dtype)
    given_gradients = before.clone()
    moments = domain_moments(iter(given_gradients), weights)
    mean, variance = reference_moments(before, weights)
    size = np.abs(before.double().numpy()).max(axis=0)
    assert moments.mean.dtype == dtype
    assert np.all(np.abs(moments.mean.double().numpy() - mean) <= tolerance * size)
    assert np.all(np.abs(moments.variance.double().numpy() - variance) <= tolerance * size**2)
    assert torch.equal(given_gradients, before), "the inputs must not be modified"


def test_unequal_weights_by_hand():
    moments = domain_moments([torch.tensor([0.0]), torch.tensor([4.0])], [0.25, 0.75])
    assert moments.mean.item() == pytest.approx(3.0)
    assert moments.variance.item() == pytest.approx(0.25 * 9 + 0.75 * 1)


def test_moments_need_a_domain_and_matching_weights():
    with pytest.raises(ValueError, match="at least one domain"):
        domain_moments([], [])
    with pytest.raises(ValueError, match="zip"):
        domain_moments([torch.zeros(2)], [0.5, 0.5])


@quick
@given(seeds, domain_counts, st.sampled_from(NORMALIZATIONS), st.floats(0.01, 5.0))
def test_mask_equals_reference(seed, domains, normalization, tau):
    gradients, weights = draw(seed, domains)
    moments = domain_moments(gradients, weights)
    mask = conflict_mask(moments.mean, moments.variance, tau, normalization).numpy()
    mean, variance = reference_moments(gradients, weights)
    z = reference_conflict(mean, variance, normalization)
    np.testing.assert_allclose(
        conflict(moments.mean, moments.variance, normalization).numpy(), z, rtol=1e-6, atol=1e-14
    )
    np.testing.assert_allclose(mask, np.exp(-tau * z), rtol=1e-4, atol=1e-12)


@quick
@given(seeds, domain_counts, st.sampled_from(NORMALIZATIONS), st.floats(0.0, 1e6))
def test_mask_is_in_half_open_unit_interval_and_never_grows_the_norm(seed, domains, normalization, tau):
    gradients, weights = draw(seed, domains)
    for dtype in (torch.float32, torch.float64):
        moments = domain_moments(gradients.to(dtype), weights)
        mask = conflict_mask(moments.mean, moments.variance, tau, normalization)
        assert torch.all(mask > 0)
        assert torch.all(mask <= 1)
        assert (mask * moments.mean).norm() <= moments.mean.norm()


@quick
@given(seeds, st.sampled_from(["relative", "bounded", "raw"]), st.floats(0.01, 10.0))
def test_mask_does_not_increase_with_variance(seed, normalization, tau):
    gradients, weights = draw(seed, 4)
    moments = domain_moments(gradients, weights)
    growth = 1 + torch.rand(moments.variance.shape, generator=torch.Generator().manual_seed(seed))
    less = conflict_mask(moments.mean, moments.variance, tau, normalization)
    more = conflict_mask(moments.mean, moments.variance * growth, tau, normalization)
    assert torch.all(more <= less)
    assert torch.any(more < less)


def test_layer_mean_orders_entries_by_variance():
    variance = torch.linspace(0, 5, 11)
    mask = conflict_mask(torch.ones(11), variance, 1.0, "layer_mean")
    assert torch.all(mask.diff() < 0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_tau_zero_gives_ones_exactly(normalization):
    moments = domain_moments(*draw(1, 4))
    assert torch.equal(conflict_mask(moments.mean, moments.variance, 0.0, normalization), torch.ones(5, 7))


@quick
@given(seeds, domain_counts, st.sampled_from(SCALE_FREE), st.floats(-3, 3))
def test_scale_free_masks_ignore_the_loss_scale(seed, domains, normalization, exponent):
    gradients, weights = draw(seed, domains)
    moments = domain_moments(gradients, weights)
    scaled = domain_moments(gradients * 10.0**exponent, weights)
    expected = conflict_mask(moments.mean, moments.variance, 1.0, normalization)
    torch.testing.assert_close(
        conflict_mask(scaled.mean, scaled.variance, 1.0, normalization), expected, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_raw_mask_changes_with_the_loss_scale(scale):
    gradients, weights = draw(3, 4)
    moments, scaled = domain_moments(gradients, weights), domain_moments(gradients * scale, weights)
    expected = conflict_mask(moments.mean, moments.variance, 1.0, "raw")
    assert (conflict_mask(scaled.mean, scaled.variance, 1.0, "raw") - expected).abs().max() > 0.1


@quick
@given(seeds, domain_counts, st.sampled_from(NORMALIZATIONS), st.sampled_from([torch.float32, torch.float64]))
def test_identical_domains_have_no_variance_and_an_open_mask(seed, domains, normalization, dtype):
    gradients, weights = draw(seed, domains)
    same = gradients[0].to(dtype)
    moments = domain_moments([same] * domains, weights)
    assert torch.equal(moments.variance, torch.zeros_like(same))
    assert torch.equal(moments.mean, same)
    assert torch.equal(conflict_mask(moments.mean, moments.variance, 3.0, normalization), torch.ones_like(same))


def test_zero_gradient_keeps_the_mask_open_and_finite():
    for normalization in NORMALIZATIONS:
        assert torch.equal(conflict_mask(torch.zeros(3), torch.zeros(3), 3.0, normalization), torch.ones(3))


@pytest.mark.parametrize("domains", [2, 3, 4, 8])
def test_entry_of_one_domain_has_conflict_k_minus_one(domains):
    gradients = torch.zeros(domains, 2, dtype=torch.float64)
    gradients[domains // 2, 0] = 0.37
    gradients[:, 1] = 1.0
    moments = domain_moments(gradients, [1 / domains] * domains)
    z = conflict(moments.mean, moments.variance)
    assert z[0].item() == pytest.approx(domains - 1, rel=1e-9)
    assert z[1].item() == 0.0
    bounded = conflict(moments.mean, moments.variance, "bounded")
    assert bounded[0].item() == pytest.approx((domains - 1) / domains, rel=1e-9)


@quick
@given(seeds, domain_counts, st.randoms(use_true_random=False))
def test_order_of_the_domains_changes_nothing(seed, domains, random):
    gradients, weights = draw(seed, domains)
    order = random.sample(range(domains), domains)
    first = domain_moments(gradients, weights)
    second = domain_moments(gradients[order], [weights[i] for i in order])
    torch.testing.assert_close(second.mean, first.mean, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(second.variance, first.variance, rtol=1e-9, atol=1e-16)


def test_conflict_share_by_hand():
    assert conflict_share(variance=5.0, mean_energy=5.0) == pytest.approx(0.5)
    assert conflict_share(0.0, 0.0) == 0.0


def test_unknown_normalization_is_refused():
    with pytest.raises(IsodistillError, match="conflict_normalization='wild'"):
        conflict(torch.ones(2), torch.ones(2), "wild")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_overwhelming_conflict_leaves_a_normal_number(dtype: torch.dtype) -> None:
    mean, variance = torch.ones(4, dtype=dtype), torch.tensor([30.0, 1e3, 1e6, 1e30], dtype=dtype)
    mask = conflict_mask(mean, variance, 3.0)
    torch.testing.assert_close(
        mask[0], torch.exp(torch.tensor(-90.0, dtype=dtype)).clamp_min(mask[3]), rtol=1e-4, atol=0
    )
    tiny = torch.finfo(dtype).tiny
    assert bool((mask[1:] >= tiny).all()), "not a subnormal number"
    assert bool((mask[1:] < 1.001 * tiny).all())
