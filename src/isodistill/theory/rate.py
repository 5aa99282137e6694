"""The measured rate as a result of its own: a step size chosen by a rule, every raw norm, and the goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata

import numpy as np
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.theory.convergence import ConvergenceRate, Problem, measure_rates, squared_norms

GOAL = -0.45
"""A slope at or below this counts as 1 / sqrt(T)."""

STEPS = (128, 256, 512, 1024, 2048, 4096, 8192)
STEP_SIZES = (2.0, 8.0, 32.0, 128.0, 512.0)

_TUNING_SEEDS = 4


class RateReport(BaseModel):
    """What `measure_rate` found.

    Attributes:
        problem: The problem.
        seeds: Runs for each T.
        tau: The mask's temperature.
        step_size: c, for all directions.
        tuning: For each candidate c, plain SGD's mean squared gradient norm at the largest T on another draw of the
            problem; empty where c was given.
        rates: The rates by direction.
        seconds: Wall-clock time.
        versions: Versions of the packages.
    """

    model_config = ConfigDict(extra="forbid")

    problem: Problem
    seeds: int
    tau: float
    step_size: float
    tuning: list[tuple[float, float]]
    rates: list[ConvergenceRate]
    seconds: float
    versions: dict[str, str]


def measure_rate(
    problem: Problem,
    steps: Sequence[int] = STEPS,
    seeds: int = 8,
    tau: float = 1.0,
    step_size: float | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> RateReport:
    """Chooses the step size on plain SGD, and measures the rate of SGD, of the mask, and of mask and projection.

    The step size is the one of `STEP_SIZES` with which plain SGD has the least mean squared gradient norm at the
    largest T, on another draw of the problem: neither a slope nor the mask has a part in the choice.

    Args:
        problem: The problem.
        steps: The numbers of steps T, at least two different ones.
        seeds: Runs for each T, at least two.
        tau: The mask's temperature, not negative.
        step_size: c, or ``None`` to choose it.
        progress: Told (stage, done, total).

    Returns:
        The report.

    Raises:
        IsodistillError: if an option is out of range, or a run diverges.
    """
    _check(steps, seeds, tau, step_size)
    started = time.monotonic()
    steps = sorted(set(steps))
    tuning = []
    if step_size is None:
        other = replace(problem, seed=problem.seed + 1)
        for done, candidate in enumerate(STEP_SIZES):
            progress("step size", done, len(STEP_SIZES))
            norms, _ = squared_norms(other, "sgd", steps[-1], _TUNING_SEEDS, candidate, tau)
            tuning.append((candidate, float(np.mean(norms))))
        progress("step size", len(STEP_SIZES), len(STEP_SIZES))
        step_size = min((pair for pair in tuning if np.isfinite(pair[1])), key=lambda pair: pair[1])[0]
    rates = measure_rates(problem, steps, seeds, step_size, tau, progress=progress)
    return RateReport(
        problem=problem,
        seeds=seeds,
        tau=tau,
        step_size=step_size,
        tuning=tuning,
        rates=rates,
        seconds=round(time.monotonic() - started, 1),
        versions={name: metadata.version(name) for name in ("isodistill", "torch", "numpy")},
    )


def rate_rows(report: RateReport) -> list[tuple[str, str, str, str, str]]:
    """Lays out the slopes, as the command and the documentation show them.

    Args:
        report: A measured rate.

    Returns:
        Rows of direction, norm, slope, interval and whether the slope is at or below `GOAL`.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    for rate in report.rates:
        for told, (slope, low, high) in (
            ("the true gradient", rate.slope_of_gradient),
            ("the direction followed", rate.slope),
        ):
            met = "yes" if slope <= GOAL else "no"
            rows.append((rate.direction, told, f"{slope:.3f}", f"{low:.3f} to {high:.3f}", met))
    return rows


def _check(steps: Sequence[int], seeds: int, tau: float, step_size: float | None) -> None:
    if len(set(steps)) < 2 or min(steps) < 1:
        raise IsodistillError(f"steps {list(steps)}: a slope needs at least two different numbers of steps, 1 or more")
    if seeds < 2:
        raise IsodistillError(f"seeds={seeds}: an interval over seeds needs at least two")
    if not 0.0 <= tau < float("inf"):
        raise IsodistillError(f"tau={tau} must be a number that is not negative")
    if step_size is not None and not 0.0 < step_size < float("inf"):
        raise IsodistillError(f"step size {step_size} must be a positive number")
