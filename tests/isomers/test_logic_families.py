"""What the families syllogism, statute, allocation and counting promise, by means of their own."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.isomers.config import make_config
from isodistill.isomers.families import make_family
from isodistill.isomers.families.allocation import MAX_PEOPLE
from isodistill.isomers.families.syllogism import Categorical, decide, read_categorical
from isodistill.isomers.skeleton import Skeleton, asked_constant
from isodistill.isomers.statements import find_kind
from isodistill.logic import And, Const, Equals, Formula, Int, Less, Not, Or, consistent, status, unique_value
from isodistill.logic.formula import Arith, Term, predicates

SEEDS = st.integers(0, 10**9)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_least_world_decides_as_z3_does(seed: int) -> None:
    rng = Random(seed)
    sentences = [
        Categorical(rng.choice(["all", "no", "some", "some not"]), *rng.sample("ABCD", 2))  # type: ignore[arg-type]
        for _ in range(rng.randint(2, 5))
    ]
    *premises, statement = sentences
    formulas = [sentence.formula for sentence in premises]
    if consistent(formulas):
        assert decide(premises, statement) == status(formulas, statement.formula)
    assert [read_categorical(sentence.formula) for sentence in sentences] == sentences


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 4), name=st.sampled_from(["syllogism", "statute", "allocation"]))
def test_no_premise_of_a_proof_can_be_spared(seed: int, depth: int, name: str) -> None:
    skeleton = make_family(name).sample(Random(seed), depth, seed % 2)
    used = {use for step in skeleton.proof for use in step.uses if use < len(skeleton.premises)}
    for place in used:
        if isinstance(skeleton.premises[place], And):
            continue  # the row itself: where a place follows without its ends, they are not cited for it
        rest = [premise for other, premise in enumerate(skeleton.premises) if other != place]
        # Other clues together may still exclude the place that a false statement names, see below.
        wanted = ("Unknown", "False") if name == "allocation" and skeleton.answer == "False" else ("Unknown",)
        assert status(rest, skeleton.question) in wanted


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 4))
def test_few_clues_never_settle_an_allocation(seed: int, depth: int) -> None:
    skeleton = make_family("allocation").sample(Random(seed), depth, seed % 2)
    row, *clues = skeleton.premises
    assert isinstance(row, And)
    for chosen in itertools.combinations(clues, min(depth, 3)):
        assert consistent([row, *chosen, skeleton.question])
        assert consistent([row, *chosen, Not(skeleton.question)])


@pytest.mark.parametrize("decoy", [True, False])
def test_forms_tell_nothing_about_the_answer_of_a_syllogism(decoy: bool) -> None:
    family = make_family("syllogism", {"distractors": (0, 0), "decoy": decoy})
    total = 600
    asked: dict[str, Counter[str]] = {answer: Counter() for answer in family.classes}
    given_: dict[str, Counter[str]] = {answer: Counter() for answer in family.classes}
    for index in range(3 * total):
        skeleton = family.sample(Random(f"forms{index}"), 1 + index // 3 % 3, index % 3)
        asked[skeleton.answer][read_categorical(skeleton.question).form] += 1
        given_[skeleton.answer].update(read_categorical(premise).form for premise in skeleton.premises)
    for answer in family.classes:
        assert all(abs(count / total - 0.25) < 0.06 for count in asked[answer].values())
        for form, count in given_[answer].items():
            assert abs(count / given_["True"].total() - given_["True"][form] / given_["True"].total()) < 0.05


def value(term: Term, places: dict[str, int]) -> int:
    match term:
        case Const(name):
            return places[name]
        case Int(number):
            return number
        case Arith("+", args):
            return sum(value(arg, places) for arg in args)
    raise AssertionError(term)


def holds(formula: Formula, places: dict[str, int]) -> bool:
    match formula:
        case And(parts):
            return all(holds(part, places) for part in parts)
        case Or(parts):
            return any(holds(part, places) for part in parts)
        case Not(body):
            return not holds(body, places)
        case Less(left, right):
            return value(left, places) < value(right, places)
        case Equals(left, right):
            return value(left, places) == value(right, places)
    raise AssertionError(formula)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 4))
def test_an_allocation_has_exactly_one_arrangement(seed: int, depth: int) -> None:
    skeleton = make_family("allocation").sample(Random(seed), depth, seed % 2)
    names = [symbol.name for symbol in skeleton.symbols]
    rows = (dict(zip(names, row, strict=True)) for row in itertools.permutations(range(1, len(names) + 1)))
    (only,) = [row for row in rows if all(holds(premise, row) for premise in skeleton.premises)]
    assert holds(skeleton.question, only) == (skeleton.answer == "True")


def test_the_same_clues_and_places_serve_either_answer() -> None:
    family = make_family("allocation")
    asked: dict[str, Counter[int]] = {"True": Counter(), "False": Counter()}
    for index in range(600):
        true, false = (family.sample(Random(f"places{index}"), 1, answer) for answer in (0, 1))
        assert true.premises == false.premises
        for skeleton in (true, false):
            assert isinstance(skeleton.question, Equals)
            assert isinstance(skeleton.question.right, Int)
            asked[skeleton.answer][skeleton.question.right.value] += 1
    assert all(abs(asked["True"][place] - asked["False"][place]) / 600 < 0.06 for place in range(1, 6))


def test_an_allocation_that_is_too_deep_is_an_error() -> None:
    with pytest.raises(IsodistillError, match="a depth of 5 at most, not 9"):
        make_family("allocation").sample(Random(0), MAX_PEOPLE + 1, 0)
    # A config is refused before anything is drawn.
    with pytest.raises(IsodistillError, match="depth asks for 7"):
        make_config(family="allocation", depth=(1, 7))
    with pytest.raises(IsodistillError, match=r"deeper \(by default the two depths above depth\) asks for 6"):
        make_config(family="allocation", depth=(1, 4))
    make_config(family="allocation", depth=(1, 4), deeper=(5, 5))
    make_config(family="allocation", depth=(1, 5), test_sets=0)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 3))
def test_a_statute_applies_each_provision_by_its_rule_or_its_exception(seed: int, depth: int) -> None:
    skeleton = make_family("statute").sample(Random(seed), depth, seed % 3)
    kinds = [find_kind(premise, "premise")[0].name for premise in skeleton.premises]
    rules = [name for name in kinds if name.startswith("unless")]
    exceptions = [name for name in kinds if name.startswith("override")]
    assert len(rules) == len(exceptions) >= depth
    assert sum(name.endswith("_not") for name in kinds if name not in ("fact", "fact_not")) == len(rules)
    assert {step.rule for step in skeleton.proof} <= {"exception", "rule with exception"}
    if skeleton.answer != "Unknown":
        assert len(skeleton.proof) == depth


def set_sizes(skeleton: Skeleton) -> z3.Solver:
    """Asserts what the sentences say about sets, by the numbers of individuals with each combination of properties."""
    properties = [symbol.name for symbol in skeleton.symbols]
    kinds = [itertools.compress(properties, bits) for bits in itertools.product((0, 1), repeat=len(properties))]
    regions = {frozenset(kind): z3.Int(f"r{place}") for place, kind in enumerate(kinds)}
    solver = z3.Solver()
    solver.add(*(count >= 0 for count in regions.values()))

    def size(*inside: str, outside: str = "") -> z3.ArithRef:
        return z3.Sum([n for kind, n in regions.items() if set(inside) <= kind and outside not in kind])

    def union(a: str, b: str, c: str) -> z3.BoolRef:
        return z3.Sum([n for kind, n in regions.items() if (a in kind) != (b in kind or c in kind)]) == 0

    everybody = z3.Sum(list(regions.values()))
    for premise in skeleton.premises:
        kind, slots = find_kind(premise, "premise", make_family("counting").kinds)
        a, b, c, n = (slots.get(slot, "") for slot in ("A", "B", "C", "n"))
        match kind.name:
            case "set_size":
                said = [size(a) == int(n)]
            case "set_parts":
                said = [size(b, c) == 0, union(a, b, c)]
            case "set_union":
                said = [size(b, c) == int(n), union(a, b, c)]
            case "set_total":
                said = [everybody == int(n), size(a, b) == 0, size(a) + size(b) == everybody]
            case _:
                said = [size(b, outside=a) == 0, size(a, outside=b) == int(n)]
        solver.add(*said)
    asked = asked_constant(skeleton.question)
    assert asked is not None
    solver.add(size(asked.name) == int(skeleton.answer))
    return solver


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 2))
def test_sets_of_the_counted_sizes_exist(seed: int, depth: int) -> None:
    skeleton = make_family("counting", {"distractors": (0, 1)}).sample(Random(seed), depth, seed % 2)
    assert not any(predicates(premise) for premise in skeleton.premises)
    if len(skeleton.symbols) <= 7:
        assert set_sizes(skeleton).check() == z3.sat
    for symbol in skeleton.symbols:
        assert unique_value(skeleton.premises, Const(symbol.name)) >= 2
