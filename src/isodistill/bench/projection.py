"""The projection benchmark: the warm-started randomised truncation against a full SVD."""

from __future__ import annotations

from functools import partial

import torch

from isodistill.bench.timing import BenchTable, Progress, interleave, repeat, this_machine
from isodistill.gradients.projection import LowRank, Projector, exact_truncated_svd

OURS = "randomised, warm"


def gradient_like(size: int, step: int, seed: int = 0) -> torch.Tensor:
    """Draws a matrix with the spectrum of a gradient, that drifts from step to step.

    A sum of 64 outer products with weights that fall as 1/k, whose directions turn a little each step, and noise.

    Args:
        size: Rows and columns.
        step: Which step of the sequence.
        seed: Seed of the directions.

    Returns:
        (size, size), fp32.
    """
    generator = torch.Generator().manual_seed(seed)
    left, right, turn = (torch.randn(size, 64, generator=generator) for _ in range(3))
    scale = 1.0 / torch.arange(1, 65)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed + 1 + step))
    return ((left + 0.05 * step * turn) * scale) @ right.T / size + noise * (0.02 / size)


def bench_projection(
    size: int = 4096, rank: int = 16, rounds: int = 3, progress: Progress = lambda case: None
) -> BenchTable:
    """Times one projection, and measures what it loses against the best approximation of its rank.

    Args:
        size: Rows and columns of the matrix.
        rank: k.
        rounds: Counted rounds; the full SVD runs once a round.
        progress: Told each case before it runs.

    Returns:
        The table; its figures are the speed-up and the excess of the Frobenius error over the optimum's, warm and cold.
    """
    warm, cold = Projector(rank), Projector(rank, restart_every=1)
    matrices = [gradient_like(size, step) for step in range(3)]
    for matrix in matrices:
        warm.project("layer", matrix)
    last = matrices[-1]

    cases = {
        OURS: partial(repeat, partial(warm.project, "layer", last), 3),
        "randomised, cold": partial(repeat, partial(cold.project, "layer", last), 3),
        "torch.linalg.svd": partial(repeat, partial(exact_truncated_svd, last, rank), 1),
    }
    # The warm case must stay warm: a restart falls on every 20th call.
    warm.restart_every = 10**9
    timings = interleave(cases, OURS, rounds, progress)
    fresh = gradient_like(size, 3)
    best = _error(fresh, exact_truncated_svd(fresh, rank))
    by_case = {timing.case: timing.median for timing in timings}
    return BenchTable(
        benchmark="projection",
        settings={"size": size, "rank": rank, "rounds": rounds},
        machine=this_machine(),
        reference=OURS,
        timings=timings,
        figures={
            "torch.linalg.svd / ours": by_case["torch.linalg.svd"] / by_case[OURS],
            "excess of the error, warm": _error(fresh, warm.project("layer", fresh)) / best - 1.0,
            "excess of the error, cold": _error(fresh, cold.project("layer", fresh)) / best - 1.0,
        },
    )


def _error(matrix: torch.Tensor, factors: LowRank) -> float:
    return float((matrix - factors.matrix()).double().norm())
