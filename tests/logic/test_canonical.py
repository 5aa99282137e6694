from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.isomers.families import FAMILIES
from isodistill.logic import Atom, Const, Forall, Formula, Implies, Int, Not, Var, canonical_form, structure_hash
from isodistill.logic.formula import constants, predicates, rename

X, Y = Var("x"), Var("y")


def sampled(seed: int, family: str) -> tuple[tuple[Formula, ...], Formula]:
    rng = Random(seed)
    kind = FAMILIES[family]()
    skeleton = kind.sample(rng, rng.randint(1, 4), rng.randrange(len(kind.classes)))
    return skeleton.premises, skeleton.question


PROBLEMS = st.builds(sampled, st.integers(0, 10**6), st.sampled_from(list(FAMILIES)))


@settings(deadline=None)
@given(PROBLEMS, st.randoms(use_true_random=False))
def test_renaming_changes_neither_form_nor_hash(problem: tuple[tuple[Formula, ...], Formula], rng: Random) -> None:
    premises, question = problem
    symbols = {name for formula in (*premises, question) for name in (*constants(formula), *predicates(formula))}
    fresh = [f"n{place}" for place in range(len(symbols))]
    rng.shuffle(fresh)
    names = dict(zip(sorted(symbols), fresh, strict=True))
    renamed = [rename(premise, names) for premise in premises], rename(question, names)
    assert canonical_form(*renamed) == canonical_form(premises, question)
    assert structure_hash(*renamed) == structure_hash(premises, question)


@settings(deadline=None)
@given(PROBLEMS, st.randoms(use_true_random=False))
def test_the_hash_ignores_the_order_of_premises(problem: tuple[tuple[Formula, ...], Formula], rng: Random) -> None:
    premises, question = problem
    shuffled = rng.sample(premises, len(premises))
    assert structure_hash(shuffled, question) == structure_hash(premises, question)


@settings(deadline=None)
@given(PROBLEMS)
def test_another_question_changes_both(problem: tuple[tuple[Formula, ...], Formula]) -> None:
    premises, question = problem
    assert canonical_form(premises, Not(question)) != canonical_form(premises, question)
    assert structure_hash(premises, Not(question)) != structure_hash(premises, question)


def test_the_form_keeps_the_order_of_premises_and_ignores_bound_names() -> None:
    a, b = Const("a"), Const("b")
    p, q = Atom("p", (a,)), Atom("q", (b,))
    rule = [Forall(v, Implies(Atom("p", (v,)), Atom("q", (v,)))) for v in (X, Y)]
    assert canonical_form([p, rule[0]], q) == canonical_form([p, rule[1]], q)
    assert canonical_form([p, rule[0]], q) != canonical_form([rule[0], p], q)
    assert canonical_form([p], q) == "p0(c0) |- p1(c1)"


def test_different_structures_have_different_hashes() -> None:
    a, b = Const("a"), Const("b")
    chain = Forall(X, Implies(Atom("p", (X,)), Atom("q", (X,))))
    converse = Forall(X, Implies(Atom("q", (X,)), Atom("p", (X,))))
    fact = Atom("p", (a,))
    hashes = {
        structure_hash([fact, chain], Atom("q", (a,))),
        structure_hash([fact, converse], Atom("q", (a,))),
        structure_hash([fact, chain], Atom("q", (b,))),
        structure_hash([fact, chain], Not(Atom("q", (a,)))),
        structure_hash([fact, fact, chain], Atom("q", (a,))),
        structure_hash([Atom("p", (Int(3),))], Atom("q", (a,))),
        structure_hash([Atom("p", (Int(4),))], Atom("q", (a,))),
    }
    assert len(hashes) == 7
