"""How the entries of the mask are spread over [0, 1], and how that changes."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from isodistill.report.drawing import LINES, WIDTH, Chart, figure, series, short
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary

_PARTS = ("first third of the steps", "middle third", "last third")
_MOST = 6


def histogram_chart(panel: Panel) -> Chart | None:
    """Draws the mask's histogram in three parts of the training.

    Args:
        panel: The panel; at most six groups are drawn, the others stand in the data.

    Returns:
        A plot for each part of the steps, a line for each group; ``None`` if no run recorded a histogram.
    """
    found = {label: parts for label, runs in panel.groups.items() if (parts := mask_histogram(runs)) is not None}
    if not found:
        return None
    order = list(panel.groups)
    shown = list(found)[:_MOST]
    with figure(WIDTH, 2.3 + 0.17 * -(-len(shown) // 2)) as drawing:
        row = drawing.subplots(1, 3, sharey=True)
        for part, (axes, title) in enumerate(zip(row, _PARTS, strict=True)):
            for label in shown:
                shares, position = found[label][part], order.index(label)
                axes.stairs(
                    shares,
                    np.linspace(0, 1, len(shares) + 1),
                    edgecolor=series(position),
                    linestyle=LINES[position % len(LINES)],
                    linewidth=1.4,
                    label=short(label) if part == 0 else None,
                )
            axes.set_title(title, size=8)
            axes.set_xticks([0, 0.5, 1])
        row[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        row[0].set_ylabel("entries")
        row[1].set_xlabel("mask (0 = damped away, 1 = kept)")
        drawing.legend(loc="outside upper left", ncols=2, handlelength=3.5)
    said = "; ".join(
        f"{label}, {title}: {100 * float(parts[part][-1]):.0f}% of the entries in the highest class, "
        f"{100 * float(parts[part][0]):.0f}% in the lowest"
        for label, parts in found.items()
        for part, title in enumerate(_PARTS)
    )
    return Chart(
        "histogram",
        f"Histograms of the mask. {said}.",
        "How the entries of the mask of all adapted layers are spread, means over the steps of each part"
        + (" and over training seeds." if any(len(runs) > 1 for runs in panel.groups.values()) else "."),
        ["group", "part", "from", "to", "share"],
        [
            [label, title, place / len(parts[part]), (place + 1) / len(parts[part]), float(share)]
            for label, parts in found.items()
            for part, title in enumerate(_PARTS)
            for place, share in enumerate(parts[part])
        ],
        drawing,
    )


def mask_histogram(runs: list[RunSummary]) -> NDArray[np.float64] | None:
    """Averages recorded histograms.

    Args:
        runs: The runs of a group; ``mask_histogram`` in a row of their diagnostics holds how many entries of the mask
            fall into each of the equal parts of [0, 1].

    Returns:
        The share of the entries by part of the steps and class, shape (3, classes), each row summing to 1; ``None`` if
        fewer than three steps recorded one.
    """
    rows = []
    for run in runs:
        recorded = [row["mask_histogram"] for row in run.diagnostics if isinstance(row.get("mask_histogram"), list)]
        counts = [np.asarray(each, dtype=np.float64) for each in recorded if each and sum(each) > 0]
        if len(counts) >= len(_PARTS) and len({len(each) for each in counts}) == 1:
            shares = np.stack([each / each.sum() for each in counts])
            rows.append(np.stack([part.mean(axis=0) for part in np.array_split(shares, len(_PARTS))]))
    if not rows or len({row.shape for row in rows}) > 1:
        return None
    return np.mean(np.stack(rows), axis=0, dtype=np.float64)
