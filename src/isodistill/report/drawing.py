"""From a matplotlib figure to an SVG that lives inside the page and follows its colours.

Colours are drawn as stand-ins and exchanged for the page's own (CSS variables), so a chart is
readable in the light and in the dark theme and in print. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"
"""Stand-in for the text colour."""

RULE = "#010204"
"""Stand-in for the colour of grid lines."""

SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
"""Stand-ins for the runs' colours, in the order of the runs; they repeat after eight."""

HATCHES = ("", "//", "\\\\", "xx", "--", "||", "++", "/")
"""Fillings that tell the runs apart without colour; lines only, since dots and circles swell the page."""

LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1, 1, 1)))
"""Line styles that tell the runs apart without colour."""

_VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
# Typed loosely: matplotlib's list of setting names differs from version to version.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "isodistill",
    "text.parse_math": False,  # a run may be called $x$
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": RULE,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart.

    Attributes:
        svg: The inline SVG.
        label: What it shows, in words, for readers who do not see it.
        caption: The caption.
    """

    svg: str
    label: str
    caption: str


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Opens a figure in the report's style, without touching the caller's settings or pyplot.

    Args:
        width: Inches.
        height: Inches.

    Yields:
        The figure. Turn it into SVG inside the block.
    """
    with matplotlib.rc_context(_SETTINGS):
        yield Figure(figsize=(width, height))


def to_svg(drawing: Figure, name: str) -> str:
    """Renders a figure as inline SVG.

    Args:
        drawing: The figure.
        name: Prefix of its ids, unique in the page.

    Returns:
        An ``<svg>`` element without namespaces, metadata or fixed size, with the page's colours.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A style element would reach beyond the chart; the page's own sheet sets the line joins.
    text = re.sub(r"<(metadata|style)\b[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None  # matplotlib always writes one
    text = f'<svg {box[0]} focusable="false" aria-hidden="true">{body}'
    # Ids repeat from figure to figure, and an id may stand once in a page.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("font-family: 'DejaVu Sans', sans-serif", "font-family: system-ui, sans-serif")


def thin(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """Averages neighbouring points of a curve, so that a long run does not swell the page.

    Args:
        points: ``(x, y)`` in the order of x.
        most: The most points to keep.

    Returns:
        At most `most` points, each the mean of its neighbourhood.
    """
    if len(points) <= most:
        return points
    size = -(-len(points) // most)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]
