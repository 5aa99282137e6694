"""`isodistill report`: the page, its figures as files, Markdown, and the card of an adapter."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from isodistill.errors import IsodistillError

FORMATS = ("html", "md", "figures")


def report(
    paths: Annotated[list[Path], typer.Argument(help="Folders of trained and evaluated runs, or one study folder.")],
    out: Annotated[Path, typer.Option(help="The page to write; the other files stand beside it.")] = Path(
        "report.html"
    ),
    formats: Annotated[
        str, typer.Option("--format", help="Of html, md, figures (PNG, SVG and CSV), comma-separated.")
    ] = ",".join(FORMATS),
    baseline: Annotated[
        str, typer.Option(help="Name or method of the run to compare with; a study knows its own.")
    ] = "erm",
    title: Annotated[str | None, typer.Option(help="The title.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Folder of an adapter: writes its numbers into its README.md.")
    ] = None,
) -> None:
    """Builds one self-contained page that compares runs or shows a study."""
    from isodistill.cli.progress import console
    from isodistill.files import write_text_atomically
    from isodistill.report import build_pages, judge, panel_of_runs, summary_table
    from isodistill.report.files import write_figures
    from isodistill.report.folder import summarise_run
    from isodistill.report.markdown import model_card, write_markdown
    from isodistill.report.study import is_study, panels_of_study
    from isodistill.study.folder import StudyFolder

    wanted = [each.strip() for each in formats.split(",") if each.strip()]
    unknown = [each for each in wanted if each not in FORMATS]
    if unknown or not wanted:
        raise IsodistillError(f"--format {formats!r} is not known: give some of {', '.join(FORMATS)}")
    studies = [path for path in paths if is_study(path)]
    if studies and len(paths) > 1:
        raise IsodistillError(f"{studies[0]} is a study: give it alone, or run folders without it")
    if card is not None and not (card / "adapter_config.json").is_file():
        raise IsodistillError(f"--card {card} holds no adapter: give the folder of a trained run")
    config = ""
    command = shlex.join(["isodistill", "report", *map(str, paths), "--out", str(out)])
    if studies:
        study = StudyFolder.open(studies[0])
        panels = panels_of_study(study)
        config = study.config.model_dump_json(indent=1)
        title = title or f"Study {study.config.name}"
        command = f"isodistill compare STUDY.yaml --out {shlex.quote(str(studies[0]))}\n{command}"
    else:
        panels = [panel_of_runs([summarise_run(path) for path in paths], baseline)]
        title = title or "isodistill report"
    screen = console()
    written = []
    if "html" in wanted:
        written.append(build_pages(panels, out, title, command, config))
    if "md" in wanted:
        written.append(write_markdown(panels, out.with_suffix(".md"), title, command))
    if "figures" in wanted:
        folder = out.with_name(f"{out.stem}_files")
        write_figures(panels, folder)
        written.append(folder)
    if card is not None:
        text = model_card(summarise_run(card), panels[0] if len(panels) == 1 else None, command)
        written.append(write_text_atomically(card / "README.md", text))
    for panel in panels:
        screen.print(summary_table(panel))
        screen.print(judge(panel).sentence, markup=False)
    screen.print(f"report: {', '.join(str(path) for path in written)}", markup=False)
