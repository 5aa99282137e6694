"""The default temperature: what one domain alone uses is damped alike for any number of domains."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.gradients.inputs import direction_filter
from isodistill.methods import IGA, Window
from isodistill.methods.base import RunInfo
from isodistill.methods.iga_options import CLOSING

domain_counts = st.integers(2, 24)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=25, deadline=None)


def window(domains: int) -> Window:
    return Window(list(range(domains)), [1.0 / domains] * domains)


@quick
@given(seeds, domain_counts, st.floats(0.1, 100.0))
def test_an_entry_of_one_domain_is_damped_alike_for_any_number_of_domains(seed, domains, size):
    gradients = torch.ones(domains, 3, 4, dtype=torch.float64)
    lone = int(torch.randint(12, (), generator=torch.Generator().manual_seed(seed)))
    gradients.view(domains, -1)[:, lone] = 0.0
    gradients.view(domains, -1)[seed % domains, lone] = size
    method = IGA(mask_space="factor", mask_stage="gradient", statistics_decay=0.0)
    aligned, _ = method.align_factors({"l.lora_A": gradients}, window(domains))
    expected = gradients.mean(0)
    expected.view(-1)[lone] *= math.exp(-CLOSING)
    torch.testing.assert_close(aligned["l.lora_A"], expected, rtol=1e-6, atol=1e-9)


@quick
@given(seeds, domain_counts, st.integers(1, 6), st.integers(1, 3))
def test_no_direction_has_more_conflict_than_one_of_a_single_domain(seed, domains, size, samples):
    """Z <= K - 1 for any moments, since none exceeds K times their mean: few samples cannot shut the mask."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(domains, samples, size, generator=generator, dtype=torch.float64)
    _, mask = direction_filter(parts.mT @ parts, CLOSING / (domains - 1))
    assert mask.min() >= math.exp(-CLOSING) * (1 - 1e-6)


def test_directions_of_one_domain_each_reach_the_greatest_conflict():
    domains = 8
    _, mask = direction_filter(torch.diag_embed(torch.eye(domains, dtype=torch.float64)), 1.0, shrinkage=1e-9)
    torch.testing.assert_close(mask, torch.full_like(mask, math.exp(1.0 - domains)), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("space", ["factor", "weight", "factored", "tangent", "inputs", "directions", None])
def test_four_domains_have_temperature_one(space):
    assert IGA(mask_space=space).temperature(window(4)) == 1.0


def test_the_number_of_domains_is_the_runs_and_not_the_steps():
    method = IGA()
    assert method.temperature(window(2)) == CLOSING
    method.bind(RunInfo(num_domains=4))
    assert method.temperature(window(2)) == 1.0
    assert IGA(tau=0.5).temperature(window(2)) == 0.5


@pytest.mark.parametrize("normalization", ["bounded", "layer_mean", "raw"])
def test_conflicts_that_do_not_grow_with_the_domains_keep_temperature_one(normalization):
    method = IGA(mask_space="weight", conflict_normalization=normalization)
    assert method.temperature(window(2)) == method.temperature(window(16)) == 1.0
