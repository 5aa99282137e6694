"""Scratch memory: the same results, no memory beyond the largest tensor, and padding that costs nothing."""

from __future__ import annotations

import warnings

import pytest
import torch
from gradient_helpers import factor_gradients, loss_of, plain_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill import GradientAligner, window
from isodistill.gradients import RunningMoments, conflict_mask, domain_moments
from isodistill.gradients.workspace import Workspace

quick = settings(max_examples=25, deadline=None)


def test_a_buffer_grows_to_the_largest_and_is_lent_again():
    workspace = Workspace()
    like = torch.zeros(1)
    small = workspace.take("a", (2, 3), like)
    assert small.shape == (2, 3)
    large = workspace.take("a", (4, 5), like)
    again = workspace.take("a", (3, 2), like)
    assert again.data_ptr() == large.data_ptr()
    assert workspace.take("b", (3, 2), like).data_ptr() != large.data_ptr()
    assert workspace.nbytes == 4 * (20 + 6)
    assert workspace.take("a", (4, 5), like.double()).dtype == torch.float64


@quick
@given(seed=st.integers(0, 2**31), domains=st.integers(1, 6), normalization=st.sampled_from(["relative", "bounded"]))
def test_the_buffers_change_no_bit(seed: int, domains: int, normalization: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    workspace, averages, plain = Workspace(), RunningMoments(0.9), RunningMoments(0.9)
    weights = [1 / domains] * domains
    for shape in ((5, 7), (3, 4), (5, 7)):
        name = str(shape)
        gradients = torch.randn(domains, *shape, generator=generator)
        expected = domain_moments(gradients, weights)
        found = domain_moments((each.clone() for each in gradients), weights, workspace)
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.variance, expected.variance)
        average, other = plain.update(name, expected), averages.update(name, found)
        mask = conflict_mask(average.mean, average.variance, 2.0, normalization)
        out = workspace.take("mask", shape, found.mean)
        assert torch.equal(conflict_mask(other.mean, other.variance, 2.0, normalization, out), mask)


def test_an_outlying_first_domain_costs_no_precision():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 1000, generator=generator, dtype=torch.float64) * 1e-3
    gradients[0] += 1e3  # what every difference is taken to
    exact = gradients.var(0, correction=0)
    found = domain_moments(gradients.float(), [0.25] * 4).variance.double()
    assert ((found - exact).abs() / exact).max() < 1e-5


@pytest.mark.parametrize("space", ["weight", "factor", "factored"])
def test_padding_is_left_out_and_changes_nothing(double_model, batch, space: str) -> None:
    found = []
    for tokens in (None, batch.attention):
        aligner = GradientAligner(double_model, mask_space=space, mask_stage="gradient", tau=1.0, statistics_decay=0.0)
        with aligner.record(batch.domains, batch.items, tokens=tokens):
            loss_of(double_model, batch).backward()
        aligner.step()
        aligner.close()
        found.append(factor_gradients(double_model))
        double_model.zero_grad()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_the_padding_is_not_multiplied(model, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = torch.addmm

    def counted(start: torch.Tensor, left: torch.Tensor, *rest: torch.Tensor, **options: object) -> torch.Tensor:
        rows.append(left.shape[1])
        return real(start, left, *rest, **options)

    monkeypatch.setattr(torch, "addmm", counted)
    aligner = GradientAligner(model, mask_space="weight")
    with aligner.record(batch.domains, batch.items, tokens=batch.attention):
        loss_of(model, batch).backward()
    aligner.close()
    assert sum(rows) == int(batch.attention.sum()) * len(aligner.layers) < batch.ids.numel() * len(aligner.layers)


@pytest.mark.parametrize("space", ["weight", "factor"])
def test_autograd_is_spared_the_factors_and_they_learn_all_the_same(double_model, batch, space: str) -> None:
    expected = plain_gradients(double_model, batch)
    double_model.zero_grad()
    factors = {name: p for name, p in double_model.named_parameters() if p.requires_grad}
    aligner = GradientAligner(double_model, mask_space=space, mask_stage="gradient", tau=0.0)
    with aligner.record(batch.domains, batch.items):
        assert not any(p.requires_grad for p in factors.values())
        loss_of(double_model, batch).backward()
    assert all(p.requires_grad and p.grad is None for p in factors.values())
    aligner.step()
    aligner.close()
    assert len(factors) == len(expected)
    for name, parameter in factors.items():
        # Llama's norms round to fp32 inside, whatever the dtype of the model.
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-9)


def test_a_block_that_fails_gives_the_factors_back(model, batch) -> None:
    factors = [p for p in model.parameters() if p.requires_grad]
    aligner = GradientAligner(model)
    with pytest.raises(ZeroDivisionError), aligner.record(batch.domains):
        raise ZeroDivisionError
    assert all(p.requires_grad for p in factors)
    aligner.close()


def test_dense_sums_that_fill_the_memory_are_warned_of_once(model, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(accumulation_steps: int) -> int:
        aligner = GradientAligner(model, mask_space="weight", accumulation_steps=accumulation_steps)
        entries = sum(layer.A.shape[1] * layer.B.shape[0] for layer in aligner.layers)
        for _ in range(accumulation_steps):
            with aligner.record(batch.domains, batch.items):
                loss_of(model, batch).backward()
        aligner.close()
        return 4 * len(batch.domains.unique()) * entries

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        size = run(2)
        monkeypatch.setattr(window, "DENSE_SUMS_WARNED_OF", size)
        run(2)
        monkeypatch.setattr(window, "DENSE_SUMS_WARNED_OF", size - 1)
        run(1)
    with pytest.warns(UserWarning, match="a dense sum for each of 4 domains") as caught:
        run(2)
    assert len(caught) == 1
