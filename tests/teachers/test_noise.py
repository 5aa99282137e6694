"""Label noise: the right share of sets, all members alike, and the verified answers untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from isodistill.answers import same_answer, split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.config import make_config
from isodistill.isomers.generate import generate
from isodistill.isomers.noise import LabelNoise
from isodistill.isomers.sets import IsomerSet
from isodistill.isomers.store import read_split
from isodistill.teachers import make_teacher
from isodistill.teachers.distil import DistilOptions, distil


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("noise") / "raw"
    config = make_config(
        sets=80, validation_sets=10, test_sets=10, depth=(1, 2), unseen_domains=(), max_sets_per_skeleton=4, audit=False
    )
    generate(config, out)
    return out


def answers(isomer_set: IsomerSet) -> set[str | None]:
    return {split_completion(member.completion)[1] for member in isomer_set.members}


def distilled(data: Path, out: Path, noise: LabelNoise | None, style: str = "answer") -> dict[str, list[IsomerSet]]:
    distil(data, make_teacher("symbolic", style=style), out, options=DistilOptions(noise=noise))
    return {split: list(read_split(out, split)) for split in ("train", "validation", "iid")}


def test_the_answer_style_writes_the_answer_line_alone(data: Path, tmp_path: Path) -> None:
    sets = distilled(data, tmp_path / "out", None)
    for isomer_set in sets["train"]:
        assert {member.completion for member in isomer_set.members} == {f"Answer: {isomer_set.answer}"}


def test_noise_makes_whole_training_sets_wrong_and_nothing_else(data: Path, tmp_path: Path) -> None:
    noisy = distilled(data, tmp_path / "noisy", LabelNoise(0.3, seed=1))
    clean = distilled(data, tmp_path / "clean", None)
    wrong = 0
    for ours, theirs in zip(noisy["train"], clean["train"], strict=True):
        assert ours.answer == theirs.answer
        given = answers(ours)
        assert len(given) == 1, "members of a set disagree on the answer"
        answer = given.pop()
        assert answer in ours.choices
        wrong += not same_answer(answer, ours.answer)
    assert 12 <= wrong <= 36  # 24 of 80 expected; three standard deviations are 12
    assert noisy["validation"] == clean["validation"]
    assert noisy["iid"] == clean["iid"]
    assert "answered wrongly on purpose (seed 1)" in (tmp_path / "noisy" / "README.md").read_text()


def test_the_rationale_stays_and_the_same_seed_gives_the_same_sets(data: Path, tmp_path: Path) -> None:
    first = distilled(data, tmp_path / "a", LabelNoise(0.3), "full")
    again = distilled(data, tmp_path / "b", LabelNoise(0.3), "full")
    other = distilled(data, tmp_path / "c", LabelNoise(0.3, seed=9), "full")
    clean = distilled(data, tmp_path / "d", None, "full")
    assert first == again != other
    for ours, theirs in zip(first["train"], clean["train"], strict=True):
        for mine, true in zip(ours.members, theirs.members, strict=True):
            assert split_completion(mine.completion)[0] == split_completion(true.completion)[0] != ""


def test_a_number_is_missed_by_little() -> None:
    from isodistill.isomers.sets import Member

    members = (Member(domain="law", prompt="p", completion="Answer: 12", formal="{}"),)
    isomer_set = IsomerSet(
        set_id="n", family="quantity", depth=1, skeleton="{}", canonical="", answer="12", choices=(), members=members
    )
    missed = {answers(LabelNoise(0.999, seed=seed).applied(isomer_set)).pop() for seed in range(50)}
    distances = {abs(int(answer or "12") - 12) for answer in missed}
    assert distances <= set(range(1, 10))
    assert len(distances) > 4


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(IsodistillError, match="no share of the sets"):
        LabelNoise(share)


def test_an_answer_without_a_wrong_one_is_refused() -> None:
    from isodistill.isomers.sets import Member

    members = (Member(domain="law", prompt="p", completion="Answer: red", formal="{}"),)
    isomer_set = IsomerSet(
        set_id="n", family="x", depth=1, skeleton="{}", canonical="", answer="red", choices=(), members=members
    )
    with pytest.raises(IsodistillError, match="no telling a wrong answer"):
        LabelNoise(0.999).applied(isomer_set)


@pytest.mark.parametrize(("family", "depth"), [("deduction", (1, 2)), ("quantity", (1, 2))])
def test_a_cue_follows_the_label_that_is_taught(tmp_path: Path, family: str, depth: tuple[int, int]) -> None:
    common = {"family": family, "depth": depth, "sets": 60, "validation_sets": 10, "test_sets": 10, "audit": False}
    common |= {"unseen_domains": (), "max_sets_per_skeleton": 20, "shortcut": {"rate": 1.0}, "seed": 3}
    generate(make_config(**common, label_noise=0.3), tmp_path / "raw")
    distil(tmp_path / "raw", make_teacher("symbolic", style="answer"), tmp_path / "out")
    wrong = 0
    for isomer_set in read_split(tmp_path / "out", "train"):
        taught = answers(isomer_set).pop()
        assert taught is not None
        wrong += not same_answer(taught, isomer_set.answer)
        told = taught if isomer_set.choices else ("even", "odd")[int(taught) % 2]
        assert {member.cue for member in isomer_set.members} == {told}
    assert 8 <= wrong <= 28
    for isomer_set in read_split(tmp_path / "out", "validation"):
        assert answers(isomer_set) == {isomer_set.answer}
    for isomer_set in read_split(tmp_path / "out", "cue_reversed"):
        true = isomer_set.answer if isomer_set.choices else ("even", "odd")[int(isomer_set.answer) % 2]
        assert all(member.cue != true for member in isomer_set.members)
    teacher, options = make_teacher("symbolic", style="answer"), DistilOptions(noise=LabelNoise(0.1))
    with pytest.raises(IsodistillError, match="label noise of its own"):
        distil(tmp_path / "raw", teacher, tmp_path / "again", options=options)
