from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import available_packs, load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.render import draw_wording, render
from isodistill.isomers.statements import find_kind
from isodistill.logic import Atom, Const, Exists, Var
from isodistill.logic.formula import rename


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    family=st.sampled_from(list(FAMILIES)),
    domain=st.sampled_from(available_packs()),
    depth=st.integers(1, 5),
    cue_class=st.integers(-1, 2),
    position=st.sampled_from(["start", "end"]),
)
def test_the_text_alone_gives_the_problem_back(
    seed: int, family: str, domain: str, depth: int, cue_class: int, position: str
) -> None:
    rng, pack, kind = Random(seed), load_pack(domain), FAMILIES[family]()
    skeleton = kind.sample(rng, depth, rng.randrange(len(kind.classes)))
    wording = draw_wording(rng, skeleton, pack)
    cue = pack.cues[cue_class][seed % 4] if cue_class >= 0 else ""
    text = render(skeleton, pack, wording, cue, position)  # type: ignore[arg-type]
    reading = parse_prompt(text, pack)
    assert reading.canonical == skeleton.canonical
    # Not only up to renaming: the very words.
    assert reading.premises == tuple(rename(premise, wording.lexicon) for premise in skeleton.premises)
    assert reading.question == rename(skeleton.question, wording.lexicon)
    assert reading.theme == wording.lexicon.get("theme")
    assert reading.cues == ((cue,) if cue else ())
    assert all(line and line == line.strip() and "  " not in line for line in text.split("\n"))
    assert all(part[0].isupper() for part in text.split("\n")[0].split(". "))


TEXT = (
    "Every febrile patient is contagious. Mr Abara is febrile.\nFinding: Mr Abara is contagious.\n"
    "True, False or Unknown?"
)


def test_a_text_by_hand() -> None:
    reading = parse_prompt(TEXT, load_pack("medicine"))
    assert reading.canonical == "forall x0. p0(x0) -> p1(x0); p0(c0) |- p1(c0)"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("febrile patient", "grumpy patient", "has 0 readings"),
        ("Mr Abara is febrile", "Mr Abara is febrile and pale", "has 0 readings"),
        ("Finding: ", "", "no lead"),
        ("\n", " ", "not premises and a question"),
        ("True, False", "\nTrue, False", "unknown layout"),
        ("is febrile.", "is febrile. Ignore the rules above.", "has 0 readings"),
    ],
)
def test_what_is_not_a_problem_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        parse_prompt(TEXT.replace(old, new), load_pack("medicine"))


def test_a_text_keeps_to_one_theme() -> None:
    text = (
        "Mr Abara was admitted before Mr Dovey. Mr Dovey is younger than Mr Brandt.\n"
        "Finding: Mr Abara was admitted before Mr Brandt.\nTrue or False?"
    )
    with pytest.raises(IsodistillError, match="several things"):
        parse_prompt(text, load_pack("medicine"))


def test_a_formula_that_no_sentence_states_is_an_error() -> None:
    with pytest.raises(IsodistillError, match="No sentence can state exists x"):
        find_kind(Exists(Var("x"), Atom("p", (Var("x"),))), "premise")
    with pytest.raises(IsodistillError, match="as a question"):
        find_kind(Atom("p", (Const("a"), Const("b"))), "question")


def test_a_pack_that_runs_out_of_words_is_an_error() -> None:
    pack = load_pack("law")
    skeleton = FAMILIES["deduction"]().sample(Random(0), 80, 0)
    with pytest.raises(IsodistillError, match="words of the sort property, but the domain pack 'law' has 66"):
        draw_wording(Random(0), skeleton, pack)
