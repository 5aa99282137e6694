"""Tables and picture of a study that varies the number of training domains, for write_results.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter
from scipy import stats

from isodistill.evaluation.effects import MeasureEffects
from isodistill.report.drawing import INK, LINES, MARKERS, WIDTH, Chart, figure, series, short
from isodistill.report.markdown import escape
from isodistill.study.results import Result


def domain_count(study: Mapping[str, Any], data: str) -> int | None:
    """Counts the training domains of a data set.

    Args:
        study: The study's file.
        data: The data set's name, or the name that several are draws of.

    Returns:
        The number of training domains; ``None`` where the data is not generated or its draws differ in it.
    """
    entries = [entry for name, entry in study["data"].items() if data in (name, entry.get("draw_of"))]
    found = {len(entry.get("generate", {}).get("domains", ())) for entry in entries} - {0}
    return found.pop() if len(found) == 1 else None


def domain_table(sweep: Sequence[tuple[int, Result]], shown: Sequence[str]) -> list[str]:
    """Writes accuracy by number of training domains and arm, in %.

    Args:
        sweep: Each number of training domains K with its comparison.
        shown: The splits, in the order of the columns.

    Returns:
        The lines of a Markdown table.
    """
    splits = [split for split in shown if all(measure_of(each, f"accuracy:{split}") is not None for _, each in sweep)]
    names = [split.replace("__", ", ").replace("_", " ") for split in splits]
    header = ["K", "arm", *names, "out of distribution", "iid - out of distribution"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for count, result in sorted(sweep, key=lambda pair: pair[0]):
        ood = measure_of(result, "ood_accuracy")
        assert ood is not None
        for arm in ood.groups:
            cells = [percent(result, f"accuracy:{split}", arm) for split in splits]
            cells += [percent(result, "ood_accuracy", arm), percent(result, "ood_gap", arm)]
            lines.append(f"| {' | '.join([str(count), escape(arm), *cells])} |")
    return lines


def gap_fits(sweep: Sequence[tuple[int, Result]]) -> dict[str, tuple[float, float, float]]:
    """Fits each arm's gap by a line in the doublings of K, every run (or draw) a point.

    Args:
        sweep: Each number of training domains K with its comparison.

    Returns:
        Slope and 95% interval (Student's t of the residuals) in points for a doubling of K, by arm, and as
        ``arm - baseline`` that of its difference to the baseline at the same K and draw. Arms with fewer than three
        numbers of domains are left out.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for count, result in sweep:
        gap = measure_of(result, "ood_gap")
        assert gap is not None
        base = gap.groups[gap.baseline].by_seed
        for arm, group in gap.groups.items():
            points.setdefault(arm, []).extend((float(np.log2(count)), 100 * value) for value in group.by_seed)
            if arm != gap.baseline and len(group.by_seed) == len(base):
                paired = zip(group.by_seed, base, strict=True)
                points.setdefault(f"{arm} - {gap.baseline}", []).extend(
                    (float(np.log2(count)), 100 * (value - of_base)) for value, of_base in paired
                )
    fits = {}
    for arm, own in points.items():
        if len({x for x, _ in own}) > 2:
            fit = stats.linregress(*zip(*own, strict=True))
            half = float(stats.t.ppf(0.975, len(own) - 2)) * float(fit.stderr)
            fits[arm] = (float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)
    return fits


def gap_table(sweep: Sequence[tuple[int, Result]]) -> list[str]:
    """Writes how fast the gap between iid and out of distribution changes with the number of training domains.

    Args:
        sweep: Each number of training domains K with its comparison.

    Returns:
        The lines of a Markdown table.
    """
    lines = ["| gap (iid - out of distribution) | points for each doubling of K |", "|---|---|"]
    for arm, (slope, low, high) in gap_fits(sweep).items():
        lines.append(f"| {escape(arm)} | {slope:+.1f} [{low:+.1f}, {high:+.1f}] |")
    return lines


def gap_chart(sweep: Sequence[tuple[int, Result]]) -> Chart:
    """Draws the gap between iid and out of distribution by the number of training domains.

    Args:
        sweep: Each number of training domains K with its comparison.

    Returns:
        A line for each arm through the means of its runs, which stand as points.
    """
    rows: list[tuple[str, int, float]] = []
    with figure(WIDTH, 3.2) as drawing:
        axes = drawing.add_subplot()
        ordered = sorted(sweep, key=lambda pair: pair[0])
        gaps = [(count, gap) for count, result in ordered if (gap := measure_of(result, "ood_gap")) is not None]
        arms = dict.fromkeys(arm for _, gap in gaps for arm in gap.groups)
        for place, arm in enumerate(arms):
            own = [(count, gap.groups[arm]) for count, gap in gaps if arm in gap.groups]
            rows += [(arm, count, value) for count, group in own for value in group.by_seed]
            style = {"color": series(place), "linestyle": LINES[place % len(LINES)]}
            points = {"marker": MARKERS[place % len(MARKERS)], "markeredgecolor": INK, "markeredgewidth": 0.5}
            axes.plot([count for count, _ in own], [group.mean for _, group in own], **style)
            runs = [(count, value) for count, group in own for value in group.by_seed]
            axes.plot(*zip(*runs, strict=True), color=series(place), linestyle="none", **points)
            axes.plot([], [], **style, **points, label=short(arm, 32))  # the legend shows both
        counts = [count for count, _ in gaps]
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("training domains K")
        axes.set_ylabel("iid - out of distribution")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        drawing.legend(loc="outside lower left", ncols=2, handlelength=3)
    header = ["arm", "domains", "ood_gap"]
    return Chart("gap", "The gap by the number of training domains.", "", header, [list(row) for row in rows], drawing)


def measure_of(result: Result, name: str) -> MeasureEffects | None:
    """Finds a measure.

    Args:
        result: A comparison.
        name: The measure's name.

    Returns:
        Its values, or ``None`` where the comparison has none.
    """
    return next((each for each in result.effects if each.measure == name), None)


def percent(result: Result, name: str, arm: str) -> str:
    """Writes an arm's mean of a share.

    Args:
        result: A comparison.
        name: The measure's name.
        arm: The arm's label.

    Returns:
        The mean in % with one decimal, or nothing where it is not known.
    """
    measure = measure_of(result, name)
    return "" if measure is None or arm not in measure.groups else f"{100 * measure.groups[arm].mean:.1f}"
