"""Categorical syllogisms and their chains: all, no, some, some not."""

from __future__ import annotations

import itertools
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
    statement is the conclusion or its contradictory. Beside the chain stands a decoy: a chain as long between the same
    two terms, from which the contradictory would follow if it were whole. So the forms of the premises are those of
    both conclusions, whichever is true. Each of the two has one end twice, and only one of these ends joins on to the
    rest: the one with the asked term where the chain is whole, the other one where it is not. So no count of the
    sentences in which a term stands tells which chain is whole. Where the answer is Unknown, neither is.

    Args:
        distractors: The least and the most number of extra sentences, each with a term of its own, from which nothing
            follows about the statement.
        answers: The answers that occur.
        decoy: Whether there is a decoy. Without it problems are a third shorter, but the forms of premises and
            statement tell half of the answers, and the sentences about its two terms three quarters (docs/isomers.md,
            Limits).
    """

    name: ClassVar[str] = "syllogism"
    kinds: ClassVar[tuple[str, ...]] = (
        *("rule", "rule_then_not", "some", "some_not"),
        *("judge_every", "judge_no", "judge_some", "judge_some_not"),
    )

    distractors: Range = (1, 3)
    answers: Verdicts = ("True", "False", "Unknown")
    decoy: bool = True

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
        names = [f"T{place}" for place in range(depth + 2)]
        chain, conclusion = _chain(rng, names)
        agrees = answer == "True" or (answer == "Unknown" and rng.random() < 0.5)
        statement = conclusion if agrees else conclusion.contradictory()
        if self.decoy:
            inner = [f"U{place}" for place in range(depth)]
            chain = _beside_a_decoy(rng, chain, [names[0], *inner, names[-1]], statement, answer)
            names += inner
        elif answer == "Unknown":
            chain, statement = _broken(rng, chain, statement)
        sentences = [*chain, *self._distractors(rng, names)]
        steps = [] if answer == "Unknown" else _proof(chain[: depth + 1], len(sentences))
        premises = tuple(sentence.formula for sentence in sentences)
        terms = dict.fromkeys(name for formula in premises for name in predicates(formula))
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(Symbol(name, "property") for name in terms),
            premises=premises,
            question=statement.formula,
            answer=answer,
            choices=self.classes,
            proof=tuple(steps),
        )
        return with_standard_names(shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises))))

    def _distractors(self, rng: Random, terms: list[str]) -> list[Categorical]:
        """Draws extra sentences: general ones touch one term of the chain, particular ones none.

        A world of the chain stays one of all sentences: an empty or an all-embracing term can be added to it, and so
        can an individual that has no term of the chain.
        """
        made = []
        for place in range(rng.randint(*self.distractors)):
            new, other = f"D{place}", f"E{place}"
            form = rng.choice(list(CONTRADICTORY))
            sentence = Categorical(form, new, terms[rng.randrange(len(terms))])
            if form == "some":
                sentence = Categorical(form, new, other)
            elif form != "some not" and rng.random() < 0.5:
                sentence = sentence.converse()
            made.append(sentence)
        return made


def _chain(rng: Random, names: list[str], wanted: Form | None = None) -> tuple[list[Categorical], Categorical]:
    """Draws premises between neighbouring terms, and what follows about the first and the last: in this form, if given.

    Premise n connects terms n and n + 1, in either direction where that says the same.
    """
    form = rng.choice(list(CONTRADICTORY)) if wanted is None else wanted
    links = len(names) - 1
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


def _beside_a_decoy(
    rng: Random, chain: list[Categorical], names: list[str], statement: Categorical, answer: str
) -> list[Categorical]:
    """Puts a chain to the contradictory beside a chain, both forked; where nothing is to follow, both are crossed.

    Args:
        rng: The only source of chance.
        chain: The chain, from which the statement or its contradictory follows.
        names: The terms of the decoy; the first and the last are those of the chain.
        statement: The statement.
        answer: What is to be the answer.

    Returns:
        The sentences of the chain, then the others.
    """
    conclusion = statement if decide(chain, statement) == "True" else statement.contradictory()
    own = [f"T{place}" for place in range(len(names))]
    for _ in range(MAX_ATTEMPTS):
        decoy = _chain(rng, names, CONTRADICTORY[conclusion.form])[0]
        forked, beside = _forked(rng, chain, own, "V", crossed=answer == "Unknown")
        told = [*forked, *itertools.chain(*_forked(rng, decoy, names, "W", crossed=True)), *beside]
        if witnesses(told) is None or decide(told, statement) != answer:
            continue
        # What stands beside the chain neither proves anything by itself nor shortens the proof.
        spared = [told[:place] + told[place + 1 :] for place in range(len(chain))]
        if answer == "Unknown" or all(decide(rest, statement) == "Unknown" for rest in spared):
            return told
    raise AssertionError("a chain can be crossed at any of its terms")


def _forked(
    rng: Random, chain: list[Categorical], names: list[str], letter: str, crossed: bool
) -> tuple[list[Categorical], list[Categorical]]:
    """Doubles one end of a chain, the shorter one, from a term on: one of the two ends joins on there, one does not.

    They are alike link by link. The other end begins with a term of its own, or joins on by a sentence turned round,
    from which nothing follows. If the ends are crossed, terms stand in as many sentences of each form as before, and
    the chain leads nowhere.

    Args:
        rng: The only source of chance.
        chain: The chain.
        names: Its terms in order.
        letter: Begins the names of the other end's terms.
        crossed: Whether the end that does not join on is the one with the asked term.

    Returns:
        The chain, whole or not, and the sentences of the other end.
    """
    joint = rng.randrange(1, len(chain))
    late = joint * 2 > len(chain) if joint * 2 != len(chain) else rng.random() < 0.5
    links = range(joint, len(chain)) if late else range(joint - 1, -1, -1)
    next_to, inner = links[0], len(links) > 1
    turned = inner and chain[next_to].form in ("all", "some not") and rng.random() < 0.5
    copies = {
        name: f"{letter}{place}" for place, name in enumerate(names) if (place > joint if late else place < joint)
    }
    if not turned:
        copies[names[joint]] = f"{letter}{joint}"
    beside = {place: _renamed(chain[place], copies) for place in links}
    made = list(chain)
    if turned:
        wrong = made if crossed else beside
        wrong[next_to] = wrong[next_to].converse()
    elif crossed:
        made[next_to] = _renamed(made[next_to], {names[joint]: copies[names[joint]]})
        beside[next_to] = _renamed(beside[next_to], {copies[names[joint]]: names[joint]})
    return made, list(beside.values())


def _renamed(sentence: Categorical, names: dict[str, str]) -> Categorical:
    subject, predicate = (names.get(term, term) for term in (sentence.subject, sentence.predicate))
    return Categorical(sentence.form, subject, predicate)


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
