"""Writes the tables of what generation costs into docs/isomers.md from the raw results: `make performance`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from isodistill.bench.generation import PARTS, GenerationCosts, GenerationRun
from isodistill.files import write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(?P<start><!-- generation (?P<part>\w+) -->\n).*?(?P<end><!-- end -->)", re.S)


def main(out: Path = ROOT / "docs") -> None:
    """Fills every marked block of ``isomers.md``.

    Args:
        out: The folder of the page and of its raw results, ``generation-PART.json``.
    """
    page = out / "isomers.md"

    def fill(block: re.Match[str]) -> str:
        if block["part"] not in PARTS:
            sys.exit(f"{page.name} shows the part {block['part']}, and there is none of that name")
        file = out / f"generation-{block['part']}.json"
        lines = ["Not measured."]
        if file.is_file():
            lines = tables(GenerationCosts.model_validate_json(file.read_text(encoding="utf-8")))
        return block["start"] + "\n".join(lines) + "\n" + block["end"]

    write_text_atomically(page, _BLOCK.sub(fill, page.read_text(encoding="utf-8")))


def tables(costs: GenerationCosts) -> list[str]:
    """Writes a part of the benchmark as Markdown.

    Args:
        costs: The part.

    Returns:
        The lines: where it ran, a table of costs with a row for each generation, and one of surfaces with a row for
        each domain.
    """
    libraries = ", ".join(f"{name} {version}" for name, version in costs.versions.items() if name != "python")
    lines = [
        f"Seed {costs.seed}, domains {', '.join(costs.domains)}; {costs.processor}, Python {costs.versions['python']}, "
        f"{libraries}.",
        "",
        "| family | sets | sets per CPU second | audit, CPU seconds | draws | rejected | why | peak memory, MiB | "
        f"below {costs.limit_mib:.0f} |",
        "|---" * 9 + "|",
        *(_cost_row(run, costs.limit_mib) for run in costs.runs),
        "",
        "| family | domain | texts | chance | words | runs of words | pairs of words | largest gap in length |",
        "|---" * 8 + "|",
    ]
    return lines + [line for run in costs.runs for line in _surface_rows(run)]


def _cost_row(run: GenerationRun, limit: float) -> str:
    rejected = sorted(run.rejected.items(), key=lambda item: (-item[1], item[0]))
    cells = [
        str(run.config["family"]),
        f"{run.sets:,}",
        f"{run.sets_per_second:.1f}",
        f"{run.audit_seconds:.1f}",
        f"{run.draws:,}",
        f"{sum(run.rejected.values()) / run.draws:.1%}",
        "; ".join(f"{reason} {count / run.draws:.1%}" for reason, count in rejected),
        f"{run.peak_mib:.0f}",
        "yes" if run.peak_mib < limit else "**no**",
    ]
    return f"| {' | '.join(cells)} |"


def _surface_rows(run: GenerationRun) -> list[str]:
    lines = []
    for row in run.surfaces:
        probes = [
            f"{probe[0]:.1%} ({probe[1]:.1%} to {probe[2]:.1%})" if probe else f"not probed: {row.unprobed}"
            for probe in (row.words, row.ngrams, row.pairs)
        ]
        cells = [run.config["family"], row.domain, f"{row.texts:,}", f"{row.chance:.1%}", *probes]
        lines.append(f"| {' | '.join(cells)} | {row.length_gap:+.1f} words |")
    return lines


if __name__ == "__main__":
    main()
