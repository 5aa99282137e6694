"""The rate's measurement: gradients against autograd, the fit on a known law, and what must coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isodistill.gradients.projection import exact_truncated_svd
from isodistill.theory import Problem, fit_rate, measure_rates
from isodistill.theory.convergence import truncate, weight_gradients

SMALL = Problem(domains=3, outputs=4, inputs=5, rank=2, samples=12, batch=2)


def test_the_gradients_are_those_of_the_loss() -> None:
    x, y = SMALL.data()
    W = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = weight_gradients(W, x.expand(2, *x.shape), y.expand(2, *y.shape))
    for seed in range(2):
        for domain in range(3):
            free = W[seed].clone().requires_grad_()
            residual = x[domain] @ free.T - y[domain]
            (residual.square() / (1 + residual.square())).mean().backward()
            torch.testing.assert_close(found[seed, domain], free.grad, rtol=1e-10, atol=1e-12)


def test_truncation_is_the_library_s_own() -> None:
    matrices = torch.randn(3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for matrix, found in zip(matrices, truncate(matrices, 2), strict=True):
        torch.testing.assert_close(found, exact_truncated_svd(matrix, 2).matrix())


@pytest.mark.parametrize("slope", [-0.5, -1.0, 0.0])
def test_the_fit_finds_a_known_law(slope: float) -> None:
    steps = [64, 128, 256, 512]
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=(4, 6)))
    found, low, high = fit_rate(steps, 3.0 * np.array(steps)[:, None] ** slope * noise)
    assert low <= found <= high
    assert found == pytest.approx(slope, abs=0.06)


def test_without_temperature_the_mask_is_sgd_and_the_same_seed_the_same_run() -> None:
    steps = (8, 16)
    plain, masked, cut = measure_rates(SMALL, steps, seeds=2, tau=0.0)
    assert plain.followed == plain.gradient == masked.followed
    again = measure_rates(SMALL, steps, seeds=2, tau=0.0)[2]
    assert cut.followed == again.followed
    sharp = measure_rates(SMALL, steps, seeds=2, tau=3.0, directions=("mask",))[0]
    # The pull-back of a masked matrix may be longer than that of the whole one, so only a difference can be asked for.
    assert sharp.followed != sharp.gradient
