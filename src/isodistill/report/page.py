"""The report: one self-contained page that can be mailed, printed and read without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from isodistill.files import write_text_atomically
from isodistill.report import charts, tables
from isodistill.report.drawing import Chart
from isodistill.report.example import pick_example
from isodistill.report.runs import RunSummary, check_runs
from isodistill.report.verdict import judge, percent, points

# Characters that no page may hold, and half characters that cannot be written as UTF-8.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def build_report(
    runs: Sequence[RunSummary],
    out: Path,
    title: str = "isodistill report",
    rerun_command: str = "",
    baseline: str = "erm",
) -> Path:
    """Writes the report on a few runs as one HTML file.

    The page loads nothing: style and charts are inside, there is no script, and a content security
    policy forbids what model output might try. Everything that comes from a model, a data set or a
    configuration is escaped.

    Args:
        runs: The runs, in the order in which they are shown.
        out: The file to write; a folder of that name is not taken.
        title: The page's title.
        rerun_command: The command that makes the runs and this page again; shown as it is.
        baseline: The name of the baseline run, or else its method.

    Returns:
        The path of the file.

    Raises:
        IsodistillError: If there is no run, two share a name, or they were evaluated on different data.
    """
    return write_text_atomically(Path(out), render_report(runs, title, rerun_command, baseline))


def render_report(runs: Sequence[RunSummary], title: str, rerun_command: str, baseline: str) -> str:
    """Renders the report as HTML.

    Args:
        runs: The runs.
        title: The page's title.
        rerun_command: The command shown under "how to rerun".
        baseline: The name of the baseline run, or else its method.

    Returns:
        The page.

    Raises:
        IsodistillError: If there is no run, two share a name, or they were evaluated on different data.
    """
    check_runs(runs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("isodistill.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points)
    settings, differing = tables.settings_table(runs)
    drawn: dict[str, Chart | None] = {
        "accuracy": charts.accuracy_chart(runs),
        "consistency": charts.consistency_chart(runs),
        "conflict": charts.conflict_chart(runs),
        "mask": charts.mask_chart(runs),
        "learning": charts.learning_chart(runs),
    }
    page = environment.get_template("report.html.j2").render(
        title=title,
        verdict=judge(runs, baseline),
        accuracy=tables.accuracy_table(runs),
        measures=tables.measures_table(runs),
        consistency=tables.consistency_table(runs),
        domains=tables.domain_table(runs),
        settings=settings,
        differing=differing,
        charts=drawn,
        # The only text that is not escaped by the template: matplotlib escaped what went into it.
        svg={name: Markup(chart.svg) for name, chart in drawn.items() if chart is not None},
        example=pick_example(runs),
        rerun_command=rerun_command,
        version=runs[0].evaluation.versions.get("isodistill", ""),
    )
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", page)
