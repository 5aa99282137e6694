"""From a matplotlib figure to an SVG that lives inside the page and follows its colours, and to files of their own.

Colours are drawn as stand-ins and exchanged for the page's own (CSS variables), so a chart is
readable in the light and in the dark theme and in print. Text stays text.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

WIDTH = 4.4
"""Inches; narrow, so that the text can still be read where the page is a phone's."""

INK = "#010203"
"""Stand-in for the text colour."""

RULE = "#010204"
"""Stand-in for the colour of grid lines."""

PAPER = "#010205"
"""Stand-in for the ground that the chart stands on."""

SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
"""Stand-ins for the groups' colours, in their order; they repeat after eight."""

LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 1, 1, 1)))
"""Line styles that tell the groups apart without colour."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
"""Markers that tell the groups apart without colour."""

_VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    PAPER: "var(--card)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
# The page's own light colours (report.css), for the files.
_LIGHT = dict(
    zip(
        (INK, RULE, PAPER, *SERIES),
        (
            "#1c2127",
            "#d4d8dd",
            "#ffffff",
            "#4c78a8",
            "#e8862e",
            "#3f9b6c",
            "#b46ac0",
            "#c4a62c",
            "#58a7b8",
            "#c85a5f",
            "#8c8c8c",
        ),
        strict=True,
    )
)
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
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": RULE,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "font.size": 8.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


def marker(axes: Axes, x: float, y: float, position: int, *, size: float = 6, label: str | None = None) -> None:
    """Draws a group's marker: its place among the groups decides form and colour.

    Args:
        axes: Where.
        x: The abscissa of its middle.
        y: The ordinate of its middle.
        position: The group's place.
        size: Its diameter in points; the edge is a tenth of it.
        label: The group's name in the legend, or ``None``.
    """
    axes.plot(
        [x],
        [y],
        marker=MARKERS[position % len(MARKERS)],
        markersize=size,
        linestyle="none",
        markerfacecolor=series(position),
        markeredgecolor=INK,
        markeredgewidth=size / 10,
        label=label,
    )


def numbered_markers(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Draws groups' markers, each with its number before its name in the legend.

    Args:
        axes: Where.
        points: Abscissa, ordinate and name of each group; the first has the number 1.
    """
    for position, (x, y, label) in enumerate(points):
        marker(axes, x, y, position, label=f"{position + 1} {short(label)}")


def place_numbers(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Writes each group's number beside its marker where it covers no other marker or number.

    To be called last, once legend and limits stand: the layout decides how near two markers are.

    Args:
        axes: Where.
        points: What `numbered_markers` was given.
    """
    drawing = axes.figure
    assert isinstance(drawing, Figure)  # no chart here has a figure inside a figure
    drawing.draw_without_rendering()
    scale = 72 / drawing.dpi
    places = [(x * scale, y * scale) for x, y in axes.transData.transform([point[:2] for point in points])]
    taken = [(x - 3.5, y - 3.5, x + 3.5, y + 3.5) for x, y in places]  # boxes in points: markers, then numbers
    for position, (x, y) in enumerate(places):
        text = str(position + 1)
        half_width, half_height = 2.6 * len(text), 3.0  # of digits of 8 points
        boxes = []
        for away in (8.0, 13.0, 18.0, 24.0):
            for angle in (45, -45, 135, -135, 90, -90, 0, 180):
                middle_x = x + away * math.cos(math.radians(angle))
                middle_y = y + away * math.sin(math.radians(angle))
                boxes.append(
                    (middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height)
                )
        box = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))  # the first of the freest
        taken.append(box)
        offset = ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y)
        far = math.hypot(*offset) > 10
        axes.annotate(
            text,
            points[position][:2],
            offset,
            textcoords="offset points",
            ha="center",
            va="center",
            color=INK,
            size=8,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.4, "shrinkA": 3, "shrinkB": 2} if far else None,
        )


def _overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, wide) * max(0.0, high)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart with its data.

    Attributes:
        name: A short name, for ids and files.
        label: What it shows, in words, for readers who do not see it.
        caption: The caption.
        header: The names of the data's columns.
        rows: The data that was drawn; ``None`` where a number is missing.
        drawing: The figure.
    """

    name: str
    label: str
    caption: str
    header: list[str]
    rows: list[list[str | float | int | None]]
    drawing: Figure

    def inline_svg(self, prefix: str = "") -> str:
        """Renders the chart for the page.

        Args:
            prefix: What its ids start with, unique in the page.

        Returns:
            An ``<svg>`` element without namespaces, metadata or fixed size, with the page's colours.
        """
        text = self._svg()
        head, body = text.split(">", 1)
        box = re.search(r'viewBox="[^"]*"', head)
        assert box is not None  # matplotlib always writes one
        text = f'<svg {box[0]} focusable="false" aria-hidden="true">{body}'
        # Ids repeat from figure to figure, and an id may stand once in a page.
        name = f"{prefix}{self.name}"
        text = re.sub(r'\bid="', f'id="{name}-', text)
        text = re.sub(r"url\(#", f"url(#{name}-", text)
        text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
        text = re.sub(r'(?<=[">])\s*\n\s*(?=<)', "", text)
        for colour, variable in _VARIABLES.items():
            text = text.replace(colour, variable)
        return text.replace("font-family: 'DejaVu Sans', sans-serif", "font-family: system-ui, sans-serif")

    def svg(self) -> str:
        """Renders the chart as an SVG file with a white ground and the page's light colours."""
        text = self._svg()
        for colour, light in _LIGHT.items():
            text = text.replace(colour, light)
        end = text.index(">") + 1
        return f'{text[:end]}<rect width="100%" height="100%" fill="#ffffff"/>{text[end:]}'

    def png(self, dpi: int = 200) -> bytes:
        """Renders the chart as a PNG file with a white ground.

        Args:
            dpi: Pixels in an inch.

        Returns:
            The file's bytes.
        """
        buffer = io.BytesIO()
        with matplotlib.rc_context(_SETTINGS):
            undo = _repaint(self.drawing, _LIGHT)
            self.drawing.set_dpi(dpi)
            FigureCanvasAgg(self.drawing).print_png(buffer, metadata={"Software": None})
            for write, value in reversed(undo):
                write(value)
        return buffer.getvalue()

    def csv(self) -> str:
        """Writes the drawn data as CSV (see `plain_cell`)."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([plain_cell(cell) for cell in row] for row in self.rows)
        return buffer.getvalue()

    def _svg(self) -> str:
        buffer = io.StringIO()
        with matplotlib.rc_context(_SETTINGS):
            FigureCanvasSVG(self.drawing).print_svg(
                buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
            )
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        # A style element would reach beyond the chart; the page's own sheet sets the line joins.
        return re.sub(r"<(metadata|style)\b[^>]*>.*?</\1>", "", text, flags=re.DOTALL)


def plain_cell(cell: str | float | int | None) -> str | float | int | None:
    """Keeps a spreadsheet from reading text as a formula.

    Args:
        cell: A cell of a CSV file.

    Returns:
        The cell; text that begins like a formula gets a leading apostrophe.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Opens a figure in the report's style, without touching the caller's settings or pyplot.

    Args:
        width: Inches.
        height: Inches.

    Yields:
        The figure.
    """
    with matplotlib.rc_context(_SETTINGS):
        yield Figure(figsize=(width, height))


def short(name: str, most: int = 22) -> str:
    """Cuts a name that would not fit beside an axis.

    Args:
        name: The name.
        most: The most characters.

    Returns:
        The name, or its beginning and an ellipsis.
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def series(position: int) -> str:
    """The stand-in for a group's colour.

    Args:
        position: The group's place.

    Returns:
        The colour.
    """
    return SERIES[position % len(SERIES)]


def thin(points: Sequence[tuple[float, float]], most: int = 200) -> list[tuple[float, float]]:
    """Averages neighbouring points of a curve, so that a long run does not swell the page.

    Args:
        points: ``(x, y)`` in the order of x.
        most: The most points to keep.

    Returns:
        At most `most` points, each the mean of its neighbourhood.
    """
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // most)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _repaint(drawing: Figure, colours: dict[str, str]) -> list[tuple[Callable[[Any], Any], Any]]:
    """Exchanges colours on everything that is drawn, whatever setters it has; returns what undoes it."""
    undo: list[tuple[Callable[[Any], Any], Any]] = []
    for artist in drawing.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor", "hatchcolor"):
            read, write = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if read is None or write is None:
                continue
            value = read()
            try:
                old = to_hex(value[0] if getattr(value, "ndim", 1) > 1 else value)
            except (ValueError, TypeError, IndexError):
                continue  # no colour, or a name such as "auto"
            if old in colours:
                write(colours[old])
                undo.append((write, value))
    return undo
