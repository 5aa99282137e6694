"""The charts of the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from isodistill.evaluation.compare import is_ood_split
from isodistill.evaluation.results import SplitResult
from isodistill.report.drawing import HATCHES, INK, LINES, SERIES, Chart, figure, thin, to_svg
from isodistill.report.runs import RunSummary, all_splits, number
from isodistill.report.verdict import percent
from isodistill.statistics.bootstrap import Estimate

_MOST_COLUMNS = 80  # of a heat map: more steps are averaged in groups


def accuracy_chart(runs: Sequence[RunSummary]) -> Chart:
    """Draws accuracy by split and run with 95% intervals.

    Args:
        runs: The runs.

    Returns:
        A bar chart: a group of bars per split, a bar per run.
    """
    splits = all_splits(runs)
    height = 0.8 / len(runs)
    with figure(7.2, 1.1 + len(splits) * max(0.45, 0.2 * len(runs)) + 0.2 * len(runs)) as drawing:
        axes = drawing.add_subplot()
        for position, run in enumerate(runs):
            rows = [row for row, split in enumerate(splits) if split in run.evaluation.splits]
            results = [run.evaluation.splits[splits[row]].accuracy for row in rows]
            _bars(axes, [row - 0.4 + height * (position + 0.5) for row in rows], results, height, position, run.name)
        axes.set_yticks(range(len(splits)), splits)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("problems answered right")
        drawing.legend(loc="outside upper left", ncols=min(3, len(runs)))
        svg = to_svg(drawing, "accuracy")
    said = "; ".join(
        f"{split}: "
        + ", ".join(
            f"{run.name} {percent(run.evaluation.splits[split].accuracy.value)}"
            for run in runs
            if split in run.evaluation.splits
        )
        for split in splits
    )
    return Chart(
        svg,
        f"Bar chart of accuracy by split. {said}.",
        "Accuracy of the written answers by split; whiskers are 95% bootstrap intervals over isomer sets.",
    )


def consistency_chart(runs: Sequence[RunSummary]) -> Chart:
    """Draws accuracy beside the three measures of consistency, averaged over the same splits.

    Args:
        runs: The runs.

    Returns:
        Four small bar charts on the out-of-distribution splits, or on all splits if there are none.
    """
    splits = [split for split in all_splits(runs) if is_ood_split(split)] or all_splits(runs)
    panels: list[tuple[str, Callable[[SplitResult], Estimate | None]]] = [
        ("accuracy (higher is better)", lambda result: result.accuracy),
        ("answer agreement (higher is better)", lambda result: result.agreement),
        ("JS divergence, nats (lower is better)", lambda result: result.js_divergence),
        ("LCS, centred (lower is better)", lambda result: result.lcs_centred),
    ]
    said: list[str] = []
    with figure(7.2, 1.8 + 0.62 * len(runs)) as drawing:
        grid = drawing.subplots(2, 2)
        for axes, (title, read) in zip(grid.flat, panels, strict=True):
            values = [_mean(read, run, splits) for run in runs]
            for position, value in enumerate(values):
                if value is not None:
                    _bars(axes, [position], [Estimate(value=value, low=value, high=value)], 0.7, position, None)
                    axes.annotate(
                        f"{value:.3f}", (value, position), (4, 0), textcoords="offset points", va="center", color=INK
                    )
            axes.set_yticks(range(len(runs)), [_short(run.name) for run in runs])
            axes.set_ylim(len(runs) - 0.4, -0.6)
            axes.set_xlim(0, 1.3 * max([value for value in values if value is not None] or [1.0]) or 1.0)
            axes.grid(axis="y", visible=False)
            axes.set_title(title)
            known = [f"{run.name} {value:.3f}" for run, value in zip(runs, values, strict=True) if value is not None]
            said.append(f"{title}: {', '.join(known) or 'not measured'}")
        svg = to_svg(drawing, "consistency")
    return Chart(
        svg,
        f"Four bar charts. {'; '.join(said)}.",
        f"Means over: {', '.join(splits)}. A student that has learnt little treats isomers alike too: low "
        "divergence counts only beside high accuracy.",
    )


def conflict_chart(runs: Sequence[RunSummary]) -> Chart | None:
    """Draws gradient conflict between domains by layer and step.

    Args:
        runs: The runs; those that recorded no conflict are left out.

    Returns:
        One heat map per run on a shared scale, or ``None`` if no run recorded any.
    """
    maps = [(run, *found) for run in runs if (found := conflict_grid(run.diagnostics)) is not None]
    if not maps:
        return None
    finite = np.concatenate([grid[np.isfinite(grid)] for _, _, _, grid in maps])
    # A few entries can be far above the rest; they are drawn at the top of the scale.
    top = float(np.percentile(finite, 98)) or float(finite.max()) or 1.0
    said = []
    with figure(7.2, 0.8 + sum(max(1.2, 0.09 * len(layers)) + 0.5 for _, layers, _, _ in maps)) as drawing:
        rows = drawing.subplots(len(maps), 1, squeeze=False)
        for axes, (run, layers, steps, grid) in zip(rows[:, 0], maps, strict=True):
            edge = (steps[-1] - steps[0]) / max(1, len(steps) - 1) / 2 or 0.5
            image: ScalarMappable = axes.imshow(
                grid,
                aspect="auto",
                origin="lower",
                interpolation="nearest",
                cmap="viridis",
                vmin=0,
                vmax=top,
                extent=(steps[0] - edge, steps[-1] + edge, -0.5, len(layers) - 0.5),
            )
            ticks = range(0, len(layers), max(1, len(layers) // 8))
            axes.set_yticks(ticks, [str(layers[tick]) for tick in ticks])
            axes.grid(visible=False)
            axes.set_title(run.name)
            axes.set_ylabel("layer")
            means = np.nanmean(grid, axis=1)
            said.append(
                f"{run.name}: highest in layer {layers[int(means.argmax())]} (mean {means.max():.3g}), "
                f"lowest in layer {layers[int(means.argmin())]} (mean {means.min():.3g})"
            )
        rows[-1, 0].set_xlabel("optimizer step")
        drawing.colorbar(image, ax=list(rows[:, 0]), label="conflict", extend="max", aspect=30)
        svg = to_svg(drawing, "conflict")
    return Chart(
        svg,
        f"Heat map of conflict by layer and step. {'; '.join(said)}.",
        "Conflict: the share of the gradients' energy that is variance between the domains (0: they agree), mean over "
        "the modules of a layer. Long runs are averaged over neighbouring steps; values above the 98th percentile "
        "share the top colour.",
    )


def conflict_grid(
    diagnostics: Sequence[dict[str, Any]],
) -> tuple[list[int], list[float], NDArray[np.float64]] | None:
    """Arranges recorded conflict by layer and step.

    Args:
        diagnostics: One row per optimizer step; ``conflict`` maps module names to numbers. The layer
            is the first whole number in a module's name.

    Returns:
        ``(layers, steps, grid)`` with a grid of shape (layers, steps), ``nan`` where nothing was
        recorded, averaged to 80 columns at most; ``None`` if no conflict was recorded.
    """
    cells: dict[tuple[int, float], list[float]] = {}
    for row in diagnostics:
        step, conflict = number(row, "step"), row.get("conflict")
        if step is None or not isinstance(conflict, dict):
            continue
        for module in conflict:
            place, value = re.search(r"(?:^|\.)(\d+)(?:\.|$)", str(module)), number(conflict, module)
            if place is not None and value is not None:
                cells.setdefault((int(place[1]), step), []).append(value)
    if not cells:
        return None
    layers = sorted({layer for layer, _ in cells})
    steps = sorted({step for _, step in cells})
    size = -(-len(steps) // _MOST_COLUMNS)
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    grid = np.full((len(layers), len(groups)), np.nan)
    for line, layer in enumerate(layers):
        for column, group in enumerate(groups):
            values = [value for step in group for value in cells.get((layer, step), ())]
            if values:
                grid[line, column] = np.mean(values)
    return layers, [sum(group) / len(group) for group in groups], grid


def mask_chart(runs: Sequence[RunSummary]) -> Chart | None:
    """Draws the mean mask, the kept energy and the projection residual over the steps.

    Args:
        runs: The runs; those without diagnostics are left out.

    Returns:
        Curves, or ``None`` if no run recorded any.
    """
    names = {
        "mean_mask": "mean mask (1 = nothing masked)",
        "kept_energy": "kept energy (share of the squared norm of the mean gradient)",
        "projection_residual": "projection residual (relative norm lost to the low rank)",
    }
    return _curves(
        runs,
        [(title, [("", key)]) for key, title in names.items()],
        lambda run: run.diagnostics,
        "mask",
        "What the mask kept, step by step.",
    )


def learning_chart(runs: Sequence[RunSummary]) -> Chart | None:
    """Draws the training loss and, where it was logged, the validation loss.

    Args:
        runs: The runs.

    Returns:
        Curves over optimizer steps, or ``None`` if no run logged a loss.
    """
    return _curves(
        runs,
        [("training loss", [("", "loss")]), ("validation loss", [("", "eval_loss")])],
        lambda run: run.log_history,
        "learning",
        "Loss over optimizer steps, as the trainer logged it.",
    )


def _curves(
    runs: Sequence[RunSummary],
    panels: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    rows: Callable[[RunSummary], list[dict[str, Any]]],
    name: str,
    caption: str,
) -> Chart | None:
    """Curves over steps, a panel per measure that any run recorded, a line per run."""
    drawn: list[tuple[str, list[tuple[int, list[tuple[float, float]]]]]] = []
    for title, keys in panels:
        lines = []
        for position, run in enumerate(runs):
            for _, key in keys:
                points = [
                    (step, value)
                    for row in rows(run)
                    if (step := number(row, "step")) is not None and (value := number(row, key)) is not None
                ]
                if points:
                    lines.append((position, thin(points)))
        if lines:
            drawn.append((title, lines))
    if not drawn:
        return None
    said = []
    with figure(7.2, 0.7 + 1.9 * len(drawn) + 0.2 * len(runs)) as drawing:
        column = drawing.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
        named: dict[str, Any] = {}
        for axes, (title, lines) in zip(column, drawn, strict=True):
            for position, points in lines:
                x, y = zip(*points, strict=True)
                mark = "o" if len(points) < 12 else None
                style = LINES[position % len(LINES)]
                (line,) = axes.plot(
                    x,
                    y,
                    color=SERIES[position % len(SERIES)],
                    linestyle=style,
                    linewidth=1.6,
                    marker=mark,
                    markersize=3,
                )
                named.setdefault(runs[position].name, line)
                said.append(f"{title}, {runs[position].name}: from {y[0]:.3g} to {y[-1]:.3g}")
            axes.set_title(title)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        column[-1].set_xlabel("optimizer step")
        drawing.legend(
            list(named.values()), list(named), loc="outside upper left", ncols=min(3, len(named)), handlelength=3.5
        )
        svg = to_svg(drawing, name)
    return Chart(svg, f"Curves over optimizer steps. {'; '.join(said)}.", caption)


def _bars(
    axes: Any, rows: Sequence[float], values: Sequence[Estimate], height: float, position: int, name: str | None
) -> None:
    axes.barh(
        rows,
        [value.value for value in values],
        height=height * 0.92,
        color=SERIES[position % len(SERIES)],
        hatch=HATCHES[position % len(HATCHES)],
        edgecolor=INK,
        linewidth=0.5,
        label=name,
    )
    wide = [(row, value) for row, value in zip(rows, values, strict=True) if value.high > value.low]
    if wide:
        axes.errorbar(
            [value.value for _, value in wide],
            [row for row, _ in wide],
            # A percentile interval need not hold the estimate; a whisker cannot point backwards.
            xerr=np.maximum(
                [
                    [value.value - value.low for _, value in wide],
                    [value.high - value.value for _, value in wide],
                ],
                0.0,
            ),
            fmt="none",
            ecolor=INK,
            elinewidth=1.1,
            capsize=2.5,
        )


def _mean(read: Callable[[SplitResult], Estimate | None], run: RunSummary, splits: Sequence[str]) -> float | None:
    values = [
        estimate.value
        for split in splits
        if split in run.evaluation.splits and (estimate := read(run.evaluation.splits[split])) is not None
    ]
    return sum(values) / len(values) if values else None


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
