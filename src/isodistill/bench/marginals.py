"""The marginals benchmark: row and column sums from the tokens' Gram matrices against those of formed gradients."""

from __future__ import annotations

from functools import partial

import torch

from isodistill.bench.timing import BenchTable, Progress, interleave, repeat, this_machine
from isodistill.gradients.lazy import TokenGradient
from isodistill.gradients.marginals import gram_pays, token_marginals
from isodistill.gradients.mask import domain_moments
from isodistill.gradients.workspace import Workspace

_REPEATS = 5


def bench_marginals(
    sizes: tuple[int, ...] = (576, 2048, 4096),
    tokens: tuple[int, ...] = (128, 512, 1024),
    domains: int = 4,
    rounds: int = 3,
    progress: Progress = lambda case: None,
) -> BenchTable:
    """Times the marginals of square layers both ways.

    Args:
        sizes: Rows and columns of the layers.
        tokens: Tokens of a step, all domains together.
        domains: K.
        rounds: Counted rounds.
        progress: Told each case before it runs.

    Returns:
        The table; its figures say how many times longer forming the gradients takes, and which way is chosen.
    """
    timings, figures = [], {}
    for size in sizes:
        for count in tokens:
            generator = torch.Generator().manual_seed(0)
            product, results = Workspace(), Workspace()
            drawn = torch.randn(domains, 2, count // domains, size, generator=generator)
            gradients = [TokenGradient(delta, x, 1.0, product) for delta, x in drawn]
            weights = [1.0 / domains] * domains

            def formed(
                gradients: list[TokenGradient] = gradients, weights: list[float] = weights, room: Workspace = results
            ) -> None:
                moments = domain_moments((gradient.dense(1.0) for gradient in gradients), weights, room)
                for axis in (0, 1):
                    moments.mean.square().sum(axis)
                    moments.variance.sum(axis)

            where = f"{size} x {size}, {count} tokens"
            reference = f"{where}: Gram matrices"
            cases = {
                reference: partial(repeat, partial(token_marginals, gradients, weights), _REPEATS),
                f"{where}: formed": partial(repeat, formed, _REPEATS),
            }
            found = interleave(cases, reference, rounds, progress)
            timings += found
            figures[f"{where}, formed / Gram"] = found[1].ratio
            figures[f"{where}, Gram is chosen"] = float(gram_pays(gradients))
    return BenchTable(
        benchmark="marginals",
        settings={"domains": domains, "rounds": rounds},
        machine=this_machine(),
        reference="Gram matrices of the same layer and tokens",
        timings=timings,
        figures=figures,
    )
