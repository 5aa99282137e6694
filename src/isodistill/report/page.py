"""The report: one self-contained page that can be mailed, printed and read without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from isodistill.files import write_text_atomically
from isodistill.report import tables
from isodistill.report.drawing import Chart
from isodistill.report.example import pick_example
from isodistill.report.figures import draw_figures
from isodistill.report.figures.scaling import scaling_chart
from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary
from isodistill.report.verdict import judge

MOST_BYTES = 3_000_000
"""What the page stays under: the data behind the figures are left to the files beside it where they do not fit."""

# Characters that no page may hold, and half characters that cannot be written as UTF-8.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_LARGEST_LINK = 60_000  # bytes of a file that the page offers itself


def build_report(
    runs: Sequence[RunSummary],
    out: Path,
    title: str = "isodistill report",
    rerun_command: str = "",
    baseline: str = "erm",
) -> Path:
    """Writes the report on a few runs as one HTML file.

    Args:
        runs: The runs, in the order in which they are shown; those that differ by seed alone form one group.
        out: The file to write; a folder of that name is not taken.
        title: The page's title.
        rerun_command: The command that makes the runs and this page again; shown as it is.
        baseline: The name of the baseline run, or else its method.

    Returns:
        The path of the file.

    Raises:
        IsodistillError: If there is no run, two share a name, or they were evaluated on different data.
    """
    return build_pages([panel_of_runs(runs, baseline)], out, title, rerun_command)


def build_pages(
    panels: Sequence[Panel], out: Path, title: str = "isodistill report", rerun_command: str = "", config: str = ""
) -> Path:
    """Writes the report on one or several panels as one HTML file.

    The page loads nothing: style and charts are inside, there is no script, and a content security
    policy forbids what model output might try. Everything that comes from a model, a data set or a
    configuration is escaped.

    Args:
        panels: What is compared, at least one panel.
        out: The file to write.
        title: The page's title.
        rerun_command: The command that makes the runs and this page again; shown as it is.
        config: The study's configuration as text, or empty.

    Returns:
        The path of the file.

    Raises:
        IsodistillError: If the runs of a panel were evaluated on different data.
    """
    return write_text_atomically(Path(out), render_report(panels, title, rerun_command, config))


def render_report(panels: Sequence[Panel], title: str, rerun_command: str = "", config: str = "") -> str:
    """Renders the report as HTML.

    Args:
        panels: What is compared.
        title: The page's title.
        rerun_command: The command shown under "how to rerun".
        config: The study's configuration, or empty.

    Returns:
        The page.

    Raises:
        IsodistillError: If the runs of a panel were evaluated on different data.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("isodistill.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    scaling = scaling_chart(panels)
    drawn = [draw_figures(panel) for panel in panels]
    parts = [_part(panel, place, charts) for place, (panel, charts) in enumerate(zip(panels, drawn, strict=True))]
    versions = panels[0].runs[0].evaluation.versions
    text = ""
    for largest in (_LARGEST_LINK, _LARGEST_LINK // 10, 0):
        for part, charts in zip(parts, drawn, strict=True):
            part["charts"] = {name: _shown(chart, part["prefix"], largest) for name, chart in charts.items()}
        text = template.render(
            title=title,
            parts=parts,
            scaling=_shown(scaling, "all-", largest) if scaling else None,
            rerun_command=rerun_command,
            config=config,
            version=versions.get("isodistill", ""),
            arrows=tables.ARROWS,
        )
        text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
        if len(text.encode("utf-8")) < MOST_BYTES:
            break
    return text


def _part(panel: Panel, place: int, charts: dict[str, Chart]) -> dict[str, Any]:
    verdict = judge(panel)
    settings = tables.settings_table(panel)
    differing = tables.Table(settings.header, [settings.rows[row] for row in sorted(settings.marked)])
    return {
        "title": panel.title,
        "prefix": f"p{place + 1}-",
        "verdict": verdict,
        "differences": tables.difference_table(verdict),
        "accuracy": tables.accuracy_table(panel),
        "measures": tables.measures_table(panel),
        "effects": [(measure, tables.measure_table(measure)) for measure in panel.effects],
        "domains": tables.domain_table(panel),
        "settings": settings,
        "differing": differing,
        "example": pick_example(panel.leads),
        "many": len(panel.groups) > 4,
        "replicates": panel.replicates,
        "charts": charts,
    }


def _shown(chart: Chart, prefix: str, largest: int) -> dict[str, Any]:
    """What the template needs of a chart; its SVG is the only text that is not escaped: matplotlib has done it."""
    files = {"CSV": ("csv", "text/csv", chart.csv()), "SVG": ("svg", "image/svg+xml", chart.svg())}
    links = [
        {
            "name": name,
            "file": f"{prefix}{chart.name}.{ending}",
            "url": f"data:{kind};base64,{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}",
        }
        for name, (ending, kind, text) in files.items()
        if len(text) <= largest
    ]
    rows = [[_cell(cell) for cell in row] for row in chart.rows] if len(chart.rows) <= 60 else []
    return {
        "name": chart.name,
        "label": chart.label,
        "caption": chart.caption,
        "svg": Markup(chart.inline_svg(prefix)),
        "links": links,
        "table": tables.Table(chart.header, rows) if rows else None,
    }


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
