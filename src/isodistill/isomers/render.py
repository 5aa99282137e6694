"""From skeleton to text: words for the symbols, a template for each sentence, a line for the question."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import Pack, Relation
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.statements import StatementKind, find_kind
from isodistill.logic.formula import Formula, rename
from isodistill.logic.printer import format_formula

Lexicon = Mapping[str, str]
"""The id of a pack's word for each symbol of a skeleton."""

CuePosition = Literal["start", "end"]


@dataclass(frozen=True)
class Wording:
    """Everything that turns a skeleton into one text of a domain: with it, a text can be made again.

    Args:
        lexicon: The word for each symbol.
        premises: The index of the template for each premise.
        question: The index of the template for the question.
        lead: The index of the lead before a statement to judge; 0 for other questions.
    """

    lexicon: Lexicon
    premises: tuple[int, ...]
    question: int
    lead: int


def draw_wording(rng: Random, skeleton: Skeleton, pack: Pack) -> Wording:
    """Draws words and templates: no word twice, each template with the same chance.

    Args:
        rng: The only source of chance.
        skeleton: The problem.
        pack: The domain.

    Returns:
        The wording.

    Raises:
        IsodistillError: If the pack has too few words of some sort, or no sentence can state a premise.
    """
    lexicon: dict[str, str] = {}
    for sort in dict.fromkeys(symbol.sort for symbol in skeleton.symbols):
        names = [symbol.name for symbol in skeleton.symbols if symbol.sort == sort]
        words = list(pack.words[sort])
        if len(names) > len(words):
            raise IsodistillError(
                f"The problem needs {len(names)} words of the sort {sort}, but the domain pack {pack.id!r} has "
                f"{len(words)}; lower the depth or the distractors, or add words to the pack."
            )
        lexicon.update(zip(names, rng.sample(words, len(names)), strict=True))
    own = family_kinds(skeleton)
    kinds = [find_kind(premise, "premise", own)[0].name for premise in skeleton.premises]
    question = find_kind(skeleton.question, "question", own)[0].name
    return Wording(
        lexicon=lexicon,
        premises=tuple(rng.randrange(len(pack.templates[kind])) for kind in kinds),
        question=rng.randrange(len(pack.templates[question])),
        lead=rng.randrange(len(pack.leads)) if skeleton.choices else 0,
    )


def family_kinds(skeleton: Skeleton) -> tuple[str, ...]:
    """Lists the statement kinds of a skeleton's family.

    Args:
        skeleton: The problem.

    Returns:
        Their names; none where the family is not one of `FAMILIES`.
    """
    return FAMILIES[skeleton.family].kinds if skeleton.family in FAMILIES else ()


def clause(
    formula: Formula,
    pack: Pack,
    lexicon: Lexicon,
    role: Literal["premise", "question"] = "premise",
    template: int = 0,
    kinds: Collection[str] = (),
) -> str:
    """States a formula as a clause, without capital and full stop.

    Args:
        formula: A formula in the skeleton's symbols.
        pack: The domain.
        lexicon: The word for each symbol.
        role: Whether it is a premise or a question.
        template: The index of the template; 0 is the plainest.
        kinds: The statement kinds of the problem's family, see `family_kinds`: needed where families share a shape.

    Returns:
        The clause.

    Raises:
        IsodistillError: If no sentence can state the formula.
    """
    kind, filling = find_kind(formula, role, kinds)
    return pack.templates[kind.name][template].format_map(_slot_texts(kind, filling, pack, lexicon))


def _slot_texts(kind: StatementKind, filling: Mapping[str, str], pack: Pack, lexicon: Lexicon) -> dict[str, str]:
    def text(slot: str, sort: str) -> str:
        if sort == "number":
            return filling[slot]
        if sort == "individuals":
            return listing(str(pack.word("individual", lexicon[name])) for name in filling[slot].split(" "))
        return str(pack.word(sort, lexicon[filling[slot]]))

    texts = {slot: text(slot, sort) for slot, sort in kind.slots.items()}
    if kind.theme is not None:
        word = pack.word(kind.theme, lexicon["theme"])
        texts.update({"less": word.less, "greater": word.greater} if isinstance(word, Relation) else {"item": word})
    return texts


def sentence(text: str, end: str = ".") -> str:
    """Makes a sentence of a clause.

    Args:
        text: The clause.
        end: The final punctuation.

    Returns:
        The clause with a capital and the punctuation.
    """
    return f"{text[0].upper()}{text[1:]}{end}"


def listing(texts: Iterable[str], last_word: str = "and") -> str:
    """Lists things in a sentence.

    Args:
        texts: At least two texts.
        last_word: What stands before the last.

    Returns:
        For example ``"a, b and c"``.
    """
    *others, last = texts
    return f"{', '.join(others)} {last_word} {last}"


def choices_line(choices: Iterable[str]) -> str:
    """Asks for one answer of a closed set.

    Args:
        choices: At least two answers.

    Returns:
        For example ``"True, False or Unknown?"``.
    """
    return f"{listing(choices, 'or')}?"


def render(skeleton: Skeleton, pack: Pack, wording: Wording, cue: str = "", position: CuePosition = "start") -> str:
    """Writes a problem in a domain's words.

    Args:
        skeleton: The problem.
        pack: The domain.
        wording: Words and templates.
        cue: A whole sentence to plant, or nothing.
        position: Whether the cue stands before the first or after the last premise.

    Returns:
        The premises in one paragraph, then the question: a lead and the statement, and the choices on a line of their
        own; or a question for a number.
    """
    kinds = family_kinds(skeleton)
    sentences = [
        sentence(clause(premise, pack, wording.lexicon, "premise", template, kinds))
        for premise, template in zip(skeleton.premises, wording.premises, strict=True)
    ]
    if cue:
        sentences = [cue, *sentences] if position == "start" else [*sentences, cue]
    asked = clause(skeleton.question, pack, wording.lexicon, "question", wording.question, kinds)
    if skeleton.choices:
        question = f"{pack.leads[wording.lead]} {sentence(asked)}\n{choices_line(skeleton.choices)}"
    else:
        question = sentence(asked, "?")
    return f"{' '.join(sentences)}\n{question}"


def readable(formula: Formula, lexicon: Lexicon) -> str:
    """Writes a formula in the domain's words, for people.

    Args:
        formula: A formula in the skeleton's symbols.
        lexicon: The word for each symbol.

    Returns:
        For example ``forall x. febrile(x) -> contagious(x)``.
    """
    return format_formula(rename(formula, lexicon))


def content(skeleton: Skeleton, lexicon: Lexicon) -> str:
    """Writes down what a problem says in its domain's words, whatever the order of its premises and the phrasing.

    Args:
        skeleton: The problem.
        lexicon: The word for each symbol.

    Returns:
        Equal texts for problems that say the same of the same things.
    """
    premises = sorted(readable(premise, lexicon) for premise in skeleton.premises)
    return "; ".join([*premises, readable(skeleton.question, lexicon)])
