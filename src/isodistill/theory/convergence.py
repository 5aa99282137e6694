"""Does SGD with the conflict mask and the projection converge at SGD's rate? Measured on a smooth non-convex problem.

For an L-smooth function, SGD with step size c / sqrt(T) has a mean squared gradient norm over its T steps of order
1 / sqrt(T) (Ghadimi & Lan, arXiv 1309.5549): a slope of -1/2 in log-log. The mask changes the direction, so two things
are followed: the norm of the true gradient, and that of the direction that the method would take without noise. A
method may stand still where the true gradient is not zero (the mask has closed on what is left); then the second falls
and the first does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.gradients.mask import conflict_mask, domain_moments

Direction = Literal["sgd", "mask", "mask and projection"]
DIRECTIONS: tuple[Direction, ...] = ("sgd", "mask", "mask and projection")


@dataclass(frozen=True)
class Problem:
    """Regression with a bounded loss by a matrix of rank r: smooth, not convex, with K domains that disagree a little.

    The domains' targets are W_d = W* + spread E_d. The student is s B A; a domain's loss is the mean over its Gaussian
    inputs of phi(r) = r² / (1 + r²) of the residuals r (the Geman-McClure loss), whose derivatives are bounded.

    Args:
        domains: K.
        outputs: Rows of W.
        inputs: Columns of W.
        rank: r.
        samples: Inputs of a domain.
        batch: Inputs of a domain in one step.
        spread: How far the domains' targets lie apart.
        seed: Seed of everything.
    """

    domains: int = 4
    outputs: int = 6
    inputs: int = 10
    rank: int = 2
    samples: int = 64
    batch: int = 4
    spread: float = 0.3
    seed: int = 0

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the inputs (K, samples, inputs) and the targets (K, samples, outputs), fp64."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        shared = draw(self.outputs, self.rank) @ draw(self.rank, self.inputs) / self.rank
        own = draw(self.domains, self.outputs, self.inputs)
        x = draw(self.domains, self.samples, self.inputs) / math.sqrt(self.inputs)
        return x, torch.einsum("koi,kni->kno", shared + self.spread * own, x)

    def start(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws A (rank, inputs), and B (outputs, rank) near zero, as LoRA starts."""
        generator = torch.Generator().manual_seed(1000 + seed)
        A = torch.randn(self.rank, self.inputs, generator=generator, dtype=torch.float64) / math.sqrt(self.inputs)
        B = 0.1 * torch.randn(self.outputs, self.rank, generator=generator, dtype=torch.float64)
        return A, B


def weight_gradients(W: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Computes each domain's gradient of the mean loss with respect to W.

    Args:
        W: (seeds, outputs, inputs).
        x: (seeds, K, N, inputs).
        y: (seeds, K, N, outputs).

    Returns:
        (seeds, K, outputs, inputs).
    """
    residual = x @ W.mT.unsqueeze(1) - y  # (seeds, K, N, outputs)
    slope = 2.0 * residual / (1.0 + residual.square()).square()  # phi'(r)
    return slope.mT @ x / (x.shape[2] * y.shape[3])


class ConvergenceRate(BaseModel):
    """How the mean squared norm falls with the number of steps.

    Attributes:
        direction: How the steps were taken.
        steps: The numbers of steps T.
        gradient: For each T and seed, the mean over the steps of the squared norm of the true gradient, (T, seeds).
        followed: The same of the method's own direction on all the data.
        slope: The slope of log(followed) against log(T), with a 95% interval over seeds.
        slope_of_gradient: The same of the true gradient's.
    """

    model_config = ConfigDict(extra="forbid")

    direction: Direction
    steps: list[int]
    gradient: list[list[float]]
    followed: list[list[float]]
    slope: tuple[float, float, float]
    slope_of_gradient: tuple[float, float, float]


def measure_rates(
    problem: Problem,
    steps: Sequence[int] = (64, 128, 256, 512, 1024, 2048, 4096),
    seeds: int = 8,
    step_size: float = 32.0,
    tau: float = 1.0,
    directions: Sequence[Direction] = DIRECTIONS,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[ConvergenceRate]:
    """Runs SGD with step size step_size / sqrt(T) for each T and seed, and fits the rate.

    Args:
        problem: The problem.
        steps: The numbers of steps T, each a run of its own.
        seeds: Runs for each T; they differ in start and in batches.
        step_size: c.
        tau: The mask's temperature.
        directions: ``"sgd"``: the plain gradient; ``"mask"``: the mask on the dense mean gradient of the step (no
            running average, so that the direction is a function of the point and the batch); ``"mask and
            projection"``: also truncated to the student's rank.
        progress: Told (direction, steps done, all steps).

    Returns:
        The rates.

    Raises:
        IsodistillError: if a norm is no finite positive number, so that it has no logarithm.
    """
    rates = []
    for direction in directions:
        gradient, followed = [], []
        for number, count in enumerate(steps):
            progress(direction, sum(steps[:number]), sum(steps))
            plain, own = squared_norms(problem, direction, count, seeds, step_size, tau)
            if not all(0.0 < norm < math.inf for norm in (*plain, *own)):
                raise IsodistillError(
                    f"{direction} with step size {step_size:g} and tau {tau:g} left the numbers that have a logarithm"
                    f" within {count} steps: take a smaller step size or tau"
                )
            gradient.append(plain)
            followed.append(own)
        progress(direction, sum(steps), sum(steps))
        rates.append(
            ConvergenceRate(
                direction=direction,
                steps=list(steps),
                gradient=gradient,
                followed=followed,
                slope=fit_rate(steps, np.asarray(followed)),
                slope_of_gradient=fit_rate(steps, np.asarray(gradient)),
            )
        )
    return rates


def fit_rate(
    steps: Sequence[int], norms: NDArray[np.float64], samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Fits log(mean norm) = a + slope log(T) by least squares.

    Args:
        steps: T, n numbers.
        norms: (n, seeds), positive.
        samples: Bootstrap resamples of the seeds.
        seed: Seed of the bootstrap.

    Returns:
        The slope, and the ends of its 95% interval.
    """
    x = np.log(np.asarray(steps, dtype=np.float64))
    x -= x.mean()

    def slope(columns: NDArray[np.integer[Any]]) -> float:
        y = np.log(norms[:, columns].mean(axis=1))
        return float(x @ (y - y.mean()) / (x @ x))

    rng = np.random.default_rng(seed)
    count = norms.shape[1]
    drawn = [slope(rng.integers(0, count, size=(count,))) for _ in range(samples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return slope(np.arange(count)), float(low), float(high)


def squared_norms(
    problem: Problem, direction: Direction, steps: int, seeds: int, step_size: float, tau: float
) -> tuple[list[float], list[float]]:
    """Runs all seeds side by side, with step size step_size / sqrt(steps).

    Args:
        problem: The problem.
        direction: See `measure_rates`.
        steps: T.
        seeds: Their number.
        step_size: c.
        tau: The mask's temperature.

    Returns:
        By seed, the means over the steps of the squared norm of the true gradient, and of that of the direction on all
        the data.
    """
    x, y = problem.data()
    starts = [problem.start(seed) for seed in range(seeds)]
    A, B = torch.stack([start[0] for start in starts]), torch.stack([start[1] for start in starts])
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    size = (problem.domains, problem.batch)
    rate = step_size / math.sqrt(steps)
    domains = torch.arange(problem.domains).unsqueeze(1)
    gradient, followed = torch.zeros(seeds, dtype=torch.float64), torch.zeros(seeds, dtype=torch.float64)
    everything = x.expand(seeds, *x.shape), y.expand(seeds, *y.shape)
    for _ in range(steps):
        full = weight_gradients(B @ A, *everything)
        gradient += _energy(_pulled(full, "sgd", A, B, tau))
        followed += _energy(_pulled(full, direction, A, B, tau))
        rows = torch.stack([torch.randint(problem.samples, size, generator=each) for each in generators])
        drawn = weight_gradients(B @ A, x[domains, rows], y[domains, rows])
        grad_a, grad_b = _pulled(drawn, direction, A, B, tau)
        A, B = A - rate * grad_a, B - rate * grad_b
    return (gradient / steps).tolist(), (followed / steps).tolist()


def _pulled(
    by_domain: torch.Tensor, direction: Direction, A: torch.Tensor, B: torch.Tensor, tau: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors' gradients (seeds, r, inputs) and (seeds, outputs, r) from (seeds, K, outputs, inputs)."""
    moments = domain_moments(by_domain.unbind(1), [1.0 / by_domain.shape[1]] * by_domain.shape[1])
    G = moments.mean
    if direction != "sgd":
        G = conflict_mask(moments.mean, moments.variance, tau) * G
    if direction == "mask and projection":
        G = truncate(G, A.shape[1])
    return B.mT @ G, G @ A.mT


def truncate(matrices: torch.Tensor, rank: int) -> torch.Tensor:
    """Takes the best approximation of a rank of each of several matrices.

    Args:
        matrices: (..., rows, columns).
        rank: k.

    Returns:
        The approximations, the same shape.
    """
    U, S, Vh = torch.linalg.svd(matrices, full_matrices=False)
    return (U[..., :rank] * S[..., None, :rank]) @ Vh[..., :rank, :]


def _energy(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Squared norms, (seeds,)."""
    return pair[0].square().sum((1, 2)) + pair[1].square().sum((1, 2))
