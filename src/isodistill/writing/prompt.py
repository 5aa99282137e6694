"""What a writing model is told: two tasks, their forms, and one worked example of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from isodistill.logic.formula import Atom, Formula, walk
from isodistill.logic.notation import format_notation
from isodistill.teachers.instruction import Instruction

SYSTEM = """\
You work with logic problems that are stated twice, in English and in first-order logic. A request names one of two \
tasks. Reply with one JSON object of the task's form and nothing else.

Task write. You get a problem, its formulas and a domain. Write the same problem in the words of that domain:
- One sentence for each formula, in the given order. The sentence says what the formula says, no more and no less.
- Each of your formulas has exactly the shape of the given one: the same connectives, quantifiers and negations, the \
same order of parts and of arguments. Only the names change: each predicate and each constant becomes one of your own, \
the same one everywhere, and no two become the same.
- Word each sentence so that a careful reader would write the very same formula for it.
- Natural English of the domain, in about as many words as the given text. No signs of logic in it, nothing of the \
given domain, and nothing about whether the conclusion holds.
- "symbols" has a phrase for each predicate and each constant of your formulas, all different.
Form: {"premises": [{"text": "...", "formula": "..."}, ...], "conclusion": {"text": "...", "formula": "..."}, \
"symbols": {"Name": "phrase", ...}}

Task read. You get numbered sentences, a conclusion, and the symbols to use, each with the number of its arguments. \
Write one formula for each sentence, in their order, as literally as you can: every A is B is ∀x (A(x) → B(x)); no A \
is B is ∀x (A(x) → ¬B(x)); some A is B is ∃x (A(x) ∧ B(x)); either A or B and not both is A ⊕ B; if and only if is ↔. \
Take parts in the order of the sentence. Write what the sentences say, even where they seem odd.
Form: {"premises": ["...", ...], "conclusion": "..."}

Notation, from the loosest to the tightest: ↔, →, ∨, ⊕, ∧, then ¬ and the quantifiers ∀x and ∃x, which reach over the \
next atom, negation, quantifier or parenthesis only. Atoms are P(a), P(a, x), a = b. Names consist of letters, digits \
and underscores. Variables are x, y, z, u, v, w, always bound by a quantifier; all other names are constants."""
"""The system message of both tasks."""

_EXAMPLE_SOURCE = """\
Task: write
Domain: law
Text:
Every cat is a mammal. No mammal has gills unless it is a hybrid. Tom is a cat and Tom chases Anna.
Conclusion: Tom does not have gills.
True, False or Unknown?
Formulas:
1. ∀x (Cat(x) → Mammal(x))
2. ∀x (Mammal(x) ∧ ¬Hybrid(x) → ¬Gills(x))
3. Cat(tom) ∧ Chases(tom, anna)
Conclusion: ¬Gills(tom)"""

_EXAMPLE_WRITTEN: Mapping[str, object] = {
    "premises": [
        {"text": "Every lease is a contract.", "formula": "∀x (Lease(x) → Contract(x))"},
        {
            "text": "No contract is void unless it is forged.",
            "formula": "∀x (Contract(x) ∧ ¬Forged(x) → ¬Void(x))",
        },
        {
            "text": "The Farley deed is a lease and the Farley deed amends the Baker deed.",
            "formula": "Lease(farley_deed) ∧ Amends(farley_deed, baker_deed)",
        },
    ],
    "conclusion": {"text": "The Farley deed is not void.", "formula": "¬Void(farley_deed)"},
    "symbols": {
        "Lease": "is a lease",
        "Contract": "is a contract",
        "Forged": "is forged",
        "Void": "is void",
        "Amends": "amends",
        "farley_deed": "the Farley deed",
        "baker_deed": "the Baker deed",
    },
}

_EXAMPLE_TEXT = """\
Task: read
1. Every lease is a contract.
2. No contract is void unless it is forged.
3. The Farley deed is a lease and the Farley deed amends the Baker deed.
Conclusion: The Farley deed is not void.
Symbols:
Lease, 1 argument: is a lease
Contract, 1 argument: is a contract
Forged, 1 argument: is forged
Void, 1 argument: is void
Amends, 2 arguments: amends
farley_deed, a constant: the Farley deed
baker_deed, a constant: the Baker deed"""

_EXAMPLE_READ: Mapping[str, object] = {
    "premises": [
        "∀x (Lease(x) → Contract(x))",
        "∀x (Contract(x) ∧ ¬Forged(x) → ¬Void(x))",
        "Lease(farley_deed) ∧ Amends(farley_deed, baker_deed)",
    ],
    "conclusion": "¬Void(farley_deed)",
}


def writing_instruction() -> Instruction:
    """Returns the system message with one worked example of each task.

    Its `version` is the prompt version that replies are kept under and reports name.
    """
    return Instruction(
        SYSTEM,
        (
            (_EXAMPLE_SOURCE, json.dumps(_EXAMPLE_WRITTEN, ensure_ascii=False)),
            (_EXAMPLE_TEXT, json.dumps(_EXAMPLE_READ, ensure_ascii=False)),
        ),
    )


def write_request(
    text: str, premises: Sequence[Formula], question: Formula, symbols: Mapping[str, str], domain: str
) -> str:
    """Asks for a problem in another domain.

    Args:
        text: The problem in English.
        premises: Its premises.
        question: Its conclusion.
        symbols: The phrase of each symbol; may be empty.
        domain: The domain.

    Returns:
        The user's turn.
    """
    lines = ["Task: write", f"Domain: {domain.replace('_', ' ')}", "Text:", text, "Formulas:"]
    lines += [f"{place}. {format_notation(premise)}" for place, premise in enumerate(premises, start=1)]
    lines.append(f"Conclusion: {format_notation(question)}")
    if symbols:
        lines += ["Symbols:", *(f"{name}: {phrase}" for name, phrase in symbols.items())]
    return "\n".join(lines)


def read_request(
    sentences: Sequence[str], conclusion: str, formulas: Sequence[Formula], symbols: Mapping[str, str]
) -> str:
    """Asks what a text says, without its formulas.

    Args:
        sentences: The premises in English.
        conclusion: The conclusion in English.
        formulas: Only to count the arguments of each predicate.
        symbols: The phrase of each symbol.

    Returns:
        The user's turn.
    """
    arities = {
        node.predicate: len(node.args) for formula in formulas for node in walk(formula) if isinstance(node, Atom)
    }
    lines = ["Task: read", *(f"{place}. {sentence}" for place, sentence in enumerate(sentences, start=1))]
    lines += [f"Conclusion: {conclusion}", "Symbols:"]
    for name, phrase in symbols.items():
        count = arities.get(name)
        kind = "a constant" if count is None else f"{count} argument{'' if count == 1 else 's'}"
        lines.append(f"{name}, {kind}: {phrase}")
    return "\n".join(lines)
