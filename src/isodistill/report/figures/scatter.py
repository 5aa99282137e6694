"""Accuracy in distribution against accuracy out of distribution."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator, PercentFormatter

from isodistill.report.drawing import INK, WIDTH, Chart, figure, numbered_markers, place_numbers, series
from isodistill.report.panel import Panel
from isodistill.report.verdict import percent


def scatter_chart(panel: Panel) -> Chart | None:
    """Draws a point for each group, so that robustness is told apart from plain skill.

    Args:
        panel: The panel.

    Returns:
        A scatter plot; ``None`` where either accuracy is unknown.
    """
    inside, outside = panel.measure("accuracy:iid"), panel.measure("ood_accuracy")
    if inside is None or outside is None:
        return None
    with figure(WIDTH, 4.0 + 0.17 * -(-len(inside.groups) // 2)) as drawing:
        axes = drawing.add_subplot()
        for position, label in enumerate(inside.groups):
            x, y = inside.groups[label], outside.groups[label]
            if len(inside.groups) <= 8:  # more would hide the means
                axes.plot(
                    x.by_seed,
                    y.by_seed,
                    marker=".",
                    markersize=3.5,
                    linestyle="none",
                    color=series(position),
                    alpha=0.7,
                )
            for low, high, across in ((x.low, x.high, True), (y.low, y.high, False)):
                if low is not None and high is not None:
                    ends, middle = [low, high], [y.mean if across else x.mean] * 2
                    axes.plot(*((ends, middle) if across else (middle, ends)), color=series(position), linewidth=0.9)
        points = [(inside.groups[label].mean, outside.groups[label].mean, label) for label in inside.groups]
        numbered_markers(axes, points)
        # The limits are those of the points: the diagonal must not stretch them.
        axes.set_xlim(axes.get_xlim())
        axes.set_ylim(axes.get_ylim())
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.7, linestyle="--")
        axes.set_xlabel("accuracy on iid")
        axes.set_ylabel("accuracy out of distribution")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
            axis.set_major_locator(MaxNLocator(6))
        drawing.legend(loc="outside lower left", ncols=2)
        place_numbers(axes, points)
    said = "; ".join(
        f"{position + 1} {label}: {percent(inside.groups[label].mean)} on iid, "
        f"{percent(outside.groups[label].mean)} outside"
        for position, label in enumerate(inside.groups)
    )
    return Chart(
        "scatter",
        f"Scatter plot of accuracy on iid and out of distribution. {said}.",
        "Lines are 95% intervals, small dots single runs (of eight groups at most). On the dashed line nothing is lost "
        "outside; of two groups with the same accuracy on iid, the upper one is more robust.",
        ["group", "iid", "iid_low", "iid_high", "ood", "ood_low", "ood_high"],
        [
            [label, x.mean, x.low, x.high, (y := outside.groups[label]).mean, y.low, y.high]
            for label, x in inside.groups.items()
        ],
        drawing,
    )
