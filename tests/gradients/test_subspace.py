"""The filter of a subspace's directions against the one of all directions, and without forming a gradient."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gradient_helpers import aligned_gradients, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients.lazy import DenseGradient, ScaledGradient, TokenGradient
from isodistill.gradients.subspace import SubspaceConflict
from isodistill.gradients.workspace import Workspace
from isodistill.methods import Window, build_method

WINDOW = Window([0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4])


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer() -> SimpleNamespace:
    return SimpleNamespace(name="l", A=random(1, 3, 8), B=random(2, 6, 3), scaling=2.0)


def steps(rank: int | None, gradients: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    """Aligned gradients step by step; `gradients` is (steps, K, 6, 8)."""
    options = {"tau": 0.7, "statistics_decay": 0.8} | options
    method = build_method("iga", mask_space="directions", direction_rank=rank, **options)
    found = []
    for step in gradients:
        if rank is None:
            aligned = method.align_weight(layer(), (each.clone() for each in step), WINDOW)
        else:
            aligned = method.align_products(layer(), [DenseGradient(each.clone()) for each in step], WINDOW)
        found.append(torch.cat([part.flatten() for part in aligned]))
    return found


@pytest.mark.parametrize("estimator", ["plain", "split", "cross"])
def test_a_subspace_of_all_directions_is_the_filter_of_all_directions(estimator) -> None:
    gradients = random(3, 17, 4, 6, 8) + 2.0 * random(4, 1, 1, 6, 8)
    options = {"conflict_estimator": estimator}
    for ours, whole in zip(steps(8, gradients, **options), steps(None, gradients, **options), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-7, atol=1e-9)


def test_a_few_directions_are_enough_where_the_gradients_use_no_more() -> None:
    into, out = torch.linalg.qr(random(5, 8, 3)).Q, torch.linalg.qr(random(6, 6, 3)).Q
    gradients = out @ random(7, 17, 4, 3, 3) @ into.T
    for ours, whole in zip(steps(3, gradients), steps(None, gradients), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-6, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 8), scale=st.floats(1e-4, 1e4))
def test_no_temperature_order_and_scale(seed: int, rank: int, scale: float) -> None:
    gradients = random(seed, 3, 4, 6, 8)
    mean = sum(weight * each for weight, each in zip(WINDOW.weights, gradients[-1], strict=True))
    plain = torch.cat([(2.0 * layer().B.T @ mean).flatten(), (2.0 * mean @ layer().A.T).flatten()])
    torch.testing.assert_close(steps(8, gradients, tau=0.0)[-1], plain)
    same = gradients[:, :1].expand(-1, 4, -1, -1)
    torch.testing.assert_close(steps(rank, same)[-1], steps(rank, same, tau=0.0)[-1], rtol=1e-6, atol=1e-8)
    once = steps(rank, gradients)[-1]
    torch.testing.assert_close(steps(rank, scale * gradients)[-1] / scale, once, rtol=1e-6, atol=1e-8)


def test_the_basis_stays_orthonormal_and_the_mask_a_mask() -> None:
    conflict = SubspaceConflict(rank=4, decay=0.9)
    for step in random(8, 40, 3, 6, 8):
        found = conflict.advance(
            "l", [DenseGradient(each) for each in step], [0, 1, 2], 2.0, like=torch.empty(3, 8).double()
        )
        eye = torch.eye(4, dtype=torch.float64)
        torch.testing.assert_close(found.basis.T @ found.basis, eye, rtol=0.0, atol=1e-10)
        assert 0.0 < float(found.mask.min()) <= float(found.mask.max()) <= 1.0


def test_thin_products_are_those_of_the_dense_gradient() -> None:
    delta, tokens, right, left = random(1, 5, 6), random(2, 5, 8), random(3, 8, 2), random(4, 6, 2)
    dense = 0.5 * delta.T @ tokens
    for gradient in (TokenGradient(delta, tokens, 0.5, Workspace()), DenseGradient(dense.clone())):
        scaled = ScaledGradient(gradient, 3.0)
        torch.testing.assert_close(gradient.times(right), dense @ right)
        torch.testing.assert_close(gradient.turned_times(left), dense.T @ left)
        torch.testing.assert_close(scaled.times(right), 3.0 * dense @ right)
        torch.testing.assert_close(scaled.turned_times(left), 3.0 * dense.T @ left)
        torch.testing.assert_close(scaled.dense(2.0), 6.0 * dense)


@pytest.mark.parametrize("engine", ["tap", "loop"])
def test_engines_agree_with_the_dense_filter(model, batch, engine) -> None:
    options = {"mask_space": "directions", "tau": 0.5}
    whole = aligned_gradients(model, batch, **options)
    ours = aligned_gradients(model, batch, engine=engine, direction_rank=64, **options)
    assert relative_error(ours, whole) < 1e-3


def test_a_rank_without_its_space_is_refused() -> None:
    for options in ({"mask_space": "inputs", "direction_rank": 4}, {"mask_space": "directions", "direction_rank": 0}):
        with pytest.raises(Exception, match="direction_rank"):
            build_method("iga", **options)


def test_an_estimator_without_its_space_or_unknown_is_refused() -> None:
    for options in (
        {"mask_space": "weight", "conflict_estimator": "split"},
        {"mask_space": "factor", "conflict_estimator": "cross"},
        {"mask_space": "inputs", "conflict_estimator": "halves"},
    ):
        with pytest.raises(Exception, match="conflict_estimator"):
            build_method("iga", **options)
