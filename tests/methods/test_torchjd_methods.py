"""The TorchJD group on a student, where domains come and go, in fp32, and at the edges; see also test_aggregators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_helpers import (
    domain_losses,
    factors,
    gradient,
    make_batch,
    relative_error,
    shares,
    take_step,
    toy_student,
)
from torchjd import aggregation

from isodistill.aligner import GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import METHODS, RunInfo, Window, build_method

SEED = 7
WEIGHTS = [0.1, 0.2, 0.3, 0.4]
AGGREGATORS: dict[str, tuple[dict[str, Any], Callable[[int], Any], Callable[[int], float]]] = {
    "pcgrad": ({}, lambda k: aggregation.PCGrad(), lambda k: 1 / k),
    "gradvac": ({"beta": 0.3}, lambda k: aggregation.GradVac(beta=0.3), lambda k: 1 / k),
    "cagrad": ({"c": 0.4}, lambda k: aggregation.CAGrad(c=0.4), lambda k: 1 / 1.4),
    "mgda": ({"max_iters": 50}, lambda k: aggregation.MGDA(max_iters=50), lambda k: 1.0),
    "upgrad": ({}, lambda k: aggregation.UPGrad(), lambda k: 1.0),
    "imtl_g": ({}, lambda k: aggregation.IMTLG(), lambda k: 1.0),
    "aligned_mtl": ({"scale_mode": "rmse"}, lambda k: aggregation.AlignedMTL(scale_mode="rmse"), lambda k: 1.0),
    "nash_mtl": ({"max_norm": 0.7}, lambda k: aggregation.NashMTL(k, max_norm=0.7), lambda k: 1.0),
}
"""For each method: its options, TorchJD's aggregator for K domains, and what its result is multiplied by."""
TOLERANCE = {"nash_mtl": 1e-5, "gradvac": 1e-6}
"""Nash-MTL's solver stops at a tolerance of its own, and GradVac's eps is absolute."""
every_aggregator = pytest.mark.parametrize("name", AGGREGATORS)


def aggregate(name: str, aggregator: Any, jacobian: torch.Tensor, step: int) -> torch.Tensor:
    """Runs TorchJD on all of J under the seed that the method documents for its random orders."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED * 1_000_003 + step)
        combined = aggregator(jacobian)
    return combined * AGGREGATORS[name][2](len(jacobian))


def draw(seed: int, k: int = 4, conflict: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    stacks = {
        "l.lora_A": torch.randn(k, 3, 5, generator=generator, dtype=torch.float64),
        "l.lora_B": torch.randn(k, 4, 3, generator=generator, dtype=torch.float64),
    }
    return stacks if conflict else {name: stack + 3.0 for name, stack in stacks.items()}


def jacobian_of(stacks: dict[str, torch.Tensor], weights: list[float]) -> torch.Tensor:
    """(K, P), row d being K w_d g_d."""
    rows = torch.cat([stack.flatten(1) for stack in stacks.values()], dim=1)
    return len(weights) * torch.tensor(weights, dtype=torch.float64).unsqueeze(1) * rows


def flat(aligned: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in aligned.values()])


def bound(name: str, k: int = 4, **options: Any):
    method = build_method(name, **options)
    method.bind(RunInfo(num_domains=k, seed=SEED))
    return method


def test_the_group_is_covered():
    assert AGGREGATORS.keys() == {n for n, cls in METHODS.items() if cls.__module__.endswith(".torchjd")}


@every_aggregator
def test_on_a_student_it_is_torchjd_on_autograds_jacobian(name):
    student = toy_student()
    options, make, _ = AGGREGATORS[name]
    aligner, aggregator = GradientAligner(student, name, run=RunInfo(4, seed=SEED), **options), make(4)
    for step in range(2):
        batch = make_batch(seed=step)
        found = take_step(aligner, student, batch)
        by_domain = [gradient(loss, student) for loss in domain_losses(student, batch)]
        stacks = {key: torch.stack([g[key] for g in by_domain]) for key in by_domain[0]}
        combined = aggregate(name, aggregator, jacobian_of(stacks, shares(batch)), step)
        parts = combined.split([p.numel() for p in factors(student).values()])
        expected = {key: part.view_as(p) for (key, p), part in zip(factors(student).items(), parts, strict=True)}
        assert relative_error(found, expected) < TOLERANCE.get(name, 1e-8), step


@pytest.mark.parametrize(
    ("name", "options", "rows", "expected"),
    [
        # g1' = g1 + g2 / 2, g2' = g2 + g1
        ("pcgrad", {}, [[1.0, 0.0], [-1.0, 1.0]], [0.25, 0.75]),
        # The first step's targets are zero: it turns conflicts to right angles, as PCGrad does.
        ("gradvac", {}, [[1.0, 0.0], [-1.0, 1.0]], [0.25, 0.75]),
        # The point of the segment between the rows that is nearest to the origin.
        ("mgda", {}, [[2.0, 0.0], [0.0, 1.0]], [0.4, 0.8]),
        # Orthogonal rows are in the dual cone of each other already.
        ("upgrad", {}, [[2.0, 0.0], [0.0, 1.0]], [1.0, 0.5]),
        # The projections on both unit rows are equal.
        ("imtl_g", {}, [[2.0, 0.0], [0.0, 1.0]], [2 / 3, 2 / 3]),
        # Both singular values, 2 and 1, become the smaller one.
        ("aligned_mtl", {}, [[2.0, 0.0], [0.0, 1.0]], [0.5, 0.5]),
        # ... or the root of their mean square.
        ("aligned_mtl", {"scale_mode": "rmse"}, [[2.0, 0.0], [0.0, 1.0]], [math.sqrt(2.5) / 2] * 2),
        ("cagrad", {"c": 0.0}, [[2.0, 0.0], [0.0, 1.0]], [1.0, 0.5]),
        # Symmetric rows: the mean has length 1 / sqrt 2, c times that is added, and 1 + c divides.
        ("cagrad", {"c": 0.5}, [[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]),
        # The bargaining solution of orthogonal rows has alpha_d ~ 1 / |g_d|; the norm is clipped to 1.
        ("nash_mtl", {}, [[2.0, 0.0], [0.0, 1.0]], [math.sqrt(0.5)] * 2),
    ],
)
def test_pinned_values(name, options, rows, expected):
    stack = torch.tensor(rows, dtype=torch.float64)
    aligned, _ = bound(name, 2, **options).align_factors({"l.lora_A": stack}, Window([0, 1], [0.5, 0.5]))
    torch.testing.assert_close(
        aligned["l.lora_A"],
        torch.tensor(expected, dtype=torch.float64),
        rtol=0,
        atol=2e-3 if name == "nash_mtl" else 1e-4,
    )


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_the_random_order_follows_seed_and_step_and_leaves_the_global_generator(name):
    def run(seed: int, step: int) -> torch.Tensor:
        method = build_method(name)
        method.bind(RunInfo(num_domains=4, seed=seed))
        return flat(method.align_factors(draw(3), Window([0, 1, 2, 3], WEIGHTS, step=step))[0])

    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    runs = [run(seed, step) for seed in range(3) for step in range(3)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(run(0, 0), runs[0])
    assert any(not torch.allclose(other, runs[0]) for other in runs)


@every_aggregator
def test_fp32_gradients_are_combined_in_fp32(name):
    options, _, _ = AGGREGATORS[name]
    stacks = draw(1)
    exact, _ = bound(name, **options).align_factors(stacks, Window([0, 1, 2, 3], WEIGHTS))
    halved = {key: stack.float() for key, stack in stacks.items()}
    found, _ = bound(name, **options).align_factors(halved, Window([0, 1, 2, 3], WEIGHTS))
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert (flat(found).double() - flat(exact)).norm() < 1e-3 * flat(exact).norm()


@every_aggregator
def test_a_step_without_one_of_the_domains_is_combined_too(name):
    options, make, _ = AGGREGATORS[name]
    method = bound(name, **options)
    method.align_factors(draw(0), Window([0, 1, 2, 3], WEIGHTS))
    stacks, weights = draw(1, k=3), [0.2, 0.3, 0.5]
    aligned, _ = method.align_factors(stacks, Window([0, 1, 3], weights, step=1))
    # What a method remembers, it remembers for each number of domains.
    expected = aggregate(name, make(3), jacobian_of(stacks, weights), 1)
    assert (flat(aligned) - expected).norm() < TOLERANCE.get(name, 1e-8) * expected.norm()


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "imtl_g", "aligned_mtl", "nash_mtl"])
def test_gradients_that_are_no_numbers_are_refused_by_name_and_step(name):
    stacks = draw(0)
    stacks["l.lora_A"][1, 0, 0] = float("nan")
    with pytest.raises(IsodistillError, match=rf"method='{name}' .* at step 5"):
        bound(name).align_factors(stacks, Window([0, 1, 2, 3], WEIGHTS, step=5))


@pytest.mark.parametrize("name", ["cagrad", "upgrad"])
def test_small_gradients_are_combined_as_large_ones(name):
    window = Window([0, 1, 2, 3], WEIGHTS)
    large, _ = bound(name).align_factors(draw(0), window)
    small, _ = bound(name).align_factors({key: 1e-4 * stack for key, stack in draw(0).items()}, window)
    assert (1e4 * flat(small) - flat(large)).norm() < 1e-5 * flat(large).norm()


def test_nash_mtl_takes_a_zero_gradient():
    zero = {key: torch.zeros_like(stack) for key, stack in draw(0).items()}
    aligned, _ = bound("nash_mtl").align_factors(zero, Window([0, 1, 2, 3], WEIGHTS))
    assert not flat(aligned).any()


def test_a_missing_library_is_refused_before_the_first_step(monkeypatch):
    method = build_method("mgda")

    def missing(num_domains: int) -> Any:
        raise ImportError("No module named 'torchjd'", name="torchjd")

    monkeypatch.setattr(method, "make_weighting", missing)
    with pytest.raises(IsodistillError, match=r"method='mgda' needs a library .*\(torchjd\).*isodistill\[baselines\]"):
        method.bind(RunInfo(num_domains=4))


@every_aggregator
def test_the_weights_are_reported(name):
    method = bound(name, **AGGREGATORS[name][0])
    assert method.diagnostics().values == {}
    method.align_factors(draw(0), Window([0, 1, 2, 3], WEIGHTS))
    values = method.diagnostics().values
    assert values["alpha_min"] <= values["alpha_max"]
