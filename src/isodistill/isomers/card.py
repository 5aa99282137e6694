"""The data set's card: metadata that `datasets` reads, and a page for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError

FORMAT_VERSION = 1


Probed = tuple[float, float, float] | None
"""A probe's accuracy with the ends of its interval, or nothing."""


class AuditRow(BaseModel):
    """One line of a card's audit table.

    Args:
        split: The split.
        domain: The domain.
        texts: The number of texts.
        chance: The share of the most frequent answer class.
        words: The accuracy of a probe on words, with the ends of its 95% interval; ``None`` where it was not probed.
        ngrams: The same for runs of one to three words.
        pairs: The same for pairs of a word of the question and one of the premises; older cards have none.
        length_gap: The largest gap in mean length between an answer's texts and the others, in words.
        unprobed: Why the texts were not probed; empty where they were.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    split: str
    domain: str
    texts: int
    chance: float
    words: Probed
    ngrams: Probed
    pairs: Probed = None
    length_gap: float
    unprobed: str = ""


class CardInfo(BaseModel):
    """What a card tells about where the data comes from.

    Args:
        title: The data set's title.
        family: The problem family.
        domains: The training domains.
        unseen_domains: The domains that only test splits show.
        config: The whole generation config as plain data.
        teacher: Who wrote the completions, empty before any has.
        packs: For each domain the size and the digest of its pack, by which it can be told from a changed one.
        audit: What the surface gives away; empty where it was not measured.
        license: The licence of imported data, an SPDX identifier in the hub's spelling; empty for generated data.
        about: What imported rows are, a sentence or two.
        notes: What else a reader of imported data should know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str
    family: str
    domains: tuple[str, ...]
    unseen_domains: tuple[str, ...]
    config: dict[str, Any]
    teacher: str = ""
    packs: dict[str, str] = {}
    audit: tuple[AuditRow, ...] = ()
    license: str = ""
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def imported(self) -> bool:
        """Whether the data comes from elsewhere, so that nothing about it is proved."""
        return "imported_from" in self.config or not self.config


_SHARING = {
    "structure": "Train, validation and test share no structure (a problem up to renaming and premise order).\n",
    "wording": "Train, validation and test share structures, but no problem appears twice in the same words.\n",
}
_SPLIT_NOTES = {
    "train": "training domains, with the shortcut if there is one",
    "validation": "as train, other problems; for choosing between models",
    "iid": "test problems, drawn like train",
    "cue_absent": "the same test problems in the same words, no cue",
    "cue_reversed": "the same test problems in the same words, the cue always points at a wrong answer",
    "unseen_domain": "the same test problems in domains that are not trained on, no cue",
    "unseen_domain__cue_random": "as unseen_domain, the cue points anywhere by pure chance",
    "unseen_domain__cue_reversed": "as unseen_domain, the cue always points at a wrong answer",
    "deeper": "training domains, deeper problems, no cue",
}


def data_digest(folder: Path) -> str:
    """Digests the Parquet files of a data set.

    Args:
        folder: The data set's directory, with its files under ``data``.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in sorted((folder / "data").glob("*.parquet")):
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def card_text(info: CardInfo, counts: Mapping[str, int], digest: str) -> str:
    """Writes the card.

    Args:
        info: Where the data comes from.
        counts: The number of sets in each split, in order.
        digest: See `data_digest`.

    Returns:
        Markdown with YAML metadata that lets `datasets.load_dataset(DIRECTORY)` find the splits.
    """
    metadata = {
        "license": (info.license or "unknown") if info.imported else "cc0-1.0",
        "language": ["en"],
        "pretty_name": info.title,
        "task_categories": ["text-generation", "question-answering"],
        "tags": ["logical-reasoning", "isomers", "domain-generalisation", info.family],
        # `load_dataset(DIRECTORY)` caches by the directory's last name and this part of the card, not by the files:
        # without their digest it would hand out the data of another directory of that name, or of an earlier run.
        "configs": [
            {
                "config_name": "default",
                "description": f"SHA-256 {digest}",
                "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in counts],
            }
        ],
        "isodistill": {"format_version": FORMAT_VERSION, **info.model_dump(mode="json")},
    }
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)
    body = _imported_body(info, counts) if info.imported else _generated_body(info, counts)
    return f"---\n{front}---\n\n# {info.title}\n\n{body}"


def _generated_body(info: CardInfo, counts: Mapping[str, int]) -> str:
    rows = "\n".join(f"| {split} | {count} | {_SPLIT_NOTES.get(split, '')} |" for split, count in counts.items())
    shortcut = info.config.get("shortcut")
    planted = (
        f"A cue sentence is planted: {json.dumps(shortcut)}. It says nothing about the problem."
        if shortcut
        else "No shortcut is planted."
    )
    sharing = _SHARING.get(info.config.get("split_by", ""), "")
    return f"""\
Each row is an isomer set: one problem of the family `{info.family}`, told in the words of several domains. The
members of a set share their premises, their order, their numbers and their answer; nothing but words differs. Every
answer is proved by an SMT solver, every proof is replayed step by step, and every text is read back into the formulas
it came from.

Training domains: {", ".join(info.domains)}. Unseen domains: {", ".join(info.unseen_domains) or "none"}.
{planted}

Completions were written by: {info.teacher or "nobody yet"}.

| split | sets | what it shows |
|---|---|---|
{rows}

{_audit_table(info)}{_packs_table(info)}{sharing}The sentences are made up: they claim nothing about the world.

The data is released under CC0 1.0. Seed: {info.config.get("seed", "none")}. Configuration of the generator:

```json
{json.dumps(info.config, indent=2)}
```
"""


_LAYOUTS = {
    "sets": "Each row is an isomer set: problems that share their answer, one in each domain.",
    "rows": "Each row is one problem, tagged with its domain.",
}


def _imported_body(info: CardInfo, counts: Mapping[str, int]) -> str:
    """What is known of data from elsewhere; an importer's options and counts stand in the config."""
    config = dict(info.config)
    source, layout = config.pop("imported_from", ""), config.pop("layout", "")
    reasons = [
        f"- {split}: {count} problems, because {reason}"
        for split, dropped in config.pop("dropped", {}).items()
        for reason, count in dropped.items()
    ]
    origin = f"Imported from `{source}`." if source else "Where the data comes from is not recorded."
    told = " ".join(part for part in (origin, info.about, _LAYOUTS.get(layout, "")) if part)
    rows = "\n".join(f"| {split} | {count} |" for split, count in counts.items())
    notes = "".join(f"{note}\n" for note in info.notes)
    return f"""\
{told}
{notes}
Domains: {", ".join(info.domains)}. Licence of the source: {info.license or "unknown"}. No proof stands in the rows, so
nothing here is replayed or read back.

Completions were written by: {info.teacher or "the source, where there are any"}.

| split | rows |
|---|---|
{rows}

Dropped in the import:

{chr(10).join(reasons) or "- nothing"}

Options of the importer:

```json
{json.dumps(config, indent=2)}
```
"""


def _audit_table(info: CardInfo) -> str:
    if not info.audit:
        return ""
    lines = [
        "Audit: how well linear probes, cross-validated inside each domain, tell the answer class from words, from",
        "runs of one to three words, and from pairs of a word of the question and one of the premises. Planted cues",
        "are left out, and numbers are told by their parity.",
        "",
        "| split | domain | texts | chance | words | runs of words | pairs of words | largest gap in length |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in info.audit:
        shown = [_shown(probed, row.unprobed) for probed in (row.words, row.ngrams, row.pairs)]
        cells = [row.split, row.domain, str(row.texts), f"{row.chance:.1%}", *shown, f"{row.length_gap:+.1f} words"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def _shown(probed: Probed, unprobed: str) -> str:
    if probed is None:
        return f"not probed: {unprobed}" if unprobed else "not measured"
    accuracy, low, high = probed
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"


def _packs_table(info: CardInfo) -> str:
    if not info.packs:
        return ""
    lines = ["| domain | its pack |", "|---|---|", *(f"| {name} | {told} |" for name, told in info.packs.items())]
    return "\n".join([*lines, "", ""])


def read_card(path: Path) -> tuple[CardInfo | None, tuple[str, ...]]:
    """Reads a card's metadata.

    Args:
        path: The card, a README.md file.

    Returns:
        What it tells about where the data comes from (``None`` where it does not), and its splits in order (none
        where there is no card).

    Raises:
        IsodistillError: If the metadata is not YAML or not of the expected form.
    """
    if not path.is_file():
        return None, ()
    parts = path.read_text(encoding="utf-8").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None, ()
    try:
        data: Any = yaml.safe_load(parts[1]) or {}
        splits = tuple(
            str(entry["split"]) for config in data.get("configs", []) for entry in config.get("data_files", [])
        )
        source = data.get("isodistill")
        return (CardInfo.model_validate(source) if source else None), splits
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IsodistillError(f"The card {path} has damaged metadata ({reason}); mend the part between ---.") from None
