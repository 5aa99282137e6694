from __future__ import annotations

import dataclasses
import json
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.isomers.families import FAMILIES, Family, make_family
from isodistill.isomers.skeleton import Skeleton, skeleton_from_json
from isodistill.isomers.statements import STATEMENT_KINDS, find_kind
from isodistill.isomers.verify import verify_skeleton
from isodistill.logic import Forall, Implies, Int, Not, status
from isodistill.logic.formula import predicates, walk

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("deduction", {}),
    ("deduction", {"distractors": (0, 0), "answers": ("True", "False")}),
    ("deduction", {"distractors": (0, 2), "distractor_kinds": "neutral"}),
    ("deduction", {"distractor_kinds": "mixed"}),
    ("deduction", {"negation": False}),
    ("deduction", {"negation": False, "answers": ("True", "Unknown")}),
    ("deduction", {"negation": False, "statement_negation": False, "answers": ("True", "False")}),
    ("ordering", {}),
    ("ordering", {"extra": (1, 6), "redundant": 0.9}),
    ("ordering", {"extra": (0, 1), "answers": ("True", "False")}),
    ("ordering", {"extra": (1, 3), "decoy": False}),
    ("quantity", {}),
    ("quantity", {"distractors": (2, 4), "start": (2, 9)}),
    ("syllogism", {}),
    ("syllogism", {"distractors": (0, 0), "answers": ("True", "False")}),
    ("syllogism", {"distractors": (4, 5)}),
    ("syllogism", {"decoy": False}),
    ("statute", {}),
    ("statute", {"shared": 0.0, "distractors": (2, 4)}),
    ("allocation", {}),
    ("allocation", {"others": (2, 2), "distractors": (1, 3)}),
    ("counting", {}),
    ("counting", {"distractors": (2, 4), "start": (2, 9)}),
]


@pytest.mark.parametrize(("name", "options"), SETTINGS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**9), depth=st.integers(1, 4))
def test_every_sample_is_what_it_claims(name: str, options: dict[str, Any], seed: int, depth: int) -> None:
    family = make_family(name, options)
    answer_index = seed % len(family.classes)
    skeleton = family.sample(Random(seed), depth, answer_index)
    verify_skeleton(skeleton)
    assert family.shortcut_class(skeleton) == answer_index
    assert skeleton.depth == depth
    assert skeleton.answer in (skeleton.choices or (skeleton.answer,))
    assert skeleton_from_json(skeleton.to_json()) == skeleton
    assert skeleton_from_json(skeleton.to_json()).to_json() == skeleton.to_json()
    kinds = {find_kind(premise, "premise", family.kinds)[0].name for premise in skeleton.premises}
    kinds.add(find_kind(skeleton.question, "question", family.kinds)[0].name)
    assert kinds <= set(family.kinds)
    assert family.sample(Random(seed), depth, answer_index) == skeleton


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9), depth=st.integers(1, 4), name=st.sampled_from(["deduction", "ordering"]))
def test_no_premise_of_the_proof_can_be_spared(seed: int, depth: int, name: str) -> None:
    family = FAMILIES[name]()
    skeleton = family.sample(Random(seed), depth, seed % 2)
    used = {use for step in skeleton.proof for use in step.uses if use < len(skeleton.premises)}
    assert len(used) == (depth + 1 if name == "deduction" else depth)
    if name == "deduction":
        # A deduction has one proof only. An order may have a second chain, as long.
        for place in used:
            rest = [premise for other, premise in enumerate(skeleton.premises) if other != place]
            assert status(rest, skeleton.question) == "Unknown"


@pytest.mark.parametrize("answers", [("True", "False", "Unknown"), ("True", "False")])
def test_signs_tell_nothing_about_the_answer(answers: tuple[str, ...]) -> None:
    """Negations of facts, conditions, conclusions and statement are as frequent whatever the answer."""
    family = make_family("deduction", {"answers": answers, "distractors": (0, 1)})
    shares: dict[str, Counter[str]] = {answer: Counter() for answer in answers}
    total = 900
    for index in range(total * len(answers)):
        skeleton = family.sample(Random(f"signs{index}"), 2, index % len(answers))
        seen = shares[skeleton.answer]
        seen["statement"] += isinstance(skeleton.question, Not)
        for premise in skeleton.premises:
            if isinstance(premise, Forall):
                assert isinstance(premise.body, Implies)
                seen["rules"] += 1
                seen["condition"] += isinstance(premise.body.left, Not)
                seen["conclusion"] += isinstance(premise.body.right, Not)
            else:
                seen["facts"] += 1
                seen["fact"] += isinstance(premise, Not)
    for answer in answers:
        counts = shares[answer]
        assert abs(counts["statement"] / total - 0.5) < 0.06
        assert abs(counts["condition"] / counts["rules"] - 0.5) < 0.06
        assert abs(counts["conclusion"] / counts["rules"] - 0.5) < 0.06
        assert abs(counts["fact"] / counts["facts"] - 0.5) < 0.06
        assert abs(counts["rules"] / shares[answers[0]]["rules"] - 1) < 0.05


def test_without_negation_only_last_properties_are_negated() -> None:
    family = make_family("deduction", {"negation": False})
    for index in range(60):
        skeleton = family.sample(Random(index), 2, index % 3)
        formulas = (*skeleton.premises, skeleton.question)
        nodes = [node for formula in formulas for node in walk(formula)]
        negated = {name for node in nodes if isinstance(node, Not) for name in predicates(node)}
        assert len(negated) <= 2  # what is asked, and where one of its chains' other end leads
    only_positive = make_family("deduction", {"negation": False, "answers": ("True", "Unknown")})
    for index in range(60):
        skeleton = only_positive.sample(Random(index), 2, index % 2)
        assert not any(isinstance(node, Not) for f in (*skeleton.premises, skeleton.question) for node in walk(f))


def test_neutral_distractors_are_facts_about_unrelated_properties() -> None:
    family = make_family("deduction", {"distractors": (2, 2), "distractor_kinds": "neutral"})
    for index in range(30):
        skeleton = family.sample(Random(index), 1, index % 3)
        assert sum(isinstance(premise, Forall) for premise in skeleton.premises) == 1
        assert len(skeleton.premises) == 4


def test_quantities_stay_in_bounds() -> None:
    family = make_family("quantity", {"limit": 100})
    for index in range(100):
        skeleton = family.sample(Random(index), 3, index % 2)
        numbers = [node.value for step in skeleton.proof for node in walk(step.conclusion) if isinstance(node, Int)]
        assert all(2 <= number < 100 for number in numbers)
        assert skeleton.answer == str(numbers[-1])
        assert len(skeleton.proof) == 3


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("deductions", {}, "no problem family 'deductions'; choose among deduction"),
        ("deduction", {"distractor": 1}, "distractor: .*the options are distractors"),
        ("deduction", {"distractors": (3, 1)}, "least <= most"),
        ("deduction", {"answers": ("True",)}, "two or three"),
        ("ordering", {"extra": (0, 1), "decoy": False}, "at least 1 where Unknown"),
        ("allocation", {"others": (1, 2)}, "others must be at least 2"),
        ("quantity", {"limit": 5}, "limit"),
        ("quantity", {"start": (1, 5)}, "start must lie between 2 and limit"),
    ],
)
def test_wrong_options_are_errors(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        make_family(name, options)


def test_an_impossible_quantity_is_an_error() -> None:
    with pytest.raises(IsodistillError, match="No quantity problem of depth 60"):
        make_family("quantity", {"limit": 51}).sample(Random(0), 60, 0)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_the_registry_is_complete(family: type[Family]) -> None:
    assert FAMILIES[family.name] is family
    assert set(family.kinds) <= set(STATEMENT_KINDS)
    assert family.__doc__


def damaged(skeleton: Skeleton, **changes: Any) -> str:
    return json.dumps({**json.loads(skeleton.to_json()), **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"depth": "2"}, "'depth' must be a whole number"),
        ({"symbols": [["p0", "colour"]]}, "'symbols' must be pairs"),
        ({"proof": [[["atom", "p"], [99], "magic"]]}, "'proof' must be triples"),
        ({"premises": [["nonsense"]] * 9}, "premise 0"),
        ({"choices": [1]}, "'choices' must be a list of strings"),
    ],
)
def test_damaged_skeletons_are_refused(changes: dict[str, Any], told: str) -> None:
    skeleton = FAMILIES["deduction"]().sample(Random(0), 1, 0)
    with pytest.raises(IsodistillError, match=told):
        skeleton_from_json(damaged(skeleton, **changes))
    with pytest.raises(IsodistillError, match="not JSON"):
        skeleton_from_json("{")


def test_wrong_labels_and_proofs_are_found() -> None:
    skeleton = FAMILIES["deduction"]().sample(Random(3), 2, 0)
    with pytest.raises(IsodistillError, match="Rule label: z3 finds True"):
        verify_skeleton(dataclasses.replace(skeleton, answer="False"))
    with pytest.raises(IsodistillError, match="Rule proof: the last step does not settle"):
        verify_skeleton(dataclasses.replace(skeleton, proof=skeleton.proof[:-1]))
    step = dataclasses.replace(skeleton.proof[0], uses=(skeleton.proof[0].uses[0],))
    with pytest.raises(IsodistillError, match="does not follow"):
        verify_skeleton(dataclasses.replace(skeleton, proof=(step, skeleton.proof[1])))
    ahead = dataclasses.replace(skeleton.proof[0], uses=(len(skeleton.premises) + 1,))
    with pytest.raises(IsodistillError, match="uses a later step"):
        verify_skeleton(dataclasses.replace(skeleton, proof=(ahead, skeleton.proof[1])))


def test_a_positive_statement_stays_positive() -> None:
    options = {"negation": False, "statement_negation": False, "answers": ("True", "False"), "distractors": (0, 0)}
    family = make_family("deduction", options | {"distractor_kinds": "mixed"})
    for seed in range(20):
        skeleton = family.sample(Random(seed), 1, seed % 2)
        assert not isinstance(skeleton.question, Not)
        negated = any(isinstance(node, Not) for premise in skeleton.premises for node in walk(premise))
        assert negated == (skeleton.answer == "False")
