"""What rules that follow no chain answer, with decoys and without: docs/isomers.md, Decoys and Limits."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from isodistill.errors import IsodistillError
from isodistill.isomers.families import make_family
from isodistill.isomers.neighbourhood import count_accuracy, lookup_accuracy, neighbourhood
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.statements import find_kind
from isodistill.logic.canonical import symbol_profiles
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Less, Not, constants, predicates, rename

DOCS = Path(__file__).resolve().parents[2] / "docs"
DRAWS = 600


def literal(formula: Formula) -> tuple[str, bool]:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    return atom.predicate, atom is formula


def by_the_last_rule(skeleton: Skeleton) -> str:
    """Compares the statement's sign with that of the one rule that concludes on its property."""
    asked, sign = literal(skeleton.question)
    votes = set()
    for premise in skeleton.premises:
        if isinstance(premise, Forall):
            assert isinstance(premise.body, Implies)
            concluded, positive = literal(premise.body.right)
            if concluded == asked:
                votes.add(positive == sign)
    return "Unknown" if len(votes) != 1 else str(votes.pop())


def by_degrees(skeleton: Skeleton) -> str:
    """Counts how often each of the two things is the lesser and the greater one."""
    asked = skeleton.question
    assert isinstance(asked, Less)
    score = 0
    for premise in skeleton.premises:
        assert isinstance(premise, Less)
        score += (premise.left == asked.left) - (premise.right == asked.left)
        score += (premise.right == asked.right) - (premise.left == asked.right)
    return "True" if score > 0 else "False" if score < 0 else "Unknown"


def by_one_clue(skeleton: Skeleton) -> str:
    """Looks for a clue that says not here, or that somebody else is here."""
    kinds = make_family("allocation").kinds
    _, asked = find_kind(skeleton.question, "question", kinds)
    for premise in skeleton.premises:
        kind, slots = find_kind(premise, "premise", kinds)
        same_place = kind.name in ("at", "not_at") and slots["n"] == asked["n"]
        if same_place and (kind.name == "at") != (slots["i"] == asked["i"]):
            return "False"
    return "True"


def drawn(family: str, depth: int, count: int, **options: Any) -> list[Skeleton]:
    sampler = make_family(family, options)
    return [sampler.sample(Random(f"shallow/{n}"), depth, n % len(sampler.classes)) for n in range(count)]


@pytest.mark.parametrize(
    ("family", "rule", "least_depth", "margin"),
    [("deduction", by_the_last_rule, 2, 0.13), ("ordering", by_degrees, 3, 0.07), ("allocation", by_one_clue, 1, 0.1)],
)
def test_a_rule_that_looks_at_one_step_is_hardly_better_than_chance(
    family: str, rule: Callable[[Skeleton], str], least_depth: int, margin: float
) -> None:
    for depth in (least_depth, 4):
        skeletons = drawn(family, depth, DRAWS if family != "allocation" else DRAWS // 4)
        share = sum(rule(one) == one.answer for one in skeletons) / len(skeletons)
        chance = 1 / len(skeletons[0].choices)
        assert abs(share - chance) < margin


@pytest.mark.parametrize(
    ("family", "rule", "options"),
    [
        ("deduction", by_the_last_rule, {"distractor_kinds": "mixed"}),
        ("ordering", by_degrees, {"decoy": False}),
    ],
)
def test_without_decoys_it_answers_two_in_three(
    family: str, rule: Callable[[Skeleton], str], options: dict[str, Any]
) -> None:
    skeletons = drawn(family, 3, DRAWS, **options)
    assert sum(rule(one) == one.answer for one in skeletons) / DRAWS > 0.6


def turns(skeleton: Skeleton) -> str:
    """Counts the things that come first or last: a chain has two, and each turn of the comparisons one more."""
    pairs = [(one.left, one.right) for one in skeleton.premises if isinstance(one, Less)]
    lesser, greater = {left for left, _ in pairs}, {right for _, right in pairs}
    return f"{len(lesser ^ greater)} of {len(lesser | greater)}"


def conditions_met(skeleton: Skeleton) -> str:
    """Counts the rules whose condition is a fact about the one asked about, or a conclusion of another rule."""
    rules = [one.body for one in skeleton.premises if isinstance(one, Forall)]
    sides = [(literal(rule.left), literal(rule.right)) for rule in rules if isinstance(rule, Implies)]
    asked = constants(skeleton.question)
    facts = {literal(one) for one in skeleton.premises if not isinstance(one, Forall) and constants(one) == asked}
    known = facts | {right for _, right in sides}
    return str(sum(left in known for left, _ in sides))


def places_named(skeleton: Skeleton) -> str:
    """Reads the places of the clues that say where somebody is, and the place asked about."""
    kinds = make_family("allocation").kinds
    clues = [find_kind(one, "premise", kinds) for one in skeleton.premises]
    told = sorted(slots["n"] for kind, slots in clues if kind.name == "at")
    return f"{told} {find_kind(skeleton.question, 'question', kinds)[1]['n']} of {len(skeleton.symbols)}"


@pytest.mark.parametrize(
    ("family", "depth", "count", "trait", "bound"),
    [
        ("ordering", 3, 1600, turns, 0.41),
        ("deduction", 3, 1600, conditions_met, 0.45),
        ("allocation", 1, 800, places_named, 0.6),
    ],
)
def test_counting_tells_little(
    family: str, depth: int, count: int, trait: Callable[[Skeleton], str], bound: float
) -> None:
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    problems = drawn(family, depth, count)
    for one in problems:
        seen[trait(one)][one.answer] += 1
    # Fitted and asked on the same problems: an honest trait gains a little by it.
    assert sum(max(answers.values()) for answers in seen.values()) / count < bound


def test_a_neighbourhood_grows_by_the_premises_that_share_a_symbol() -> None:
    skeleton = drawn("ordering", 3, 1, extra=(0, 0))[0]
    near, further, all_of_it = (neighbourhood(skeleton, steps) for steps in (1, 2, 9))
    assert set(near) < set(further) <= set(all_of_it) == set(skeleton.premises)
    asked = skeleton.question
    assert isinstance(asked, Less)
    assert all({asked.left, asked.right} & {one.left, one.right} for one in near if isinstance(one, Less))


def test_a_table_of_neighbourhoods_knows_what_is_in_them_and_no_more() -> None:
    whole, near = (lookup_accuracy(drawn("ordering", 3, 900, extra=(0, 0)), steps) for steps in (3, 1))
    assert whole.asked == 225
    assert whole.low <= whole.accuracy <= whole.high
    assert whole.accuracy > 0.95
    assert near.low < near.chance
    with pytest.raises(IsodistillError, match="At least 100 problems are needed to fit a measure, there are 3"):
        lookup_accuracy(drawn("ordering", 3, 3), 1)


@pytest.mark.parametrize("family", ["deduction", "syllogism", "ordering", "statute"])
def test_a_profile_is_where_a_symbol_stands_under_any_name_and_in_any_order(family: str) -> None:
    for place, skeleton in enumerate(drawn(family, 2, 6)):
        profiles = symbol_profiles(skeleton.premises, skeleton.question)
        standing = (*skeleton.premises, skeleton.question)
        assert profiles.total() == len({name for one in standing for name in (*predicates(one), *constants(one))})
        rng = Random(f"renamed/{place}")
        # The names change their order too: no profile may depend on which name comes first.
        numbers = rng.sample(range(100, 1000), len(skeleton.symbols))
        names = {symbol.name: f"s{number}" for symbol, number in zip(skeleton.symbols, numbers, strict=True)}
        turned = [rename(premise, names) for premise in rng.sample(skeleton.premises, len(skeleton.premises))]
        assert symbol_profiles(turned, rename(skeleton.question, names)) == profiles
        assert symbol_profiles(skeleton.premises[1:], skeleton.question) != profiles


@pytest.mark.parametrize("family", ["deduction", "syllogism", "statute"])
@pytest.mark.parametrize("depth", [2, 4])
def test_no_count_tells_the_answer_where_decoys_are_forked(family: str, depth: int) -> None:
    found = count_accuracy(drawn(family, depth, 1500))
    assert found.low < found.chance < 0.36
    assert found.accuracy < 0.42


@pytest.mark.parametrize(
    ("family", "options", "least"),
    [
        # One chain and nothing beside it: the sign that its last rule gives to the statement's property is the answer.
        ("deduction", {"distractor_kinds": "mixed", "answers": ("True", "False"), "distractors": (0, 0)}, 0.9),
        ("syllogism", {"decoy": False}, 0.8),
        ("statute", {"decoy": False}, 0.5),
    ],
)
def test_without_decoys_a_count_tells_it(family: str, options: dict[str, Any], least: float) -> None:
    problems = drawn(family, 3, 900, **options)
    found = count_accuracy(problems)
    assert found.asked == 225
    assert found.accuracy > least
    # What it finds is in the problems: with the answers dealt out anew it finds nothing.
    dealt = Random(0).sample([one.answer for one in problems], len(problems))
    blind = count_accuracy([replace(one, answer=answer) for one, answer in zip(problems, dealt, strict=True)])
    assert blind.low < blind.chance + 0.03
    with pytest.raises(IsodistillError, match="At least 100 problems are needed to fit a measure, there are 3"):
        count_accuracy(problems[:3])


def test_the_docs_table_is_that_of_the_raw_figures() -> None:
    rows = json.loads((DOCS / "isomers-look-ahead.json").read_text(encoding="utf-8"))["rows"]
    page = (DOCS / "isomers.md").read_text(encoding="utf-8")
    named = [f"{row['family']}, no decoy" if row["options"] else row["family"] for row in rows]
    for name in named:
        cells = [
            f"{100 * row['accuracy']:.0f} / {100 * row['counts']['accuracy']:.0f}"
            for row, other in zip(rows, named, strict=True)
            if name == other
        ]
        assert f"| {name} | {' | '.join(cells)} |" in page
