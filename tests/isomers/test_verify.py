from __future__ import annotations

import json
from typing import Any

import pytest

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, generate, make_config, read_split, verify_set
from isodistill.isomers.packs import load_pack
from isodistill.isomers.verify import lengths_fit


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> IsomerSet:
    out = tmp_path_factory.mktemp("verify") / "data"
    config = make_config(sets=1, validation_sets=0, test_sets=0, domains=("medicine", "law"), shortcut={"rate": 1.0})
    generate(config, out)
    return read_split(out, "train")[0]


def with_member(row: IsomerSet, place: int, **changes: Any) -> IsomerSet:
    members = list(row.members)
    members[place] = members[place].model_copy(update=changes)
    return row.model_copy(update={"members": tuple(members)})


def with_formal(row: IsomerSet, **changes: Any) -> IsomerSet:
    formal = {**json.loads(row.members[0].formal), **changes}
    return with_member(row, 0, formal=json.dumps(formal))


def test_a_fresh_set_verifies(row: IsomerSet) -> None:
    verify_set(row)


def test_a_changed_text_is_found(row: IsomerSet) -> None:
    with pytest.raises(IsodistillError, match=f"{row.set_id}.*domain 'medicine'.*rule replay"):
        verify_set(with_member(row, 0, prompt=row.members[0].prompt.replace(" is ", " is not ", 1)))


def test_a_text_and_record_of_another_problem_are_found(row: IsomerSet) -> None:
    # The record writes the text, but with two symbols on one word: another problem.
    formal = json.loads(row.members[0].formal)
    properties = [name for name in formal["lexicon"] if name.startswith("p")]
    lexicon = {**formal["lexicon"], properties[0]: formal["lexicon"][properties[1]]}
    changed = with_formal(row, lexicon=lexicon)
    member = changed.members[0]
    text = member.load_formal(row.set_id).render(row.logic, load_pack("medicine"))
    with pytest.raises(IsodistillError, match="rule round trip"):
        verify_set(with_member(changed, 0, prompt=text))


def test_a_wrong_answer_is_found(row: IsomerSet) -> None:
    wrong = next(choice for choice in row.choices if choice != row.answer)
    with pytest.raises(IsodistillError, match="rule record"):
        verify_set(row.model_copy(update={"answer": wrong}))
    skeleton = json.dumps({**json.loads(row.skeleton), "answer": wrong})
    fake = IsomerSet.model_validate({**row.model_dump(), "answer": wrong, "skeleton": skeleton})
    with pytest.raises(IsodistillError, match=f"{row.set_id}.*Rule label"):
        verify_set(fake)


def test_a_hidden_cue_is_found(row: IsomerSet) -> None:
    with pytest.raises(IsodistillError, match="rule cue"):
        verify_set(with_member(row, 0, cue=""))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lexicon": None}, "no lexicon"),
        ({"lexicon": {}}, "rule replay"),
        ({"templates": {"premises": [-1], "question": 0, "lead": 0}}, "whole number"),
        ({"templates": {"premises": [99] * 3, "question": 0, "lead": 0}}, "rule replay"),
        ({"cue": "blue"}, "cue without text"),
    ],
)
def test_damaged_records_are_found(row: IsomerSet, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        verify_set(with_formal(row, **changes))
    with pytest.raises(IsodistillError, match=f"set '{row.set_id}', domain 'medicine', the formal record is not JSON"):
        verify_set(with_member(row, 0, formal="{"))


def test_lengths() -> None:
    assert lengths_fit([20, 22, 25])
    assert not lengths_fit([20, 20, 28])
    assert lengths_fit([20])
