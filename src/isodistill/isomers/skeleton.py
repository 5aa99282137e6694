"""The skeleton of a problem: typed symbols, premises, question, answer and proof, and not one word of any domain."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.logic.canonical import canonical_form, structure_hash
from isodistill.logic.formula import Const, Equals, Formula, Var, constants, predicates, rename
from isodistill.logic.serialise import formula_from_json, formula_to_json

SORTS = ("individual", "property", "relation", "agent", "item")
"""What a symbol may stand for; a domain pack has a list of words for each sort."""

THEME_SORTS = ("relation", "item")
"""Sorts whose one symbol is the theme of a whole problem (what is ordered or counted) and stands in no formula."""

ANSWER_VARIABLE = Var("answer")
"""The free variable of a question that asks for a value."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol that each domain fills with one of its own words.

    Args:
        name: The symbol's name in the formulas, for example ``"p0"``.
        sort: One of `SORTS`.
    """

    name: str
    sort: str


@dataclass(frozen=True, slots=True)
class ProofStep:
    """One step of a proof.

    Args:
        conclusion: What follows.
        uses: What it follows from: an index below the number of premises names a premise, the next ones name earlier
            steps.
        rule: The inference rule, for example ``"modus ponens"``.
    """

    conclusion: Formula
    uses: tuple[int, ...]
    rule: str


@dataclass(frozen=True)
class Skeleton:
    """A problem without words.

    Args:
        family: The problem family.
        depth: The number of inference steps from the premises to the answer (where the answer is ``"Unknown"``: of
            the problem with an answer that this one was made from).
        symbols: Every symbol of the formulas, and the theme if there is one.
        premises: The premises in the order in which the text gives them.
        question: The statement to judge, or an equation with `ANSWER_VARIABLE` that asks for a value.
        answer: The answer, for example ``"True"`` or ``"42"``.
        choices: The closed answer set, empty where the answer is a number.
        proof: The steps from the premises to the answer; for ``"Unknown"`` what can be derived on the way.
    """

    family: str
    depth: int
    symbols: tuple[Symbol, ...]
    premises: tuple[Formula, ...]
    question: Formula
    answer: str
    choices: tuple[str, ...]
    proof: tuple[ProofStep, ...]

    @cached_property
    def canonical(self) -> str:
        """The canonical form of premises and question: equal exactly for problems that differ by renaming."""
        return canonical_form(self.premises, self.question)

    @cached_property
    def structure(self) -> str:
        """The hash of the structure: equal for problems that differ by renaming or by the order of the premises."""
        return structure_hash(self.premises, self.question)

    @property
    def theme(self) -> Symbol | None:
        """The symbol of what the whole problem orders or counts, or ``None``."""
        return next((symbol for symbol in self.symbols if symbol.sort in THEME_SORTS), None)

    def facts(self, uses: tuple[int, ...]) -> tuple[Formula, ...]:
        """Looks up what a proof step uses.

        Args:
            uses: Indices as in `ProofStep.uses`.

        Returns:
            The premises and conclusions named.

        Raises:
            IsodistillError: If an index names nothing.
        """
        known = (*self.premises, *(step.conclusion for step in self.proof))
        if any(not 0 <= index < len(known) for index in uses):
            raise IsodistillError(
                f"A proof step uses number {max(uses)}, but premises and steps end at {len(known) - 1}; mend its uses."
            )
        return tuple(known[index] for index in uses)

    def to_json(self) -> str:
        """Writes the skeleton as one line of JSON from which `skeleton_from_json` restores an equal one."""
        data = {
            "family": self.family,
            "depth": self.depth,
            "symbols": [[symbol.name, symbol.sort] for symbol in self.symbols],
            "premises": [formula_to_json(premise) for premise in self.premises],
            "question": formula_to_json(self.question),
            "answer": self.answer,
            "choices": list(self.choices),
            "proof": [[formula_to_json(step.conclusion), list(step.uses), step.rule] for step in self.proof],
        }
        return json.dumps(data, separators=(",", ":"))


def asked_constant(question: Formula) -> Const | None:
    """Finds whose value a question asks for.

    Args:
        question: The question of a skeleton.

    Returns:
        The constant that is set equal to `ANSWER_VARIABLE`, or ``None`` where the question is a statement to judge.
    """
    match question:
        case Equals(Const() as term, Var(name)) if name == ANSWER_VARIABLE.name:
            return term
    return None


def with_standard_names(skeleton: Skeleton) -> Skeleton:
    """Renames the symbols by their first appearance (p0, p1, ... and c0, c1, ...), as the canonical form does.

    So a symbol's name tells nothing of the part it plays, and equal problems have equal JSON.

    Args:
        skeleton: A skeleton under any names.

    Returns:
        The same problem under the standard names; symbols that stand in no formula but the theme are dropped.
    """
    formulas = (*skeleton.premises, skeleton.question)
    used = [
        *dict.fromkeys(name for formula in formulas for name in predicates(formula)),
        *dict.fromkeys(name for formula in formulas for name in constants(formula)),
    ]
    sorts = {symbol.name: symbol.sort for symbol in skeleton.symbols}
    names: dict[str, str] = {}
    for letter in ("p", "c"):
        group = [name for name in used if (sorts[name] == "property") == (letter == "p")]
        names.update({name: f"{letter}{place}" for place, name in enumerate(group)})
    theme = skeleton.theme
    symbols = tuple(Symbol(names[name], sorts[name]) for name in used)
    return replace(
        skeleton,
        symbols=symbols if theme is None else (*symbols, Symbol("theme", theme.sort)),
        premises=tuple(rename(premise, names) for premise in skeleton.premises),
        question=rename(skeleton.question, names),
        proof=tuple(ProofStep(rename(step.conclusion, names), step.uses, step.rule) for step in skeleton.proof),
    )


def shuffled_premises(skeleton: Skeleton, order: list[int]) -> Skeleton:
    """Puts the premises in another order and keeps the proof pointing at the right ones.

    Args:
        skeleton: The skeleton.
        order: A permutation: entry i is the old place of the premise that comes to stand at place i.

    Returns:
        The skeleton with its premises in the new order.
    """
    places = {old: new for new, old in enumerate(order)}
    return replace(
        skeleton,
        premises=tuple(skeleton.premises[old] for old in order),
        proof=tuple(
            ProofStep(step.conclusion, tuple(places.get(use, use) for use in step.uses), step.rule)
            for step in skeleton.proof
        ),
    )


def skeleton_from_json(text: str, where: str = "the skeleton") -> Skeleton:
    """Reads a skeleton back from JSON, refusing anything that `Skeleton.to_json` cannot have written.

    Args:
        text: JSON; untrusted.
        where: Named in errors, for example ``"the skeleton of set deduction-3f"``.

    Returns:
        The skeleton.

    Raises:
        IsodistillError: If the text is not JSON, or a field is missing or has the wrong type.
    """
    try:
        data: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise IsodistillError(f"In {where}, the text is not JSON ({error}); write it with Skeleton.to_json.") from None

    def need(condition: bool, field: str, what: str) -> None:
        if not condition:
            raise IsodistillError(f"In {where}, the field {field!r} must be {what}; write it with Skeleton.to_json.")

    need(isinstance(data, dict), "family", "in a JSON object")
    for field in ("family", "answer"):
        need(isinstance(data.get(field), str), field, "a string")
    need(type(data.get("depth")) is int and data["depth"] >= 0, "depth", "a whole number of at least 0")
    for field in ("symbols", "premises", "choices", "proof"):
        need(isinstance(data.get(field), list), field, "a list")
    need("question" in data, "question", "a formula")
    for entry in data["symbols"]:
        good = isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
        need(good and entry[1] in SORTS, "symbols", f"pairs of a name and one of {', '.join(SORTS)}")
    need(all(isinstance(choice, str) for choice in data["choices"]), "choices", "a list of strings")
    steps = []
    for place, entry in enumerate(data["proof"]):
        good = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[1], list) and isinstance(entry[2], str)
        limit = len(data["premises"]) + place
        need(
            good and all(type(use) is int and 0 <= use < limit for use in entry[1]),
            "proof",
            "triples of a conclusion, the numbers of earlier premises and steps, and a rule",
        )
        steps.append(ProofStep(formula_from_json(entry[0], f"{where}, step {place}"), tuple(entry[1]), entry[2]))
    return Skeleton(
        family=data["family"],
        depth=data["depth"],
        symbols=tuple(Symbol(name, sort) for name, sort in data["symbols"]),
        premises=tuple(
            formula_from_json(premise, f"{where}, premise {place}") for place, premise in enumerate(data["premises"])
        ),
        question=formula_from_json(data["question"], f"{where}, question"),
        answer=data["answer"],
        choices=tuple(data["choices"]),
        proof=tuple(steps),
    )
