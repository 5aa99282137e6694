"""Forest plot: the paired difference of every group against the baseline, with its interval."""

from __future__ import annotations

from isodistill.report.drawing import INK, PAPER, WIDTH, Chart, figure, short
from isodistill.report.panel import Panel
from isodistill.report.verdict import judge, points


def forest_chart(panel: Panel) -> Chart | None:
    """Draws the differences in accuracy out of distribution.

    Args:
        panel: The panel.

    Returns:
        A row for each group, the largest difference on top; ``None`` where nothing is paired.
    """
    comparisons = sorted(judge(panel).comparisons, key=lambda each: -each.effect.effect.value)
    if not comparisons:
        return None
    with figure(WIDTH, 1.0 + 0.28 * len(comparisons)) as drawing:
        axes = drawing.add_subplot()
        for row, each in enumerate(comparisons):
            effect = each.effect.points
            axes.plot([effect.low, effect.high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
            filled = INK if each.effect.significant and each.effect.seeds > 1 else PAPER
            for value in each.by_seed if len(each.by_seed) > 1 else ():
                axes.plot([100 * value], [row + 0.28], color=INK, marker="|", markersize=4, linestyle="none", alpha=0.6)
            axes.plot([effect.value], [row], color=INK, marker="D", markersize=5, markerfacecolor=filled)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(comparisons)), [short(each.label) for each in comparisons])
        axes.set_ylim(len(comparisons) - 0.5, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"difference from {short(str(panel.baseline))}, in points")
    said = "; ".join(
        f"{each.label} {points(each.effect.effect.value)} ({points(each.effect.effect.low)} to "
        f"{points(each.effect.effect.high)}), {each.reading}"
        for each in comparisons
    )
    return Chart(
        "forest",
        f"Forest plot of the paired differences from {panel.baseline} in points. {said}.",
        f"Paired difference from {panel.baseline} with its 95% interval. A filled diamond is significant over "
        f"{panel.replicates} after Holm's correction, an empty one is not; small ticks are single "
        f"{panel.replicates.split()[-1]}.",
        ["group", "points", "low", "high", "p", "p_holm", "seeds", "sets", "test", "reading"],
        [
            [
                each.label,
                each.effect.points.value,
                each.effect.points.low,
                each.effect.points.high,
                each.effect.p_value,
                each.effect.p_holm,
                each.effect.seeds,
                each.effect.sets,
                each.effect.test,
                each.reading,
            ]
            for each in comparisons
        ],
        drawing,
    )
