"""A source, recorded replies, teachers that follow a script, and one that makes no mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from isodistill.isomers import IsomerSet, Member, Skeleton
from isodistill.isomers.packs import load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.render import choices_line, clause, draw_wording, family_kinds, sentence
from isodistill.logic import (
    And,
    Atom,
    Const,
    Exists,
    Forall,
    Formula,
    Iff,
    Implies,
    Not,
    Or,
    Var,
    Xor,
    canonical_form,
    format_notation,
    parse_formula,
)
from isodistill.logic.formula import children, rename, with_children
from isodistill.teachers import Failure, Reply, Request
from isodistill.writing import Rejected, Source, Sources, writing_instruction

CHOICES = ("True", "False", "Unknown")
TEXT = (
    "Every cat is a mammal. No mammal has gills unless it is a hybrid. Tom is a cat and Tom chases Anna.\n"
    "Conclusion: Tom does not have gills.\nTrue, False or Unknown?"
)
FORMULAS = ("∀x (Cat(x) → Mammal(x))", "∀x (Mammal(x) ∧ ¬Hybrid(x) → ¬Gills(x))", "Cat(tom) ∧ Chases(tom, anna)")
CONCLUSION = "¬Gills(tom)"


def folio_row(label: str = "Uncertain", **changed: Any) -> dict[str, Any]:
    premises = TEXT.split("\n")[0].split(". ")
    row = {
        "premises": [premise if premise.endswith(".") else f"{premise}." for premise in premises],
        "premises-FOL": list(FORMULAS),
        "conclusion": "Tom does not have gills.",
        "conclusion-FOL": CONCLUSION,
        "label": label,
    }
    return {**row, **changed}


def cat_source(answer: str = "Unknown") -> Source:
    member = Member(domain="folio", prompt=TEXT, formal="{}")
    isomer_set = IsomerSet(
        set_id="cats",
        family="folio",
        depth=0,
        skeleton="",
        canonical="",
        answer=answer,
        choices=CHOICES,
        members=(member,),
    )
    return Source(isomer_set, member, tuple(map(parse_formula, FORMULAS)), parse_formula(CONCLUSION), {})


def good() -> dict[str, Any]:
    """A reply that must be accepted: the worked example of the prompt."""
    reply: dict[str, Any] = json.loads(writing_instruction().shots[0][1])
    return reply


def good_reading() -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(writing_instruction().shots[1][1])
    return reply


def text_of(reply: Mapping[str, Any]) -> str:
    return json.dumps(reply, ensure_ascii=False)


class Scripted:
    """Says what a function makes of the request's text, the attempt and the domain."""

    kind, model, name, varies, patience = "scripted", "script", "scripted:script", True, 60.0
    prompt_version = writing_instruction().version

    def __init__(self, reply: Callable[[Request], str | Failure]) -> None:
        self._reply = reply
        self.asked: list[str] = []

    def parameters(self, request: Request) -> Mapping[str, Any]:
        return {"seed": request.seed, "temperature": request.temperature}

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        for request in requests:
            self.asked.append(request.member.prompt)
            reply = self._reply(request)
            yield request, reply if isinstance(reply, Failure) else Reply(reply)

    def count(self, task: str) -> int:
        return sum(text.startswith(f"Task: {task}\n") for text in self.asked)


class Perfect:
    """Writes with a domain pack and a formula printer, and reads its text back with the pack's own parser.

    Args:
        skeletons: The skeletons by set.
    """

    def __init__(self, skeletons: Mapping[str, Skeleton]) -> None:
        self.skeletons = skeletons

    def __call__(self, request: Request) -> str:
        skeleton, pack_name = self.skeletons[request.isomer_set.set_id], request.member.domain
        if request.member.prompt.startswith("Task: write\n"):
            return text_of(self.written(skeleton, pack_name, request.seed))
        return text_of(self.read(skeleton, pack_name, request.member.prompt))

    def written(self, skeleton: Skeleton, pack_name: str, seed: int) -> dict[str, Any]:
        pack = load_pack(pack_name)
        wording = draw_wording(Random(seed), skeleton, pack)
        kinds = family_kinds(skeleton)
        names = {symbol: symbol_name(word) for symbol, word in wording.lexicon.items()}

        def statement(formula: Formula, role: Any, template: int) -> dict[str, str]:
            text = sentence(clause(formula, pack, wording.lexicon, role, template, kinds))
            return {"text": text, "formula": format_notation(rename(formula, names))}

        return {
            "premises": [
                statement(premise, "premise", template)
                for premise, template in zip(skeleton.premises, wording.premises, strict=True)
            ],
            "conclusion": statement(skeleton.question, "question", wording.question),
            "symbols": {names[symbol]: word.replace("-", " ") for symbol, word in wording.lexicon.items()},
        }

    def read(self, skeleton: Skeleton, pack_name: str, request: str) -> dict[str, Any]:
        pack = load_pack(pack_name)
        sentences = re.findall(r"^\d+\. (.*)$", request, re.MULTILINE)
        conclusion = re.search(r"^Conclusion: (.*)$", request, re.MULTILINE)
        assert conclusion is not None
        text = f"{' '.join(sentences)}\n{pack.leads[0]} {conclusion[1]}\n{choices_line(skeleton.choices)}"
        reading = parse_prompt(text, pack)

        def written(formula: Formula) -> str:
            return format_notation(rename(formula, Names()))

        return {"premises": [written(premise) for premise in reading.premises], "conclusion": written(reading.question)}


def symbol_name(word: str) -> str:
    return f"n_{word.replace('-', '_')}"


class Names(dict[str, str]):
    """Renames every word."""

    def get(self, key: str, default: Any = None) -> Any:
        return symbol_name(key)


def sources_of(*sources: Source, name: str = "here") -> Sources:
    return Sources(name, "cc0-1.0", {"train": sources})


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def variants(node: Any) -> Iterator[Any]:
    """Every formula with exactly one change at one place."""
    match node:
        case Implies(left, right):
            yield from (Iff(left, right), Implies(right, left), And((left, right)))
        case Iff(left, right) | Xor(left, right):
            yield (Xor if isinstance(node, Iff) else Iff)(left, right)
        case Forall(var, body):
            yield from (Exists(var, body), body if not free(body, var) else Not(node))
        case Exists(var, body):
            yield Forall(var, body)
        case Not(body):
            yield body
        case And(parts):
            yield from (Or(parts), And((*parts[1:], parts[0])), parts[0])
        case Atom(name, args):
            yield from (Not(node), Atom(f"{name}_other", args))
            yield from (Atom(name, (*args[:i], Const("n_another"), *args[i + 1 :])) for i in range(len(args)))
    if isinstance(node, Var | Const):
        return
    parts = children(node)
    for place, part in enumerate(parts):
        for changed in variants(part):
            yield with_children(node, [*parts[:place], changed, *parts[place + 1 :]])


@cache
def free(body: Formula, var: Var) -> bool:
    return any(part == var or (not isinstance(part, Var | Const) and free(part, var)) for part in children(body))  # type: ignore[arg-type]


def planted(formulas: list[Formula]) -> Iterator[list[Formula]]:
    """Every problem with one change that is more than a renaming."""
    original = canonical_form(formulas[:-1], formulas[-1])
    for place, formula in enumerate(formulas):
        for changed in variants(formula):
            other = [*formulas[:place], changed, *formulas[place + 1 :]]
            if canonical_form(other[:-1], other[-1]) != original:
                yield other
    yield from (formulas[:place] + formulas[place + 1 :] for place in range(len(formulas) - 1))
    yield from ([formulas[place], *formulas] for place in range(len(formulas) - 1))


def refused(check: Any) -> bool:
    try:
        check()
    except Rejected:
        return True
    return False
