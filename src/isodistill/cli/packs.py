"""`isodistill packs`: the domain packs and what is wrong with them."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Domain packs: the words and turns of phrase of each domain.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Domain packs: the words and turns of phrase of each domain."""


@app.command()
def check(
    packs: Annotated[
        list[str] | None, typer.Argument(help="Pack names, nonce:SEED or YAML files. Default: all built-in packs.")
    ] = None,
) -> None:
    """Lints packs: schema, words, grammar, names, negations, relations, and sentences that read in two ways."""
    from rich.markup import escape
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.isomers.lint import lint
    from isodistill.isomers.packs import available_packs

    table = Table("pack", "individuals", "predicates", "relations", "fewest templates", "findings")
    found = 0
    for source in packs or available_packs():
        pack, findings = lint(source)
        found += len(findings)
        for finding in findings:
            told = f"{source}: {finding.rule}, {finding.place}: {finding.problem}"
            console().print(escape(told), highlight=False, soft_wrap=True)
        if pack is not None:
            counts = (len(pack.individuals), len(pack.properties), len(pack.relations))
            fewest = min(len(templates) for templates in pack.templates.values())
            table.add_row(escape(pack.id), *(str(count) for count in (*counts, fewest, len(findings))))
    console().print(table)
    if found:
        raise typer.Exit(1)
