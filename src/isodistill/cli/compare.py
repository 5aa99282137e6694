"""`isodistill compare`: a fair study of methods in one command."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from rich.table import Table

    from isodistill.study.results import Result
    from isodistill.study.run import Outcome
    from isodistill.study.timing import Estimate


def compare(
    study: Annotated[Path, typer.Argument(help="The study, a YAML file; see examples/study.yaml.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder. Default: runs/NAME.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes; they share the cores.")] = 1,
    shard: Annotated[
        str, typer.Option(help="i/n: only every n-th run of each stage, from the i-th (0 to n-1).")
    ] = "0/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the runs and estimate their time.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed.")] = False,
    archive: Annotated[
        Path | None,
        typer.Option(
            help="A folder of finished runs in small files, read before and added to after, to go on elsewhere."
        ),
    ] = None,
) -> None:
    """Compares methods over seeds, data and students; whatever is finished is kept, so run it again to go on."""
    part = _shard(shard)
    from isodistill.study.config import load_study

    config = load_study(study)
    out = out or Path("runs") / config.name
    from isodistill.cli.progress import bars, console
    from isodistill.study.worker import quiet_libraries

    quiet_libraries()
    if dry_run:
        from isodistill.study.processes import threads_of
        from isodistill.study.run import prepare_study
        from isodistill.study.timing import estimate, measure_times

        with bars() as progress:
            folder, planner = prepare_study(config, out, progress)
            timings = measure_times(folder, planner, threads_of(workers), progress)
        console().print(_estimate_table(estimate(folder, planner, timings), workers * part[1]))
        from isodistill.students import to_be_pretrained

        if waiting := sum(map(to_be_pretrained, config.students)):
            console().print(f"and before it the pretraining of {waiting} lab student(s), once, some minutes each")
        return
    from isodistill.study.run import run_study

    with bars() as progress:
        outcome = run_study(
            config, out, workers=workers, shard=part, retry_failed=retry_failed, archive=archive, progress=progress
        )
    _tell(outcome)
    if outcome.failed:
        sys.exit(1)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not int(match[1]) < int(match[2]):
        raise IsodistillError(f"--shard {text!r} is not a share: write i/n with i from 0 to n-1, for example 0/2")
    return int(match[1]), int(match[2])


def _tell(outcome: Outcome) -> None:
    from isodistill.cli.progress import console

    screen = console()
    for result in (*outcome.results.results, *outcome.results.pooled) if outcome.results else ():
        screen.print(results_table(result))
    for slug, reason in outcome.failed.items():
        screen.print(f"failed: {slug}: {reason}", markup=False, highlight=False)
    if outcome.failed:
        screen.print(
            f"{len(outcome.failed)} run(s) failed; each folder has log.txt. --retry-failed runs them again.",
            markup=False,
        )
    if outcome.missing:
        stage = "trials" if outcome.stage == "trial" else "final runs"
        screen.print(
            f"{outcome.missing} of the {stage} are missing and belong to other shards or processes: run the same"
            f" command again once they stand in {outcome.folder.root}/cells",
            markup=False,
            highlight=False,
        )
    if outcome.results:
        screen.print(f"written: {outcome.folder.root / 'results.json'}", markup=False, highlight=False)


def results_table(result: Result) -> Table:
    """Lays out one comparison: out-of-distribution accuracy and the paired difference to the baseline.

    Args:
        result: The comparison.

    Returns:
        The table; a row is bold only where the difference is significant.
    """
    from rich.markup import escape
    from rich.table import Table

    from isodistill.statistics.study import LEVEL

    title = f"{result.data}, {result.student}: hyperparameters {_RULES.get(result.rule, result.rule)}"
    if result.effects:
        title = f"{title}; {result.effects[0].title}"
    table = Table(title=escape(title), caption=f"bold: p <= {LEVEL} after Holm's correction", title_justify="left")
    if not result.effects:
        table.caption = "the baseline has no finished run"
        return table
    measure = result.effects[0]
    for head in ("arm", "%", f"points above {measure.baseline}", "p (Holm)", "seeds"):
        table.add_column(escape(head), overflow="fold", justify="left" if head == "arm" else "right")
    for label, group in measure.groups.items():
        effect = measure.effects.get(label)
        name = escape(label) + (" [dim](control)[/dim]" if label in result.controls else "")
        mean = _interval(100 * group.mean, group.low, group.high, "")
        if effect is None:
            table.add_row(name, mean, "", "", str(len(group.by_seed)))
            continue
        difference = _interval(100 * effect.effect.value, effect.effect.low, effect.effect.high, "+")
        style = "bold" if effect.significant else None
        table.add_row(name, mean, difference, f"{effect.p_holm:.3f}", str(effect.seeds), style=style)
    return table


_RULES = {
    "as given": "as given",
    "validation": "chosen on validation sets of the training domains",
    "leave_one_domain_out": "chosen by leaving one training domain out",
    "oracle": "chosen on test sets laid aside (oracle)",
}


def _interval(value: float, low: float | None, high: float | None, sign: str) -> str:
    if low is None or high is None:
        return f"{value:{sign}.1f}"
    return rf"{value:{sign}.1f} \[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _estimate_table(estimates: list[Estimate], at_once: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="what is left, at most", title_justify="left")
    for head in ("stage", "arm", "runs", "left", "minutes"):
        table.add_column(head, overflow="fold", justify="left" if head in ("stage", "arm") else "right")
    for row in estimates:
        table.add_row(row.stage, escape(row.arm), str(row.cells), str(row.left), f"{row.seconds / 60:.1f}")
    total = sum(row.seconds for row in estimates) / 60
    runs, left = sum(row.cells for row in estimates), sum(row.left for row in estimates)
    table.add_section()
    table.add_row("all", "", str(runs), str(left), f"{total:.1f}")
    if at_once > 1:
        table.add_row(f"with {at_once} workers", "", "", "", f"{total / at_once:.1f}")
    return table
