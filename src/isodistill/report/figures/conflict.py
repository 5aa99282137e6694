"""Gradient conflict between domains by layer and module, over the steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isodistill.report.drawing import WIDTH, Chart, figure, short
from isodistill.report.panel import Panel
from isodistill.report.runs import number

_MOST_COLUMNS = 60  # of a heat map: more steps are averaged in groups
_MOST_GROUPS = 6
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Grids = tuple[list[int], list[float], dict[str, NDArray[np.float64]]]


def conflict_chart(panel: Panel) -> Chart | None:
    """Draws a heat map for each group and kind of module, layer by step.

    Args:
        panel: The panel; the first run of each group that recorded conflict is drawn, of six groups at most.

    Returns:
        Heat maps on a shared scale, or ``None`` if no run recorded any.
    """
    found: dict[str, Grids] = {}
    for label, runs in panel.groups.items():
        known = (conflict_grids(run.diagnostics) for run in runs)
        first = next((each for each in known if each is not None), None)
        if first is not None:
            found[label] = first
    if not found:
        return None
    shown = list(found)[:_MOST_GROUPS]
    finite = np.concatenate([grid[np.isfinite(grid)] for label in shown for grid in found[label][2].values()])
    # A few entries can be far above the rest; they are drawn at the top of the scale.
    top = float(np.percentile(finite, 98)) or float(finite.max()) or 1.0
    modules = sorted({module for label in shown for module in found[label][2]}, key=_order)
    heights = [max(1.0, 0.055 * len(found[label][0])) for label in shown]
    with figure(WIDTH, 0.9 + sum(height + 0.35 for height in heights)) as drawing:
        rows = drawing.subplots(
            len(shown), len(modules), squeeze=False, sharex="row", sharey="row", height_ratios=heights
        )
        image: Any = None
        for place, (line, label) in enumerate(zip(rows, shown, strict=True)):
            layers, steps, grids = found[label]
            edge = (steps[-1] - steps[0]) / max(1, len(steps) - 1) / 2 or 0.5
            for axes, module in zip(line, modules, strict=True):
                axes.grid(visible=False)
                axes.tick_params(labelsize=7)
                ends = sorted({steps[0], steps[-1]})
                axes.set_xticks(ends, [f"{step:.0f}" for step in ends])
                for tick, side in zip(axes.get_xticklabels(), ("left", "right"), strict=False):
                    tick.set_horizontalalignment(side)
                if place == 0:
                    axes.set_title(module.removesuffix("_proj"), size=8)
                if module not in grids:
                    axes.set_axis_off()
                    continue
                image = axes.imshow(
                    grids[module],
                    aspect="auto",
                    origin="lower",
                    interpolation="nearest",
                    cmap="viridis",
                    vmin=0,
                    vmax=top,
                    extent=(steps[0] - edge, steps[-1] + edge, -0.5, len(layers) - 0.5),
                )
            ticks = range(0, len(layers), max(1, len(layers) // 6))
            line[0].set_yticks(ticks, [str(layers[tick]) for tick in ticks])
            line[0].set_ylabel(f"{short(label, 16)}\nlayer", size=8)
        rows[-1, len(modules) // 2].set_xlabel("optimizer step")
        drawing.colorbar(image, ax=rows, label="conflict", extend="max", location="bottom", aspect=40, shrink=0.7)
    return Chart(
        "conflict",
        f"Heat maps of conflict by module, layer and step. {'; '.join(_said(label, found[label]) for label in shown)}.",
        "Conflict: the share of the gradients' energy that is variance between the domains (0: they agree), by kind of "
        "module; the first run of each group. Long runs are averaged over neighbouring steps; values above the 98th "
        "percentile share the top colour."
        + (
            f" Drawn are the first {len(shown)} of {len(found)} groups; the data hold all."
            if len(found) > len(shown)
            else ""
        ),
        ["group", "module", "layer", "step", "conflict"],
        [
            [label, module, layer, steps[column], float(grid[line, column])]
            for label, (layers, steps, grids) in found.items()
            for module, grid in grids.items()
            for line, layer in enumerate(layers)
            for column in range(len(steps))
            if np.isfinite(grid[line, column])
        ],
        drawing,
    )


def conflict_grids(diagnostics: Sequence[dict[str, Any]]) -> Grids | None:
    """Arranges recorded conflict by module, layer and step.

    Args:
        diagnostics: One row per optimizer step; ``conflict`` maps module names to numbers. The layer
            is the first whole number in a module's name, the kind of module its last part.

    Returns:
        ``(layers, steps, grids)`` with a grid of shape (layers, steps) for each kind of module, ``nan`` where nothing
        was recorded, averaged to 60 columns at most; ``None`` if no conflict was recorded.
    """
    cells: dict[tuple[str, int, float], float] = {}
    for row in diagnostics:
        step, conflict = number(row, "step"), row.get("conflict")
        if step is None or not isinstance(conflict, dict):
            continue
        for name in conflict:
            place, value = re.search(r"(?:^|\.)(\d+)(?:\.|$)", str(name)), number(conflict, name)
            if place is not None and value is not None:
                cells[str(name).rsplit(".", 1)[-1], int(place[1]), step] = value
    if not cells:
        return None
    layers = sorted({layer for _, layer, _ in cells})
    steps = sorted({step for _, _, step in cells})
    size = -(-len(steps) // _MOST_COLUMNS)
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    grids = {}
    for module in sorted({module for module, _, _ in cells}, key=_order):
        grids[module] = np.full((len(layers), len(groups)), np.nan)
        for line, layer in enumerate(layers):
            for column, group in enumerate(groups):
                values = [cells[module, layer, step] for step in group if (module, layer, step) in cells]
                if values:
                    grids[module][line, column] = np.mean(values)
    return layers, [sum(group) / len(group) for group in groups], grids


def _order(module: str) -> tuple[int, str]:
    return (_MODULES.index(module) if module in _MODULES else len(_MODULES), module)


def _said(label: str, grids: Grids) -> str:
    layers = grids[0]
    means = {
        (module, layer): float(np.nanmean(grid[line]))
        for module, grid in grids[2].items()
        for line, layer in enumerate(layers)
        if np.isfinite(grid[line]).any()
    }
    (high, low) = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return (
        f"{label}: highest in {high[0]} of layer {high[1]} (mean {means[high]:.3g}), lowest in {low[0]} of "
        f"layer {low[1]} (mean {means[low]:.3g})"
    )
