"""The picture of a measured rate: mean squared norm against the number of steps, log-log."""

from __future__ import annotations

import numpy as np

from isodistill.report.drawing import INK, LINES, MARKERS, Chart, figure, series
from isodistill.theory.rate import RateReport

_WIDTH, _HEIGHT = 7.0, 3.1  # inches; for a documentation page
_PANELS = (("gradient", "the true gradient"), ("followed", "the direction followed"))
_HEADER = ["direction", "norm of", "steps", "mean", "least", "most"]


def rate_chart(report: RateReport) -> Chart:
    """Draws the true gradient's norm and that of the direction followed, each beside a line of slope -1/2.

    Args:
        report: A measured rate.

    Returns:
        The chart.
    """
    rows: list[list[str | float | int | None]] = []
    with figure(_WIDTH, _HEIGHT) as drawing:
        panels = drawing.subplots(1, 2, sharex=True, sharey=True)
        for axes, (name, title) in zip(panels, _PANELS, strict=True):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            top = 0.0
            for place, rate in enumerate(report.rates):
                norms = np.asarray(getattr(rate, name))
                mean, low, high = norms.mean(axis=1), norms.min(axis=1), norms.max(axis=1)
                axes.fill_between(rate.steps, low, high, color=series(place), alpha=0.18, linewidth=0)
                axes.plot(
                    rate.steps,
                    mean,
                    color=series(place),
                    linestyle=LINES[place],
                    marker=MARKERS[place],
                    markersize=4,
                    label=rate.direction,
                )
                rows += [
                    [rate.direction, title, steps, float(a), float(b), float(c)]
                    for steps, a, b, c in zip(rate.steps, mean, low, high, strict=True)
                ]
                top = max(top, float(mean[0]))
            steps = report.rates[0].steps
            axes.plot(
                steps,
                1.8 * top * np.sqrt(steps[0] / np.asarray(steps, dtype=float)),
                color=INK,
                linewidth=0.8,
                linestyle="--",
                label="slope -1/2",
            )
            axes.set_title(f"squared norm of {title}")
            axes.set_xlabel("steps T")
            # The default labels of a logarithmic axis are formulas, which a chart of ours leaves as text.
            axes.set_xticks(steps, [str(count) for count in steps])
            axes.xaxis.set_minor_formatter("")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        panels[0].set_ylabel("mean over the T steps")
        panels[0].legend(fontsize=7.5, loc="lower left")
    return Chart(
        name="rate",
        label="Lines: the mean squared norm over T steps against T, on logarithmic axes.",
        caption=f"Mean over {report.seeds} seeds; the band spans them. Step size {report.step_size:g} / sqrt(T).",
        header=_HEADER,
        rows=rows,
        drawing=drawing,
    )
