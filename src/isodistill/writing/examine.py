"""Is this proposal an isomer? Grammar, canonical form, solver; then the same of a second reading of its text alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isodistill.errors import IsodistillError
from isodistill.isomers.render import choices_line
from isodistill.logic.canonical import canonical_form
from isodistill.logic.check import CHECK_TIMEOUT_MS
from isodistill.logic.formula import Formula, constants, predicates
from isodistill.logic.printer import format_formula
from isodistill.logic.solver import status
from isodistill.writing.matching import premise_order
from isodistill.writing.reply import (
    Mend,
    ReadProblem,
    Rejected,
    Statement,
    WrittenProblem,
    load_formula,
    load_reply,
    require_plain,
)
from isodistill.writing.sources import Source

LENGTH_FACTOR = 2.0
"""A text may have at most this many times the words of its source, and no fewer than the inverse share of them."""

_CALL = re.compile(r"(?P<name>[^()]+)\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A problem that a model wrote, as far as it has been found sound.

    Args:
        sentences: The premises in English.
        conclusion: The conclusion in English.
        premises: The premises as formulas, in the order of the source.
        question: The conclusion as a formula.
        symbols: The phrase of each predicate and constant, in order of appearance.
        mends: What was mended.
    """

    sentences: tuple[str, ...]
    conclusion: str
    premises: tuple[Formula, ...]
    question: Formula
    symbols: Mapping[str, str]
    mends: tuple[Mend, ...]

    def prompt(self, choices: Sequence[str]) -> str:
        """Writes the problem as students get to see it.

        Args:
            choices: The closed answer set.

        Returns:
            Premises in one paragraph, the conclusion, the choices.
        """
        return f"{' '.join(self.sentences)}\nConclusion: {self.conclusion}\n{choices_line(choices)}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model read in a proposal's text.

    Args:
        premises: A formula for each sentence that it saw.
        question: The conclusion's formula.
        mends: What was mended.
    """

    premises: tuple[Formula, ...]
    question: Formula
    mends: tuple[Mend, ...]


def examine_proposal(text: str, finish: str, source: Source, timeout_ms: int = CHECK_TIMEOUT_MS) -> Proposal:
    """Reads a reply to the task "write" and proves what can be proved without a second reading.

    Args:
        text: The reply; untrusted.
        finish: Why it ends, see `isodistill.teachers.Reply`.
        source: The problem that it must be an isomer of.
        timeout_ms: The limit of each question to z3, in milliseconds.

    Returns:
        The proposal. Premises in another order are put into the source's, which is reported as a mend.

    Raises:
        Rejected: If it has not the form, a text is unfit, a formula cannot be read, a symbol has no phrase, the
            formulas are no renaming of the source's, or z3 does not find the source's answer.
    """
    written, mends = load_reply(text, finish, WrittenProblem)
    if len(written.premises) != len(source.premises):
        raise Rejected(
            "another number of premises", f"it has {len(written.premises)}, the source has {len(source.premises)}"
        )
    made = list(mends)
    statements = [(f"premise {place}", statement) for place, statement in enumerate(written.premises, start=1)] + [
        ("the conclusion", written.conclusion)
    ]
    sentences = [_sentence(statement, where, made) for where, statement in statements]
    formulas = []
    for where, statement in statements:
        formula, repairs = load_formula(statement.formula, where)
        formulas.append(formula)
        made += repairs
    *premises, question = formulas
    symbols = _symbols(written.symbols, formulas, made)
    order = _order(source, premises, question)
    if order != tuple(range(len(premises))):
        made.append(Mend("put the premises into the order of the source", "premises"))
    proposal = Proposal(
        sentences=tuple(sentences[place] for place in order),
        conclusion=sentences[-1],
        premises=tuple(premises[place] for place in order),
        question=question,
        symbols=symbols,
        mends=tuple(made),
    )
    _require_own_words(proposal, source)
    _require_label(proposal, source.isomer_set.answer, timeout_ms)
    return proposal


def examine_reading(text: str, finish: str) -> Reading:
    """Reads a reply to the task "read".

    Args:
        text: The reply; untrusted.
        finish: Why it ends.

    Returns:
        The formulas; whether they are the right ones is for `require_agreement` to say.

    Raises:
        Rejected: If it has not the form, or a formula cannot be read.
    """
    read, mends = load_reply(text, finish, ReadProblem)
    made = list(mends)
    formulas = []
    for place, formula_text in enumerate((*read.premises, read.conclusion), start=1):
        where = f"the reading of premise {place}" if place <= len(read.premises) else "the reading of the conclusion"
        formula, repairs = load_formula(formula_text, where)
        formulas.append(formula)
        made += repairs
    return Reading(tuple(formulas[:-1]), formulas[-1], tuple(made))


def require_agreement(proposal: Proposal, reading: Reading) -> None:
    """Makes sure that a text says what its formulas say.

    Args:
        proposal: The text and its formulas.
        reading: What was read in the text alone.

    Raises:
        Rejected: If the canonical forms differ.
    """
    difference = _difference(proposal.premises, proposal.question, reading.premises, reading.question)
    if difference:
        raise Rejected("the back-translation differs", difference)


def _sentence(statement: Statement, where: str, made: list[Mend]) -> str:
    text = require_plain(statement.text, where)
    if text[-1] in ".!":
        return text
    if not text[-1].isalnum():
        raise Rejected("no sentence", f"{where} ends in {text[-1]!r}")
    made.append(Mend("added a full stop to a sentence", where))
    return f"{text}."


def _symbols(given: Mapping[str, str], formulas: Sequence[Formula], made: list[Mend]) -> dict[str, str]:
    """Finds the phrase of each symbol of the formulas."""
    phrases: dict[str, str] = {}
    for key, phrase in given.items():
        call = _CALL.fullmatch(key.strip())
        name = call["name"].strip() if call else key.strip()
        if call:
            made.append(Mend("took the arguments off a symbol", "symbols"))
        phrases.setdefault(name, phrase)
    names = dict.fromkeys(name for formula in formulas for name in (*predicates(formula), *constants(formula)))
    missing = [name for name in names if name not in phrases]
    if missing:
        raise Rejected("a symbol without a phrase", f"the symbols lack {missing[0]!r}")
    unused = [name for name in phrases if name not in names]
    if unused:
        made.append(Mend("dropped symbols that stand in no formula", "symbols"))
    kept = {name: require_plain(phrases[name], f"the phrase of {name!r}") for name in names}
    owners: dict[str, str] = {}
    for name, phrase in kept.items():
        other = owners.setdefault(phrase.casefold(), name)
        if other != name:
            raise Rejected("two symbols with one phrase", f"{other!r} and {name!r} are both {phrase!r}")
    return kept


def _order(source: Source, premises: Sequence[Formula], question: Formula) -> tuple[int, ...]:
    if canonical_form(premises, question) == source.canonical:
        return tuple(range(len(premises)))
    order = premise_order(source.premises, source.question, premises, question)
    if order is None:
        difference = _difference(source.premises, source.question, premises, question)
        raise Rejected("another structure", difference)
    return order


def _difference(
    wanted: Sequence[Formula], wanted_question: Formula, premises: Sequence[Formula], question: Formula
) -> str:
    """Says where two problems first differ by more than renaming; nothing where they do not."""
    if len(wanted) != len(premises):
        return f"{len(premises)} premises instead of {len(wanted)}"
    for place, (ours, theirs) in enumerate(zip(wanted, premises, strict=True)):
        if canonical_form(wanted[:place], ours) != canonical_form(premises[:place], theirs):
            return f"premise {place + 1} is {format_formula(theirs)}, wanted is a renaming of {format_formula(ours)}"
    if canonical_form(wanted, wanted_question) != canonical_form(premises, question):
        return (
            f"the conclusion is {format_formula(question)}, wanted is a renaming of {format_formula(wanted_question)}"
        )
    return ""


def _require_own_words(proposal: Proposal, source: Source) -> None:
    """Refuses sentences of the source, and a length that would give the domain away."""
    theirs = {_words(sentence) for line in source.text.split("\n") for sentence in re.split(r"(?<=[.!?]) ", line)}
    for place, sentence in enumerate((*proposal.sentences, proposal.conclusion), start=1):
        if _words(sentence) in theirs:
            raise Rejected("a sentence of the source", f"sentence {place} is taken over: {sentence[:80]!r}")
    prompt = proposal.prompt(source.isomer_set.choices)
    ours, wanted = len(prompt.split()), len(source.text.split())
    if not wanted / LENGTH_FACTOR <= ours <= wanted * LENGTH_FACTOR:
        raise Rejected("another length", f"it has {ours} words, the source has {wanted}")


def _words(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.casefold()))


def _require_label(proposal: Proposal, answer: str, timeout_ms: int) -> None:
    try:
        found = status(proposal.premises, proposal.question, timeout_ms)
    except IsodistillError as error:
        raise Rejected("no verdict of the solver", str(error)) from None
    if found != answer:
        raise Rejected("another answer", f"z3 finds {found}, the source says {answer}")
