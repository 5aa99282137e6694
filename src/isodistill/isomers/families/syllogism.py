"""Categorical syllogisms and their chains: all, no, some, some not."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import ClassVar, Literal, NamedTuple

from isodistill.errors import IsodistillError
from isodistill.isomers.families.base import Family, Range, Verdicts
from isodistill.isomers.skeleton import ProofStep, Skeleton, Symbol, shuffled_premises, with_standard_names
from isodistill.isomers.statements import STATEMENT_KINDS
from isodistill.logic.formula import Formula, predicates

Form = Literal["all", "no", "some", "some not"]

CONTRADICTORY: dict[Form, Form] = {"all": "some not", "some not": "all", "no": "some", "some": "no"}
"""The form that is true exactly where the other is false."""

_KINDS: dict[Form, str] = {"all": "rule", "no": "rule_then_not", "some": "some", "some not": "some_not"}
MAX_ATTEMPTS = 1000


class Categorical(NamedTuple):
    """A categorical sentence.

    Args:
        form: How it speaks of its terms.
        subject: The first term.
        predicate: The second term.
    """

    form: Form
    subject: str
    predicate: str

    @property
    def formula(self) -> Formula:
        """The sentence in first-order logic; "all" and "no" do not claim that anything exists."""
        return STATEMENT_KINDS[_KINDS[self.form]].build({"A": self.subject, "B": self.predicate})

    def contradictory(self) -> Categorical:
        """The sentence that is true exactly where this one is false."""
        return Categorical(CONTRADICTORY[self.form], self.subject, self.predicate)

    def converse(self) -> Categorical:
        """The same form with its terms exchanged; for "no" and "some" it says the same."""
        return Categorical(self.form, self.predicate, self.subject)


def read_categorical(formula: Formula) -> Categorical:
    """Reads a categorical sentence off its formula.

    Args:
        formula: The formula.

    Returns:
        The sentence.

    Raises:
        IsodistillError: If the formula has another shape.
    """
    for form, kind in _KINDS.items():
        filling = STATEMENT_KINDS[kind].match(formula)
        if filling is not None:
            return Categorical(form, filling["A"], filling["B"])
    raise IsodistillError("The formula is no categorical sentence; use all, no, some or some not with two terms.")


def witnesses(sentences: Iterable[Categorical]) -> list[frozenset[str]] | None:
    """Builds the least world in which the sentences hold.

    Each "some" needs one individual with two terms (or with one and without the other); it gets what the "all"
    sentences add and nothing else. No other individual is needed, and if these break a sentence, so does every world:
    this decides consistency.

    Args:
        sentences: Categorical sentences.

    Returns:
        The terms of each individual, or ``None`` if the sentences contradict each other.
    """
    sentences = list(sentences)
    world: dict[frozenset[str], None] = {}
    for claim in sentences:
        if claim.form not in ("some", "some not"):
            continue
        terms = {claim.subject, claim.predicate} if claim.form == "some" else {claim.subject}
        while True:
            added = {rule.predicate for rule in sentences if rule.form == "all" and rule.subject in terms} - terms
            if not added:
                break
            terms |= added
        broken = any(rule.form == "no" and {rule.subject, rule.predicate} <= terms for rule in sentences)
        if broken or (claim.form == "some not" and claim.predicate in terms):
            return None
        world[frozenset(terms)] = None
    return list(world)


def decide(premises: Iterable[Categorical], statement: Categorical) -> str:
    """Judges a categorical statement.

    Args:
        premises: Premises that do not contradict each other.
        statement: The statement.

    Returns:
        ``"True"``, ``"False"`` or ``"Unknown"``.
    """
    premises = list(premises)
    if witnesses([*premises, statement.contradictory()]) is None:
        return "True"
    return "False" if witnesses([*premises, statement]) is None else "Unknown"


class Syllogism(Family):
    """Categorical sentences that connect two terms through others, and a categorical statement about the two.

    At depth 1 these are the syllogisms of two premises that are valid without assuming that there is anything of a
    term; deeper problems chain them. The conclusion's form (all, no, some, some not) is drawn for itself; the
    statement is the conclusion or its contradictory. Problems with the answer Unknown have premises of the same forms,
    put together in an order and direction from which nothing follows about the statement, and statements of the same
    forms: neither "no" nor "some" nor their number tells the answer.

    Args:
        distractors: The least and the most number of extra sentences, each with a term of its own, from which nothing
            follows about the statement.
        answers: The answers that occur.
    """

    name: ClassVar[str] = "syllogism"
    kinds: ClassVar[tuple[str, ...]] = (
        *("rule", "rule_then_not", "some", "some_not"),
        *("judge_every", "judge_no", "judge_some", "judge_some_not"),
    )

    distractors: Range = (1, 3)
    answers: Verdicts = ("True", "False", "Unknown")

    @property
    def classes(self) -> tuple[str, ...]:
        """The answers that occur."""
        return self.answers

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of inference steps, one less than the premises that are needed, at least 1.
            answer_index: The index of the answer in `answers`.

        Returns:
            The skeleton.
        """
        answer = self.classes[answer_index]
        chain, conclusion = _chain(rng, depth + 2)
        agrees = answer == "True" or (answer == "Unknown" and rng.random() < 0.5)
        statement = conclusion if agrees else conclusion.contradictory()
        if answer == "Unknown":
            chain, statement = _broken(rng, chain, statement)
        sentences = [*chain, *self._distractors(rng, depth + 2)]
        steps = [] if answer == "Unknown" else _proof(chain, len(sentences))
        premises = tuple(sentence.formula for sentence in sentences)
        names = dict.fromkeys(name for formula in premises for name in predicates(formula))
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(Symbol(name, "property") for name in names),
            premises=premises,
            question=statement.formula,
            answer=answer,
            choices=self.classes,
            proof=tuple(steps),
        )
        return with_standard_names(shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises))))

    def _distractors(self, rng: Random, terms: int) -> list[Categorical]:
        """Draws extra sentences: general ones touch one term of the chain, particular ones none.

        A world of the chain stays one of all sentences: an empty or an all-embracing term can be added to it, and so
        can an individual that has no term of the chain.
        """
        made = []
        for place in range(rng.randint(*self.distractors)):
            new, other = f"D{place}", f"E{place}"
            form = rng.choice(list(CONTRADICTORY))
            sentence = Categorical(form, new, f"T{rng.randrange(terms)}")
            if form == "some":
                sentence = Categorical(form, new, other)
            elif form != "some not" and rng.random() < 0.5:
                sentence = sentence.converse()
            made.append(sentence)
        return made


def _chain(rng: Random, terms: int) -> tuple[list[Categorical], Categorical]:
    """Draws premises between neighbouring terms T0, T1, ..., and what follows about the first and the last.

    Premise n connects terms n and n + 1, in either direction where that says the same.
    """
    names = [f"T{place}" for place in range(terms)]
    form: Form = rng.choice(list(CONTRADICTORY))
    links = terms - 1
    pivot = rng.randrange(links)
    chain: list[Categorical] = []
    for place in range(links):
        up, down = (
            Categorical("all", names[place], names[place + 1]),
            Categorical("all", names[place + 1], names[place]),
        )
        if form == "all":
            chain.append(up)
        elif place == pivot:
            chain.append(Categorical(form, names[place], names[place + 1]))
        elif form == "no":
            chain.append(up if place < pivot else down)
        elif form == "some":
            chain.append(down if place < pivot else up)
        else:
            chain.append(down)
    if form == "some not" and pivot < links - 1 and rng.random() < 0.7:
        # "Some not" also follows from "some" and "no" with "all" between and around them.
        barrier = rng.randrange(pivot + 1, links)
        chain[pivot] = Categorical("some", names[pivot], names[pivot + 1])
        for place in range(pivot + 1, barrier):
            chain[place] = Categorical("all", names[place], names[place + 1])
        chain[barrier] = Categorical("no", names[barrier], names[barrier + 1])
    chain = [
        sentence.converse() if sentence.form in ("no", "some") and rng.random() < 0.5 else sentence
        for sentence in chain
    ]
    conclusion = Categorical(form, names[0], names[-1])
    symmetric = form in ("no", "some") and rng.random() < 0.5
    return chain, conclusion.converse() if symmetric else conclusion


def _broken(rng: Random, chain: list[Categorical], statement: Categorical) -> tuple[list[Categorical], Categorical]:
    """Deals the forms of a chain out to its links anew, in new directions, until nothing follows."""
    for _ in range(MAX_ATTEMPTS):
        forms = [sentence.form for sentence in rng.sample(chain, len(chain))]
        dealt = []
        for place, form in enumerate(forms):
            sentence = Categorical(form, f"T{place}", f"T{place + 1}")
            dealt.append(sentence.converse() if rng.random() < 0.5 else sentence)
        asked = statement.converse() if rng.random() < 0.5 else statement
        if witnesses(dealt) is not None and decide(dealt, asked) == "Unknown":
            return dealt, asked
    raise AssertionError("every multiset of forms can be dealt out so that nothing follows")


def _proof(chain: list[Categorical], premises: int) -> list[ProofStep]:
    """Joins the premises one by one: first from the particular or negative one, then to both sides."""
    start = next(
        (place for form in ("some", "some not", "no") for place, link in enumerate(chain) if link.form == form), 0
    )
    order = [*range(start + 1, len(chain)), *range(start - 1, -1, -1)]
    low, high, known = start, start + 1, chain[start]
    before = start
    steps = []
    for place in order:
        low, high = min(low, place), max(high, place + 1)
        known = _joined(known, chain[place], f"T{low}", f"T{high}")
        steps.append(ProofStep(known.formula, (before, place), "syllogism"))
        before = premises + len(steps) - 1
    return steps


def _joined(known: Categorical, link: Categorical, first: str, last: str) -> Categorical:
    """Draws the conclusion about the outer terms from two sentences that share a middle term."""
    for sentence in (Categorical(form, *pair) for form in _KINDS for pair in ((first, last), (last, first))):
        if decide([known, link], sentence) == "True":
            return sentence
    raise AssertionError("neighbouring links of a valid chain always join")
