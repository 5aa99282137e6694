"""Writes docs/depth.md and its figure from the raw results of `make depth`: `make results`."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from scipy import stats

from isodistill.files import write_text_atomically
from isodistill.isomers.families import make_family
from isodistill.report.drawing import INK, WIDTH, Chart, figure, series
from isodistill.statistics import Estimate, bootstrap_over_seeds, holm

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "studies" / "depth" / "results.json"
INTRODUCTION = ROOT / "studies" / "depth" / "introduction.md"

_LEVEL = 0.05
_SAMPLES = 2000
_COLUMNS = 4


class FamilyTrend(NamedTuple):
    """How accuracy goes with depth in one family.

    Attributes:
        chance: The accuracy of the best constant answer; 0 for numbers.
        taught: The greatest depth that was taught; the student has never seen a deeper problem.
        by_depth: Accuracy at each depth.
        slope: The least-squares slope of the accuracies on depth, of the taught depths alone: the change with each
            further step.
        p: Of the Cochran-Armitage test for a trend over the taught depths, two-sided, not corrected.
    """

    chance: float
    taught: int
    by_depth: dict[int, Estimate]
    slope: Estimate
    p: float


def main(out: Path = ROOT / "docs", results: Path = RESULTS) -> None:
    """Reads the raw results and writes the page ``depth.md`` and its figure ``depth.svg``.

    Args:
        out: The folder of the page.
        results: The raw results.
    """
    if not results.is_file():
        sys.stderr.write("the study of depth has no results yet: make depth\n")
        return
    raw = json.loads(results.read_text(encoding="utf-8"))
    trends = {family: trend(family, raw) for family in raw["right"]}
    lines = [INTRODUCTION.read_text(encoding="utf-8").rstrip(), "", *table(trends, raw), ""]
    lines += ["![Accuracy by depth with 95% intervals, a panel for each family](depth.svg)", "", verdict(trends)]
    write_text_atomically(out / "depth.md", "\n".join(lines) + "\n")
    write_text_atomically(out / "depth.svg", chart(trends).svg())


def trend(family: str, raw: Mapping[str, Any]) -> FamilyTrend:
    """Measures one family.

    Args:
        family: Its name.
        raw: The raw results.

    Returns:
        Accuracy by depth, slope and test. Intervals are over problems, and over students where there are several.
    """
    right: dict[int, NDArray[np.float64]] = {
        int(depth): np.array([[float(mark) for mark in marks] for marks in by_seed.values()])
        for depth, by_seed in raw["right"][family].items()
    }
    by_depth = {
        depth: bootstrap_over_seeds(marks[:, :, None], np.ones((marks.shape[1], 1)), samples=_SAMPLES)
        for depth, marks in right.items()
    }
    deepest = raw["protocol"]["depths"][1]
    taught = {depth: marks for depth, marks in right.items() if depth <= deepest}
    depths = np.array(list(taught), dtype=np.float64)
    weights = (depths - depths.mean()) / ((depths - depths.mean()) ** 2).sum()
    # A row for each problem, a column for each depth: no problem is asked at two depths.
    tops = [_in_column(marks, place, len(taught)) for place, marks in enumerate(taught.values())]
    counts = [
        _in_column(np.ones((1, marks.shape[1])), place, len(taught))[0] for place, marks in enumerate(taught.values())
    ]
    slope = bootstrap_over_seeds(
        np.concatenate(tops, axis=1), np.concatenate(counts), split_weights=weights, samples=_SAMPLES
    )
    classes = make_family(family, raw["protocol"]["families"][family]).classes
    numeric = classes == ("even", "odd")
    assert slope is not None
    return FamilyTrend(
        chance=0.0 if numeric else 1 / len(classes),
        taught=deepest,
        by_depth={depth: estimate for depth, estimate in by_depth.items() if estimate is not None},
        slope=slope,
        p=cochran_armitage({depth: marks.mean(axis=0) for depth, marks in taught.items()}),
    )


def _in_column(marks: NDArray[np.float64], place: int, columns: int) -> NDArray[np.float64]:
    spread = np.zeros((*marks.shape, columns))
    spread[:, :, place] = marks
    return spread


def cochran_armitage(right: Mapping[int, NDArray[np.float64]]) -> float:
    """Tests for a linear trend of a share over ordered groups.

    Source: W. G. Cochran (1954), "Some methods for strengthening the common chi-squared tests"; P. Armitage (1955),
    "Tests for linear trends in proportions and frequencies". The statistic is the squared correlation between group
    and outcome times the number of outcomes.

    Args:
        right: The outcomes by group: 0 or 1, or their mean over several students.

    Returns:
        The two-sided p-value; 1 where all outcomes are equal.
    """
    group = np.concatenate([np.full(len(marks), float(depth)) for depth, marks in right.items()])
    outcome = np.concatenate(list(right.values()))
    if outcome.std() == 0 or group.std() == 0:
        return 1.0
    correlation = float(np.corrcoef(group, outcome)[0, 1])
    return float(2 * stats.norm.sf(abs(correlation) * math.sqrt(len(outcome))))


def table(trends: Mapping[str, FamilyTrend], raw: Mapping[str, Any]) -> list[str]:
    """Writes accuracy by family and depth in %.

    Args:
        trends: The families.
        raw: The raw results.

    Returns:
        The lines of a Markdown table; a slope is bold where accuracy falls beyond doubt.
    """
    first = next(iter(trends.values()))
    depths = sorted({depth for found in trends.values() for depth in found.by_depth})
    titles = [f"depth {depth}" if depth <= first.taught else f"depth {depth}, not taught" for depth in depths]
    header = ["family", "chance", *titles, f"points for each step to {first.taught}", "p (Holm)"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for family, p in _corrected(trends).items():
        found = trends[family]
        cells = [_cell(found.by_depth.get(depth)) for depth in depths]
        slope = f"{100 * found.slope.value:+.1f} [{100 * found.slope.low:+.1f}, {100 * found.slope.high:+.1f}]"
        slope = f"**{slope}**" if _falls(found, p) else slope
        chance = f"{100 * found.chance:.1f}" if found.chance else "0"
        lines.append(f"| {family} | {chance} | {' | '.join(cells)} | {slope} | {_p_text(p)} |")
    protocol = raw["protocol"]
    seeds = ", ".join(str(seed) for seed in protocol["seeds"])
    versions = ", ".join(f"{name} {version}" for name, version in raw["versions"].items())
    note = f"{protocol['problems']} problems of each family and depth; training seeds: {seeds}; {versions}."
    return [*lines, "", note]


def verdict(trends: Mapping[str, FamilyTrend]) -> str:
    """Says in a sentence or three where accuracy falls with depth.

    Args:
        trends: The families.

    Returns:
        The sentences.
    """
    corrected = _corrected(trends)
    falling = [family for family, p in corrected.items() if _falls(trends[family], p)]
    others = [family for family in corrected if family not in falling]
    count = f"{len(falling)} of {len(corrected)} families"
    said = f"**Over the depths that were taught, accuracy falls in {count}** (the slope's interval lies below zero, "
    said += f"and p below {_LEVEL} after Holm's correction over the families)"
    said += f": {', '.join(falling)}." if falling and others else "."
    if others:
        said += f" It is not shown to fall in {', '.join(others)}."
    always = [family for family, found in trends.items() if _monotone(found)]
    said += f" It falls with every single step in {', '.join(always) if always else 'none'}."
    if any(max(found.by_depth) > found.taught for found in trends.values()):
        lower = [family for family, found in trends.items() if _falls_beyond(found)]
        said += " Every depth that was not taught lies below every one that was in "
        said += f"{', '.join(lower) if lower else 'none'}."
    return said


def chart(trends: Mapping[str, FamilyTrend]) -> Chart:
    """Draws accuracy by depth, a panel for each family.

    Args:
        trends: The families.

    Returns:
        The chart; a dashed line stands at chance, a dotted one after the last depth that was taught.
    """
    lines = -(-len(trends) // _COLUMNS)
    with figure(1.6 * WIDTH, 1.7 * lines) as drawing:
        grid = drawing.subplots(lines, _COLUMNS, squeeze=False, sharex=True, sharey=True).flat
        for place, (axes, (family, found)) in enumerate(zip(grid, trends.items(), strict=False)):
            depths = list(found.by_depth)
            for depth, each in found.by_depth.items():
                axes.plot([depth, depth], [each.low, each.high], color=INK, linewidth=1.0)
            values = [each.value for each in found.by_depth.values()]
            axes.plot(depths, values, color=series(place), marker="o", markeredgecolor=INK, markeredgewidth=0.5)
            axes.axhline(found.chance, color=INK, linewidth=0.7, linestyle="--")
            if max(depths) > found.taught:
                axes.axvline(found.taught + 0.5, color=INK, linewidth=0.7, linestyle=":")
            axes.set_ylim(-0.03, 1.03)
            axes.set_title(family)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in drawing.axes[len(trends) :]:
        axes.set_axis_off()
    rows: list[list[str | float | int | None]] = [
        [family, depth, each.value, each.low, each.high]
        for family, found in trends.items()
        for depth, each in found.by_depth.items()
    ]
    header = ["family", "depth", "accuracy", "low", "high"]
    return Chart("depth", "Lines: accuracy by depth, a panel for each family.", "", header, rows, drawing)


def _corrected(trends: Mapping[str, FamilyTrend]) -> dict[str, float]:
    return dict(zip(trends, holm([found.p for found in trends.values()]), strict=True))


def _falls(found: FamilyTrend, p: float) -> bool:
    return found.slope.high < 0 and p < _LEVEL


def _monotone(found: FamilyTrend) -> bool:
    values = [each.value for depth, each in found.by_depth.items() if depth <= found.taught]
    return all(later < earlier for earlier, later in itertools.pairwise(values))


def _falls_beyond(found: FamilyTrend) -> bool:
    known = [each.value for depth, each in found.by_depth.items() if depth <= found.taught]
    new = [each.value for depth, each in found.by_depth.items() if depth > found.taught]
    return bool(new) and max(new) < min(known)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{_percent(estimate)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f}"


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


if __name__ == "__main__":
    main()
