"""`isodistill audit`: whether a data set is what it claims to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from isodistill.isomers.audit import AuditReport
    from isodistill.isomers.probes import ProbeResult
    from isodistill.isomers.surface import SurfaceAudit


FAULTS_SHOWN = 20
"""How many faults are printed; the rest is counted."""


def audit(
    data: Annotated[Path, typer.Argument(help="A data set.")],
    verify: Annotated[bool, typer.Option(help="Prove every set and read every text back again.")] = True,
) -> None:
    """Audits a data set: proofs, duplicates, balance, and what the surface tells; exit code 1 if it has a fault."""
    from isodistill.cli.progress import bars, console
    from isodistill.isomers.audit import audit_dataset

    with bars() as progress:
        report = audit_dataset(data, verify, progress)
    _print_tables(report)
    screen = console()
    for fault in report.faults[:FAULTS_SHOWN]:
        screen.print(f"fault: {escape(fault)}", highlight=False, soft_wrap=True)
    if len(report.faults) > FAULTS_SHOWN:
        screen.print(f"... and {len(report.faults) - FAULTS_SHOWN} more faults")
    proved = f"{report.verified} sets proved and read back, " if verify else "sets not proved, "
    if report.without_proof:
        proved += f"{report.without_proof} imported sets without a skeleton, so nothing to prove, "
    claim = "claims to be free of shortcuts" if report.claimed else "claims nothing about shortcuts"
    screen.print(
        f"{proved}{len(report.duplicates)} duplicates, {len(report.near_duplicates)} near-duplicates across splits, "
        f"{len(report.faults)} faults; the data set {claim}",
        highlight=False,
        soft_wrap=True,
    )
    if report.faults:
        raise typer.Exit(1)


def _print_tables(report: AuditReport) -> None:
    from rich.table import Column, Table

    from isodistill.cli.progress import console

    answers = Table("split", "sets", "answers")
    for split, counts in report.answers.items():
        told = ", ".join(f"{answer} {count}" for answer, count in sorted(counts.items()))
        answers.add_row(escape(split), str(counts.total()), escape(told))
    console().print(answers)
    # A table for each split, and an interval below its accuracy, so that 80 columns hold them.
    by_split: dict[str, list[SurfaceAudit]] = {}
    for surface in report.surfaces:
        by_split.setdefault(surface.split, []).append(surface)
    for split, surfaces in by_split.items():
        columns = ("domain", "texts", "chance", "words", "runs", "pairs", "cue shown", "length")
        table = Table(*(Column(name, overflow="fold") for name in columns), title=escape(f"split {split}"))
        for surface in surfaces:
            table.add_row(
                escape(surface.domain),
                str(surface.texts),
                f"{surface.words.chance:.1%}" if surface.words else "-",
                *(_shown(each) for each in (surface.words, surface.ngrams, surface.pairs, surface.with_cue)),
                f"{surface.length.words:+.1f} for\n{escape(surface.length.answer)}" if surface.length else "-",
            )
        console().print(table)
    unprobed: dict[str, list[str]] = {}
    for surface in report.surfaces:
        if surface.unprobed:
            unprobed.setdefault(f"split {surface.split}, not probed: {surface.unprobed}", []).append(surface.domain)
    for told, domains in unprobed.items():
        console().print(escape(f"{told} ({', '.join(domains)})"), highlight=False, soft_wrap=True)


def _shown(result: ProbeResult | None) -> str:
    return f"{result.accuracy:.0%}\n{result.low:.0%}-{result.high:.0%}" if result else "-"
