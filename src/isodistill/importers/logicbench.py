"""LogicBench (BQA): scenarios for one inference rule each; those of one rule form isomer sets (arXiv 2404.15522)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.importers.problems import Imported, Problem

FILE = "data_instances.json"
SPLIT = "test"
CHOICES = ("Yes", "No")


def import_logicbench(folder: Path, members: int | None = 4) -> dict[str, Imported]:
    """Reads every rule, grouping its scenarios into sets.

    The n-th question asks the same thing of every scenario of a rule. A set is that question asked of `members`
    scenarios that follow each other; scenarios left over at the end of a rule are dropped. The scenarios have no
    domain: a member's domain names its place in the set, nothing else.

    Args:
        folder: The folder; every ``data_instances.json`` in it, at any depth, is one rule.
        members: The number of members of a set, at least 1; ``None`` makes one set of all scenarios of a rule that ask
            the same thing.

    Returns:
        One split, ``test``.

    Raises:
        IsodistillError: If there is no such file, one is damaged, two hold the same rule, or a rule has fewer
            scenarios than a set needs.
    """
    files = sorted(folder.rglob(FILE))
    if not files:
        raise IsodistillError(f"The folder {folder} holds no {FILE}; name the folder BQA of LogicBench.")
    if members is not None and members < 1:
        raise IsodistillError(f"A set cannot have {members} members; give at least 1.")
    imported = Imported(notes=["A domain names a place in a set: the scenarios of LogicBench have no domains."])
    seen: dict[str, Path] = {}
    for file in files:
        rule, samples = _read(file)
        if rule in seen:
            raise IsodistillError(f"The files {seen[rule]} and {file} hold the same rule {rule!r}; drop one of them.")
        seen[rule] = file
        if members is not None and len(samples) < members:
            raise IsodistillError(
                f"The file {file} has {len(samples)} scenarios, too few for sets of {members}; lower the members."
            )
        _group(rule, samples, members, imported)
    return {SPLIT: imported}


def _group(rule: str, samples: list[_Sample], members: int | None, imported: Imported) -> None:
    questions = max(len(pairs) for _, pairs in samples)
    for place in range(questions):
        having = [(context, *pairs[place]) for context, pairs in samples if place < len(pairs)]
        # Should one scenario's question be put the other way round, its answer keeps it out of the others' sets.
        for answer, count in sorted(Counter(answer for _, _, answer in having).items()):
            alike = [(context, question) for context, question, given in having if given == answer]
            size = members or count
            whole = count - count % size
            if count > whole:
                imported.dropped["too few scenarios were left over for a set"] += count - whole
            for position, (context, question) in enumerate(alike[:whole]):
                imported.keep(
                    Problem(
                        domain=f"instance_{position % size}",
                        prompt=f"{context}\n{question}\nYes or No?",
                        answer=answer,
                        set_id=f"{rule}-question{place}-{answer.lower()}-{position // size}",
                        family=f"logicbench/{rule}",
                        choices=CHOICES,
                        formal=json.dumps({"source": "logicbench", "rule": rule}),
                    )
                )


_Sample = tuple[str, list[tuple[str, str]]]
"""A scenario, and its questions with their answers."""


def _read(file: Path) -> tuple[str, list[_Sample]]:
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IsodistillError(f"The file {file} cannot be read ({error}); mend or drop it.") from None
    samples = data.get("samples") if isinstance(data, dict) else None
    if not isinstance(samples, list) or not all(isinstance(data.get(name), str) for name in ("type", "axiom")):
        raise IsodistillError(f"The file {file} lacks 'type', 'axiom' or a list 'samples'; take it from LogicBench.")
    return f"{data['type']}/{data['axiom']}", [_sample(sample, file, n) for n, sample in enumerate(samples)]


def _sample(sample: Any, file: Path, number: int) -> _Sample:
    if not isinstance(sample, Mapping) or not isinstance(sample.get("context"), str):
        raise IsodistillError(f"In {file}, sample {number} has no text 'context'; mend or drop it.")
    return sample["context"].strip(), list(_pairs(sample.get("qa_pairs"), f"{file}, sample {number}"))


def _pairs(pairs: Any, where: str) -> Iterator[tuple[str, str]]:
    for pair in pairs if isinstance(pairs, list) else [None]:
        question = pair.get("question") if isinstance(pair, Mapping) else None
        answer = str(pair.get("answer")).strip().capitalize() if isinstance(pair, Mapping) else ""
        if not isinstance(question, str) or answer not in CHOICES:
            raise IsodistillError(f"In {where}, a question or its yes or no is missing in 'qa_pairs'; mend or drop it.")
        yield question.strip(), answer
