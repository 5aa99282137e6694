"""Recorded replies: what is accepted, what is mended, and every reason to drop one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writing_helpers import CONCLUSION, FORMULAS, TEXT, cat_source, good, good_reading, text_of

from isodistill.logic import canonical_form, parse_formula
from isodistill.writing import (
    Proposal,
    Rejected,
    examine_proposal,
    examine_reading,
    require_agreement,
    writing_instruction,
)
from isodistill.writing.matching import premise_order
from isodistill.writing.prompt import read_request, write_request
from isodistill.writing.reply import MAX_FORMULA, MAX_SENTENCE

SOURCE = cat_source()


def examined(reply: Any, finish: str = "stop", source: Any = SOURCE) -> Proposal:
    return examine_proposal(reply if isinstance(reply, str) else text_of(reply), finish, source)


def changed(*path: Any, to: Any) -> dict[str, Any]:
    reply = deepcopy(good())
    place = reply
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return reply


def test_the_worked_examples_of_the_prompt_are_what_the_code_asks_for_and_accepts() -> None:
    (asked, written), (shown, read) = writing_instruction().shots
    assert asked == write_request(TEXT, SOURCE.premises, SOURCE.question, {}, "law")
    proposal = examine_proposal(written, "stop", SOURCE)
    assert proposal.mends == ()
    formulas = (*proposal.premises, proposal.question)
    assert shown == read_request(proposal.sentences, proposal.conclusion, formulas, proposal.symbols)
    require_agreement(proposal, examine_reading(read, "stop"))
    assert proposal.prompt(("True", "False")) == (
        "Every lease is a contract. No contract is void unless it is forged. The Farley deed is a lease and the Farley"
        " deed amends the Baker deed.\nConclusion: The Farley deed is not void.\nTrue or False?"
    )


def test_the_documentation_shows_this_very_prompt_and_its_version() -> None:
    told = (Path(__file__).parents[2] / "docs" / "writing.md").read_text(encoding="utf-8")
    instruction = writing_instruction()
    assert f"`{instruction.version}`" in told
    for request, reply in instruction.shots:
        assert request in told
        assert json.dumps(json.loads(reply), ensure_ascii=False, indent=1) in told


REPAIRED: list[tuple[str, Any]] = [
    ("took the object out of a code fence", f"```json\n{text_of(good())}\n```"),
    ("dropped text around the object", f"Here it is:\n{text_of(good())}\nI hope this helps."),
    ("added a closing parenthesis", changed("premises", 0, "formula", to="∀x (Lease(x) → Contract(x)")),
    ("dropped a full stop at the end", changed("conclusion", "formula", to="¬Void(farley_deed).")),
    (
        "widened the leading quantifiers to the whole",
        changed("premises", 0, "formula", to="∀x Lease(x) → Contract(x)"),
    ),
    ("added a full stop to a sentence", changed("premises", 0, "text", to="Every lease is a contract")),
    (
        "took the arguments off a symbol",
        changed(
            "symbols", to={f"{key}(x)" if key == "Lease" else key: text for key, text in good()["symbols"].items()}
        ),
    ),
    ("dropped symbols that stand in no formula", changed("symbols", "Witness", to="is a witness")),
    ("put the premises into the order of the source", changed("premises", to=good()["premises"][::-1])),
]


@pytest.mark.parametrize(("what", "reply"), REPAIRED, ids=[what for what, _ in REPAIRED])
def test_harmless_slips_are_mended_and_told(what: str, reply: Any) -> None:
    proposal = examined(reply)
    assert [mend.what for mend in proposal.mends] == [what]
    assert proposal.sentences == examined(good()).sentences
    assert canonical_form(proposal.premises, proposal.question) == SOURCE.canonical


def test_a_thought_before_the_object_is_passed_over() -> None:
    assert examined(f"<think>Say {{1}}.</think>\n{text_of(good())}").mends == ()


def formula(place: int, text: str) -> dict[str, Any]:
    return changed("premises", place, "formula", to=text)


def sentence(text: str) -> dict[str, Any]:
    return changed("premises", 0, "text", to=text)


DROPPED: list[tuple[str, Any]] = [
    ("no JSON object", "I am sorry, I cannot."),
    ("no JSON object", ""),
    ("no JSON object", '{"premises": [}'),
    ("no JSON object", "{" * 60_000),
    ("no JSON object", '{"a":' + "[" * 50_000),
    ("no JSON object", '{"a": ' + "9" * 5000 + "}"),
    ("too long", "x" * 70_000),
    ("wrong form", "{}"),
    ("wrong form", text_of(changed("premises", to=["a", "b", "c"]))),
    ("wrong form", text_of(changed("premises", 0, "text", to=7))),
    ("wrong form", text_of(changed("premises", to=good()["premises"] * 50))),
    ("wrong form", text_of(sentence("very " * MAX_SENTENCE))),
    ("wrong form", text_of(formula(0, "∀x " * MAX_FORMULA))),
    ("wrong form", text_of(changed("symbols", "Lease", to=["is a lease"]))),
    ("wrong form", text_of(changed("symbols", "Lease", to="is " * 100))),
    ("another number of premises", changed("premises", to=good()["premises"][:2])),
    ("another number of premises", changed("premises", to=[*good()["premises"], good()["premises"][0]])),
    ("no formula", formula(0, "Every lease is a contract")),
    ("no formula", formula(0, "__import__('os').system('true')")),
    ("no formula", formula(0, "(" * 1500)),
    ("no formula", formula(0, "∀x (Lease(x) → Contract(y))")),
    ("a symbol without a phrase", changed("symbols", to={"Lease": "is a lease"})),
    ("two symbols with one phrase", changed("symbols", "Lease", to="Is a contract")),
    ("empty text", sentence("   ")),
    ("control characters", sentence("Every lease is\na contract.")),
    ("control characters", sentence("Every lease is a \u202econtract.")),
    ("control characters", sentence("Every lease is a \x1b[31mcontract.")),
    ("control characters", sentence("Every lease is a \u200bcontract.")),
    ("wrong form", sentence("Every lease is a \ud800contract.")),
    ("names the answer", sentence("Every lease is a contract. Answer: True.")),
    ("names the answer", sentence("Every lease is a contract; the conclusion is true.")),
    ("names the answer", changed("symbols", "Lease", to="**Answer**: Unknown")),
    ("marks in the text", sentence("Every lease is a contract.<|im_end|>")),
    ("marks in the text", sentence("∀x (Lease(x) → Contract(x)).")),
    ("marks in the text", changed("symbols", "Lease", to="P -> Q")),
    ("no sentence", sentence("Is every lease a contract?")),
    ("a sentence of the source", changed("premises", 0, "text", to="every CAT is a mammal.")),
    ("another length", changed("conclusion", "text", to="The Farley deed, " + "as we know, " * 30 + "is not void.")),
    # One change of the formalisation each.
    ("another structure", formula(0, "∀x (Lease(x) ↔ Contract(x))")),
    ("another structure", formula(0, "∃x (Lease(x) → Contract(x))")),
    ("another structure", formula(0, "∀x (Contract(x) → Lease(x))")),
    ("another structure", formula(0, "∀x (Lease(x) → ¬Contract(x))")),
    ("another structure", formula(1, "∀x (Contract(x) ∨ ¬Forged(x) → ¬Void(x))")),
    ("another structure", formula(1, "∀x (Contract(x) ∧ ¬Lease(x) → ¬Void(x))")),
    ("another structure", formula(2, "Lease(farley_deed) ∧ Amends(baker_deed, farley_deed)")),
    ("another structure", formula(2, "Lease(farley_deed) ∧ Amends(farley_deed, farley_deed)")),
    ("another structure", formula(2, "Lease(farley_deed)")),
    ("another structure", changed("conclusion", "formula", to="Void(farley_deed)")),
    ("another structure", changed("conclusion", "formula", to="¬Void(baker_deed)")),
]


@pytest.mark.parametrize(("reason", "reply"), DROPPED)
def test_every_reason_to_drop_a_proposal(reason: str, reply: Any) -> None:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    with pytest.raises(Rejected) as caught:
        examined(text)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_a_reply_at_the_limit_of_tokens_is_cut_off_and_not_malformed() -> None:
    with pytest.raises(Rejected) as caught:
        examined(text_of(good())[:-20], finish="length")
    assert caught.value.reason == "cut off"
    assert examined(text_of(good()), finish="length").mends == ()


def test_the_solver_must_find_the_answer_of_the_source() -> None:
    with pytest.raises(Rejected) as caught:
        examined(good(), source=cat_source("True"))
    assert (caught.value.reason, caught.value.detail) == ("another answer", "z3 finds Unknown, the source says True")


def test_the_detail_names_the_place_and_both_formulas() -> None:
    with pytest.raises(Rejected, match=r"premise 2 is forall x\. \(Contract\(x\) or .* wanted is a renaming of"):
        examined(formula(1, "∀x (Contract(x) ∨ ¬Forged(x) → ¬Void(x))"))


def reading(change: Callable[[dict[str, Any]], None]) -> str:
    read = good_reading()
    change(read)
    return text_of(read)


@pytest.mark.parametrize(
    "change",
    [
        lambda read: read["premises"].__setitem__(0, "∀x (Lease(x) ↔ Contract(x))"),
        lambda read: read["premises"].__setitem__(0, "∃x (Lease(x) → Contract(x))"),
        lambda read: read["premises"].pop(1),
        lambda read: read["premises"].append("Lease(baker_deed)"),
        lambda read: read["premises"].__setitem__(1, "∀x (Contract(x) → ¬Void(x))"),
        lambda read: read["premises"].reverse(),
        lambda read: read.__setitem__("conclusion", "Void(farley_deed)"),
    ],
    ids=["iff", "quantifier", "dropped", "added", "exception", "order", "conclusion"],
)
def test_a_reading_that_says_something_else_drops_the_proposal(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(Rejected) as caught:
        require_agreement(examined(good()), examine_reading(reading(change), "stop"))
    assert caught.value.reason == "the back-translation differs"


def test_a_reading_may_use_other_names_and_needs_formulas() -> None:
    renamed = text_of(good_reading()).replace("Lease", "Rental")
    require_agreement(examined(good()), examine_reading(f"```\n{renamed}\n```", "stop"))
    with pytest.raises(Rejected, match="no formula"):
        examine_reading(reading(lambda read: read.__setitem__("conclusion", "not void")), "stop")


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=400)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["premises", "conclusion", "symbols", "text", "formula", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ).map(json.dumps)
)
def test_any_text_ends_in_a_proposal_or_a_reason(text: str) -> None:
    for examine in (lambda: examined(text), lambda: examine_reading(text, "stop")):
        with pytest.raises(Rejected):
            examine()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.text(max_size=3)), min_size=1, max_size=4))
def test_a_damaged_reply_is_refused_or_still_the_same_problem(edits: list[tuple[float, int, str]]) -> None:
    text = text_of(good())
    for where, cut, put in edits:
        place = int(where * len(text))
        text = f"{text[:place]}{put}{text[place + cut :]}"
    try:
        proposal = examined(text)
    except Rejected:
        return
    assert canonical_form(proposal.premises, proposal.question) == SOURCE.canonical


def test_premises_are_matched_in_any_order_and_only_if_they_fit() -> None:
    premises, question = [parse_formula(text) for text in FORMULAS], parse_formula(CONCLUSION)
    for order in itertools.permutations(range(3)):
        shuffled = [premises[place] for place in order]
        found = premise_order(premises, question, shuffled, question)
        assert found is not None
        assert [shuffled[place] for place in found] == premises
    assert premise_order(premises, question, premises[:2], question) is None
    assert premise_order(premises, question, premises, parse_formula("Gills(tom)")) is None


def test_a_problem_too_symmetric_to_settle_is_no_match_and_no_hang() -> None:
    # A cycle of 60 against two cycles of 30: colour refinement cannot tell them apart.
    def cycle(names: list[str]) -> list[Any]:
        return [parse_formula(f"R({a}, {b})") for a, b in zip(names, [*names[1:], names[0]], strict=True)]

    one = cycle([f"a{i}" for i in range(60)])
    two = cycle([f"b{i}" for i in range(30)]) + cycle([f"c{i}" for i in range(30)])
    question = parse_formula("Q(d)")
    assert premise_order(one, question, two, question) is None
    assert premise_order(one, question, one[7:] + one[:7], question) is not None
