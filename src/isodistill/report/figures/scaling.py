"""Accuracy out of distribution by the number of training domains."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator, PercentFormatter

from isodistill.evaluation.effects import GroupValue
from isodistill.report.drawing import INK, LINES, MARKERS, WIDTH, Chart, figure, series, short
from isodistill.report.panel import Panel
from isodistill.report.verdict import interval


def scaling_chart(panels: Sequence[Panel]) -> Chart | None:
    """Draws how accuracy grows with the number K of training domains.

    Args:
        panels: All panels of the report; those of one sweep are joined.

    Returns:
        A line for each group that was trained with several numbers of domains; ``None`` if there is none.
    """
    found: dict[str, dict[int, GroupValue]] = {}
    for panel in panels:
        if panel.pooled is not None:
            continue  # its runs stand in the draws' own panels
        measure = panel.measure("ood_accuracy")
        for label, runs in panel.groups.items():
            counts = {len(run.domains) for run in runs}
            if measure is not None and len(counts) == 1 and 0 not in counts:
                # Groups of plain runs are told apart by their settings, so the method joins them.
                name = label if panel.sweep else runs[0].method
                key = f"{name}, {panel.sweep}" if len({each.sweep for each in panels}) > 1 else name
                found.setdefault(key, {}).setdefault(counts.pop(), measure.groups[label])
    lines = {name: dict(sorted(values.items())) for name, values in found.items() if len(values) > 1}
    if not lines:
        return None
    with figure(WIDTH, 3.0 + 0.17 * -(-len(lines) // 2)) as drawing:
        axes = drawing.add_subplot()
        for position, (name, values) in enumerate(lines.items()):
            place = [k + 0.02 * (position - (len(lines) - 1) / 2) for k in values]
            for x, value in zip(place, values.values(), strict=True):
                if value.low is not None and value.high is not None:
                    axes.plot([x, x], [value.low, value.high], color=series(position), linewidth=1.0)
            axes.plot(
                place,
                [value.mean for value in values.values()],
                color=series(position),
                linestyle=LINES[position % len(LINES)],
                marker=MARKERS[position % len(MARKERS)],
                markeredgecolor=INK,
                markeredgewidth=0.5,
                label=short(name, 32),
            )
        axes.set_xlabel("training domains K")
        axes.set_ylabel("accuracy out of distribution")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        drawing.legend(loc="outside lower left", ncols=2, handlelength=3)
    said = "; ".join(
        f"{name}: " + ", ".join(f"K = {k} {interval(value)}" for k, value in values.items())
        for name, values in lines.items()
    )
    return Chart(
        "scaling",
        f"Accuracy out of distribution by the number of training domains. {said}.",
        "With 95% intervals. More domains bring more text too, unless the number of problems was held fixed.",
        ["group", "domains", "mean", "low", "high"],
        [[name, k, value.mean, value.low, value.high] for name, values in lines.items() for k, value in values.items()],
        drawing,
    )
