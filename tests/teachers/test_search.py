"""Solutions that search: alike whatever the answer, each step follows, no way is passed over. Judged from the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest

from isodistill.isomers.families import make_family
from isodistill.isomers.families.syllogism import Categorical, read_categorical
from isodistill.isomers.packs import load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.render import draw_wording, render
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic import Formula, entails
from isodistill.logic.formula import Const, Forall, Implies, Less, Not, Var, constants, map_leaves
from isodistill.teachers.tellings import TELLINGS, Voice
from isodistill.teachers.tellings.syllogism import join

FAMILIES = ("ordering", "syllogism", "deduction", "statute")
DRAWN = 24
NO_STEP = "The statement says|So it|Whether|Nothing settles|Nothing shows|None of the other|No chain"


@dataclass
class Told:
    """A problem and its solution, as read from their texts.

    Args:
        skeleton: The problem.
        voice: How it is told.
        premises: What the text says, in the words of the pack.
        question: The statement.
        sentences: The solution.
        steps: What each step uses and what it concludes; a premise that is told alone concludes itself.
    """

    skeleton: Skeleton
    voice: Voice
    premises: tuple[Formula, ...]
    question: Formula
    sentences: list[str]
    steps: list[tuple[list[Formula], Formula]]


def tell(family: str, number: int) -> Told:
    rng, pack = Random(f"search/{number}"), load_pack("law")
    skeleton = make_family(family).sample(rng, 1 + number % 4, number % 3)
    wording = draw_wording(rng, skeleton, pack)
    voice = Voice(skeleton, pack, wording.lexicon, full=True)
    problem = render(skeleton, pack, wording)
    reading = parse_prompt(problem, pack)
    _, question, choices = problem.split("\n")
    told, steps = TELLINGS[family](voice), []
    for sentence in told:
        if re.match(NO_STEP, sentence):
            continue
        used, *found = sentence.partition(", so whether ")[0].rstrip(".").split(", so ")
        text = " ".join(f"{each[0].upper()}{each[1:]}." for each in (*used.split(", and "), *found))
        read = list(parse_prompt(f"{text}\n{question}\n{choices}", pack).premises)
        first = len(read) - len(found)
        steps += [(read[:first], each) for each in read[first:] or read[-1:]]
    return Told(skeleton, voice, reading.premises, reading.question, told, steps)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_sentence_follows_from_the_problem_and_those_before(family: str) -> None:
    judged = 0
    for number in range(DRAWN):
        told = tell(family, number)
        known, said = list(told.premises), list[Formula]()
        for used, found in told.steps:
            for fact in used:
                assert any(says_the_same(fact, each) for each in known), (told.sentences, fact)
            # What was said before is not always repeated, but nothing else of the problem is needed.
            assert entails([*said, *used], found)
            said += [*used, found]
            known.append(found)
            judged += 1
        if told.skeleton.answer != "Unknown":
            # The last step settles the statement.
            assert entails(known[-1:], told.question) == (told.skeleton.answer == "True")
    assert judged > DRAWN


def says_the_same(one: Formula, other: Formula) -> bool:
    return one == other or (entails([one], other) and entails([other], one))


@pytest.mark.parametrize("family", ["syllogism", "deduction", "statute"])
def test_the_search_does_not_depend_on_the_answer(family: str) -> None:
    for number in range(DRAWN):
        told = tell(family, number)
        if told.skeleton.answer == "Unknown":
            continue
        asked = told.skeleton.question
        other = read_categorical(asked).contradictory().formula if family == "syllogism" else opposite(asked)
        turned = replace(told.skeleton, question=other, answer={"True": "False", "False": "True"}[told.skeleton.answer])
        *again, turned_verdict = TELLINGS[family](replace(told.voice, skeleton=turned))
        assert again == told.sentences[:-1]
        assert {told.sentences[-1], turned_verdict} == {
            "The statement says the same, so it is true.",
            "The statement says the opposite, so it is false.",
        }


def whole_ordering(told: Told, found: set[Formula]) -> None:
    asked = told.question
    assert isinstance(asked, Less)
    things = {term for one in told.premises if isinstance(one, Less) for term in (one.left, one.right)}
    for below in (asked.left, asked.right):
        for thing in things - {below}:
            claim = Less(below, thing)
            assert entails(told.premises, claim) == (claim in found)


def whole_syllogism(told: Told, found: set[Formula]) -> None:
    first = read_categorical(told.question).subject
    known = {Categorical("all", first, first), *map(read_categorical, found)}
    # "No A is B" and "some A are B" say the same with their terms exchanged.
    known |= {one.converse() for one in known if one.form in ("no", "some")}
    for one in [one for one in known if first in (one.subject, one.predicate)]:
        for premise in told.premises:
            made = join(one, read_categorical(premise), first)
            assert made is None or made in known


def whole_deduction(told: Told, found: set[Formula]) -> None:
    """Goes back over every rule itself: none that could show the statement, or what it needs, is left out."""
    wanted, seen = [told.question, opposite(told.question)], set[Formula]()
    while wanted:
        claim = wanted.pop()
        seen.add(claim)
        (who,) = constants(claim)
        for rule in told.premises:
            if isinstance(rule, Forall) and isinstance(rule.body, Implies):
                condition, conclusion = (
                    map_leaves(side, lambda leaf, who=who: Const(who) if isinstance(leaf, Var) else leaf)
                    for side in (rule.body.left, rule.body.right)
                )
                if conclusion == claim:
                    assert rule in found
                    assert not entails(told.premises, condition)
                    wanted += [condition] if condition not in seen else []


def opposite(formula: Formula) -> Formula:
    return formula.body if isinstance(formula, Not) else Not(formula)


@pytest.mark.parametrize(
    ("family", "check"),
    [
        ("ordering", whole_ordering),
        ("syllogism", whole_syllogism),
        ("deduction", whole_deduction),
    ],
)
def test_where_the_answer_is_unknown_no_way_is_passed_over(
    family: str, check: Callable[[Told, set[Formula]], None]
) -> None:
    for number in range(2, 3 * DRAWN, 3):
        told = tell(family, number)
        assert told.skeleton.answer == "Unknown"
        check(told, {found for _, found in told.steps})


def test_a_join_says_what_follows_about_the_first_term_and_misses_nothing() -> None:
    forms = ("all", "no", "some", "some not")
    known_ones = [Categorical(form, "s", "m") for form in forms] + [Categorical("all", "m", "s")]
    links = [Categorical(form, *pair) for form in forms for pair in (("m", "p"), ("p", "m"))]
    about = [Categorical(form, "s", "p") for form in forms] + [Categorical("all", "p", "s")]
    for known in known_ones:
        for link in links:
            follows = [one for one in about if entails([known.formula, link.formula], one.formula)]
            assert [join(known, link, "s")] == (follows or [None])
