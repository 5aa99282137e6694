from __future__ import annotations

from pathlib import Path

import pytest

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, Member, available_splits, generate, make_config, read_split
from isodistill.isomers.card import read_card
from isodistill.teachers import Explainer, Trace, make_teacher
from isodistill.teachers.distil import distil


class Fixed(Explainer):
    """A teacher that says what it is told to say."""

    name = "fixed"

    def __init__(self, rationale: str, answer: str) -> None:
        self._trace = Trace(rationale, answer)

    def explain(self, isomer_set: IsomerSet, member: Member) -> Trace:
        return self._trace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    out = tmp_path / "data"
    generate(make_config(sets=6, validation_sets=3, test_sets=3, domains=("law", "math"), shortcut={"rate": 0.9}), out)
    return out


def test_completions_are_filled_and_all_else_is_kept(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    out = tmp_path / "taught"
    report = distil(data, make_teacher("symbolic"), out, progress=lambda *call: calls.append(call))
    assert available_splits(out) == available_splits(data)
    assert report.members == sum(len(row.members) for split in available_splits(out) for row in read_split(out, split))
    for split in available_splits(data):
        for before, after in zip(read_split(data, split), read_split(out, split), strict=True):
            emptied = tuple(member.model_copy(update={"completion": ""}) for member in after.members)
            assert after.model_copy(update={"members": emptied}) == before
            for member in after.members:
                rationale, answer = split_completion(member.completion)
                assert answer == after.answer
                assert len(rationale.split()) > 3
    assert calls[:3] == [("train", 0, 12), ("train", 1, 12), ("train", 2, 12)]
    assert next(call for call in calls if call[1] == call[2]) == ("train", 12, 12)
    info, _ = read_card(out / "README.md")
    original, _ = read_card(data / "README.md")
    assert info is not None
    assert original is not None
    assert info == original.model_copy(update={"teacher": "symbolic (full)"})
    assert report.mean_words > 10


def test_a_data_set_can_be_distilled_in_place(data: Path) -> None:
    with pytest.raises(IsodistillError, match="not empty"):
        distil(data, make_teacher("symbolic"), data)
    distil(data, make_teacher("symbolic", style="short"), data, overwrite=True)
    short = read_split(data, "train")[0].members[0].completion
    distil(data, make_teacher("symbolic"), data, overwrite=True)
    assert len(read_split(data, "train")[0].members[0].completion) >= len(short)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (Fixed("I guess.", "Perhaps"), "answers 'Perhaps'"),
        (Fixed("Because.\nAnswer: True", "Perhaps"), r"wrote no trace that can be used \(several answers\)"),
    ],
)
def test_a_wrong_answer_stops_the_work(data: Path, tmp_path: Path, teacher: Fixed, words: str) -> None:
    name = read_split(data, "train")[0].set_id
    with pytest.raises(IsodistillError, match=f"set '{name}', domain 'law', the teacher 'fixed' {words}"):
        distil(data, teacher, tmp_path / "taught")
    assert not (tmp_path / "taught").exists()


def test_a_data_set_without_card_gets_one(data: Path, tmp_path: Path) -> None:
    (data / "README.md").unlink()
    distil(data, make_teacher("symbolic"), tmp_path / "taught")
    info, splits = read_card(tmp_path / "taught" / "README.md")
    assert info is not None
    assert info.family == "deduction"
    assert set(splits) == set(available_splits(data))
