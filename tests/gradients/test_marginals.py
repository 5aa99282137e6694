"""Marginals of mean and variance from the tokens' Gram matrices, against the matrices themselves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from gradient_helpers import aligned_gradients, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients.lazy import DenseGradient, ScaledGradient, TokenGradient, WeightGradient
from isodistill.gradients.marginals import gram_pays, token_marginals
from isodistill.gradients.workspace import Workspace
from isodistill.methods import Window, build_method, iga

WEIGHTS = [0.1, 0.2, 0.3, 0.4]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def token_gradients(seed: int, counts: list[int], d_out: int = 6, d_in: int = 8) -> list[WeightGradient]:
    return [
        ScaledGradient(
            TokenGradient(random(seed + 2 * n, count, d_out), random(seed + 2 * n + 1, count, d_in), 0.5, Workspace()),
            1.0 + n,
        )
        for n, count in enumerate(counts)
    ]


def dense_moments(gradients: list[WeightGradient]) -> tuple[torch.Tensor, torch.Tensor]:
    stack = torch.stack([gradient.dense(1.0).clone() for gradient in gradients])
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).view(-1, 1, 1)
    mean = (weights * stack).sum(0)
    return mean, (weights * (stack - mean) ** 2).sum(0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 7), min_size=4, max_size=4))
def test_they_are_the_sums_of_the_matrices(seed: int, counts: list[int]) -> None:
    gradients = token_gradients(seed, counts)
    mean, variance = dense_moments(gradients)
    for ours, axis in zip(token_marginals(gradients, WEIGHTS), (1, 0), strict=True):
        torch.testing.assert_close(ours.energy, mean.square().sum(axis), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(ours.variance, variance.sum(axis), rtol=1e-9, atol=1e-9)


def test_identical_domains_have_no_variance() -> None:
    one = TokenGradient(random(1, 5, 6), random(2, 5, 8), 0.5, Workspace())
    for ours in token_marginals([one] * 4, WEIGHTS):
        assert float((ours.variance / ours.energy).max()) < 1e-12


def test_they_pay_for_few_tokens_of_wide_layers_only() -> None:
    assert gram_pays(token_gradients(0, [2, 2, 2, 2], 100, 100))
    assert not gram_pays(token_gradients(0, [100, 100, 100, 100], 100, 100))
    assert not gram_pays([*token_gradients(0, [2]), DenseGradient(random(0, 6, 8))])
    with pytest.raises(ValueError, match="sums over tokens"):
        token_marginals([DenseGradient(random(0, 6, 8))], [1.0])


@pytest.mark.parametrize("normalization", ["relative", "bounded", "layer_mean", "raw"])
def test_the_masked_gradients_are_those_of_the_dense_way(monkeypatch: pytest.MonkeyPatch, normalization: str) -> None:
    monkeypatch.setattr(iga, "gram_pays", lambda gradients: True)
    layer = SimpleNamespace(name="l", A=random(91, 3, 8), B=random(92, 6, 3), scaling=2.0)
    window = Window([0, 1, 2, 3], WEIGHTS)
    options = {"mask_space": "factored", "tau": 0.7, "conflict_normalization": normalization}
    ours, whole = build_method("iga", **options), build_method("iga", **options)
    ours.plain_gradients, whole.plain_gradients = {}, {}
    for seed in range(3):
        gradients = token_gradients(100 * seed, [3, 1, 4, 2])
        found = ours.align_products(layer, gradients, window)
        expected = whole.align_weight(layer, (each.dense(1.0) for each in gradients), window)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        for name, plain in whole.plain_gradients.items():
            torch.testing.assert_close(ours.plain_gradients[name], plain, rtol=1e-9, atol=1e-9)
    here, there = ours.diagnostics(), whole.diagnostics()
    assert here.mean_mask == pytest.approx(there.mean_mask, rel=1e-5)
    assert here.conflict == pytest.approx(there.conflict, rel=1e-5)
    assert 0.0 < here.kept_energy <= 1.0


@pytest.mark.parametrize("checked", [True, False])
def test_a_models_gradients_are_the_reference_loops(monkeypatch, model, batch, checked: bool) -> None:
    options = {"mask_space": "factored", "tau": 0.5}
    reference = aligned_gradients(model, batch, engine="loop", **options)
    taken: list[bool] = []

    def pays(gradients: object) -> bool:
        taken.append(checked)
        return checked

    monkeypatch.setattr(iga, "gram_pays", pays)
    assert relative_error(aligned_gradients(model, batch, **options), reference) < 1e-5
    assert taken
