"""`isodistill import`: one subcommand for each source, and one for any data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from isodistill.importers.write import ImportReport

app = typer.Typer(help="Data from elsewhere, as isomer sets or rows tagged with a domain.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="A local file or folder, or a hub id.")]
Out = Annotated[Path, typer.Option(help="Directory to write.")]
Config = Annotated[str | None, typer.Option(help="Configuration of a hub data set that has several.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an existing data set.")]


@app.command()
def folio(
    source: Source,
    out: Out,
    config: Config = None,
    timeout_ms: Annotated[int, typer.Option(min=1, help="Limit of each question to z3, in milliseconds.")] = 2000,
    verified_only: Annotated[bool, typer.Option(help="Drop rows whose label cannot be checked.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """FOLIO: labels checked by z3; rows whose label it contradicts are dropped and named."""
    from isodistill.cli.progress import bars
    from isodistill.importers import Origin, import_folio, read_source, write_import
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    read = read_source(source, config)
    with bars() as progress:
        splits = {
            split: import_folio(rows, split, f"{source}, split {split!r}", timeout_ms, verified_only, progress)
            for split, rows in read.items()
        }
    about = "Stories written by people; each prompt gives premises and a conclusion to judge."
    origin = Origin("FOLIO", source, "cc-by-sa-4.0", about, {"timeout_ms": timeout_ms, "verified_only": verified_only})
    _tell(write_import(out, splits, origin, "sets", overwrite))


@app.command()
def logicbench(
    source: Annotated[str, typer.Argument(help="The local folder BQA, or a hub id.")],
    out: Out,
    members: Annotated[int, typer.Option(min=1, help="Scenarios in a set.")] = 4,
    overwrite: Overwrite = False,
) -> None:
    """LogicBench (BQA): scenarios of one inference rule, grouped to isomer sets."""
    from isodistill.importers import Origin, import_logicbench, local_folder, write_import
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    splits = import_logicbench(local_folder(source), members)
    about = "Scenarios in everyday English; a question is asked of several scenarios of one inference rule."
    origin = Origin("LogicBench BQA", source, "mit", about, {"members": members})
    _tell(write_import(out, splits, origin, "sets", overwrite))


@app.command()
def gsm8k(source: Source, out: Out, config: Config = "main", overwrite: Overwrite = False) -> None:
    """GSM8K: word problems with worked solutions; the final number is the answer."""
    from isodistill.importers import Origin, import_gsm8k, read_source, write_import
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    read = read_source(source, config)
    splits = {split: import_gsm8k(rows, split, f"{source}, split {split!r}") for split, rows in read.items()}
    origin = Origin("GSM8K", source, "mit", "Grade-school word problems with worked solutions.", {})
    _tell(write_import(out, splits, origin, "sets", overwrite))


@app.command(name="reasoning-gym")
def reasoning_gym(
    tasks: Annotated[str, typer.Argument(help="Tasks, comma-separated; each is a domain.")],
    out: Out,
    train: Annotated[int, typer.Option(min=0, help="Training problems of each task.")] = 500,
    test: Annotated[int, typer.Option(min=0, help="Test problems of each task.")] = 200,
    option: Annotated[list[str] | None, typer.Option(help="An option of the tasks, name=value; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal problems.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """reasoning-gym: generated problems of any task; each row keeps what the task's own scorer needs."""
    from isodistill.cli.values import comma_list, family_options
    from isodistill.importers import Origin, import_reasoning_gym, write_import
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    names, options = comma_list(tasks), family_options(option or [])
    sizes = {split: size for split, size in (("train", train), ("test", test)) if size}
    splits = import_reasoning_gym(names, sizes, seed, options)
    about = "Generated problems; the column `formal` holds what the task's own scorer needs."
    settings = {"tasks": list(names), "seed": seed, "options": options, **sizes}
    origin = Origin(f"reasoning-gym: {', '.join(names)}", "reasoning-gym", "apache-2.0", about, settings)
    # One task is one domain, so that each problem is a whole set; several share no problem.
    _tell(write_import(out, splits, origin, "sets" if len(names) == 1 else "rows", overwrite))


@app.command()
def isosci(
    out: Out,
    source: Source = "isosci/isosci",
    config: Config = None,
    mapping: Annotated[str | None, typer.Option(help="Keep one mapping, such as physics_to_chemistry.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """IsoSci: pairs of science problems with one structure in two domains."""
    from isodistill.importers import Origin, import_isosci, read_source, write_import
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    splits = import_isosci(read_source(source, config), source, mapping)
    about = "Science problems; those with one `set_id` have one structure, and each has an answer of its own."
    origin = Origin("IsoSci", source, "cc-by-4.0", about, {"mapping": mapping})
    _tell(write_import(out, splits, origin, "rows", overwrite))


@app.command()
def dataset(
    source: Source,
    out: Out,
    prompt: Annotated[str, typer.Option(help="Column of the problem's text.")] = "prompt",
    completion: Annotated[str, typer.Option(help="Column of what the student is to write.")] = "completion",
    domain: Annotated[str, typer.Option(help="Column of the domain.")] = "domain",
    set_id: Annotated[str | None, typer.Option(help="Column of the isomer set. Default: no sets (unpaired).")] = None,
    answer: Annotated[str | None, typer.Option(help="Column of the answer. Default: the line 'Answer: X'.")] = None,
    domains: Annotated[str, typer.Option(help="Keep only these domains, comma-separated.")] = "",
    config: Config = None,
    license: Annotated[str, typer.Option(help="The licence, for the card.")] = "unknown",
    overwrite: Overwrite = False,
) -> None:
    """Any data set with columns for prompt, completion and domain, with or without sets."""
    from isodistill.cli.values import comma_list
    from isodistill.importers import Columns, Origin, import_columns, read_source, write_import
    from isodistill.importers.write import shared_answers
    from isodistill.isomers.store import check_target

    check_target(out, overwrite)
    columns, wanted = Columns(prompt, completion, domain, set_id, answer), comma_list(domains)
    splits = {
        split: import_columns(rows, f"{source}, split {split!r}", columns, wanted)
        for split, rows in read_source(source, config).items()
    }
    paired = all(shared_answers(imported.problems) for imported in splits.values())
    origin = Origin(source, source, license, "", {"domains": list(wanted), "columns": vars(columns)})
    _tell(write_import(out, splits, origin, "sets" if paired else "rows", overwrite))


def _tell(report: ImportReport) -> None:
    from rich.markup import escape

    from isodistill.cli.progress import console

    lines = []
    for split, problems in report.problems.items():
        what = f"{report.rows[split]} isomer sets, " if report.layout == "sets" else ""
        lines.append(f"{split}: {what}{problems} problems")
        lines += [f"  dropped {count}: {reason}" for reason, count in report.dropped[split].items()]
    lines += [*report.notes, f"domains: {', '.join(report.domains)}", f"written: {report.out}"]
    for line in lines:
        console().print(escape(line), highlight=False, soft_wrap=True)
