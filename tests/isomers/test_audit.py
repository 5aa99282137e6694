from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from isodistill.answers import split_completion
from isodistill.cli.main import app
from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, generate, make_config, read_split, store
from isodistill.isomers.audit import audit_dataset
from isodistill.isomers.card import read_card
from isodistill.isomers.compare import compare_members
from isodistill.isomers.noise import LabelNoise
from isodistill.isomers.probes import (
    PAIR_WORDS,
    fold_scores,
    ngram_counts,
    pair_counts,
    probe_texts,
    surface_probe,
    wilson_interval,
    word_counts,
)
from isodistill.isomers.surface import length_gap
from isodistill.teachers import make_teacher
from isodistill.teachers.distil import DistilOptions, distil

Rows = list[dict[str, Any]]


def made(out: Path, **values: object) -> Path:
    sizes = {"sets": 150, "validation_sets": 0, "test_sets": 0, "domains": ("law", "math"), "unseen_domains": ()}
    generate(make_config(**{**sizes, **values}), out)
    return out


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("audit") / "honest")


@pytest.fixture(scope="module")
def cued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("audit") / "cued", shortcut={"rate": {"law": 0.9, "math": 1 / 3}})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("audit") / "small", sets=20, test_sets=4, family="statute")


@pytest.fixture
def small_copy(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Path:
    shutil.copytree(honest, tmp_path / "copy")
    return tmp_path / "copy"


def plant(data: Path, change: Callable[[Rows], None], split: str = "train") -> None:
    path = data / "data" / f"{split}.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=store.SCHEMA), path)


def test_honest_data_tells_nothing_and_a_shortcut_tells_all(honest: Path, cued: Path) -> None:
    bare = read_split(honest, "train")
    for domain in ("law", "math"):
        assert not surface_probe(bare, domain).leaks_at(3.3)
    shown = read_split(cued, "train")
    law, math_ = surface_probe(shown, "law"), surface_probe(shown, "math")
    assert law.leaks_at(3.3)
    assert law.accuracy > 0.6
    assert not math_.leaks_at(3.3)
    assert law.texts == 150
    assert math.isclose(law.chance, 50 / 150)


def test_an_honest_data_set_passes(honest: Path) -> None:
    report = audit_dataset(honest)
    assert report.claimed
    assert report.faults == []
    assert report.verified == 150
    assert [(surface.split, surface.domain) for surface in report.surfaces] == [("train", "law"), ("train", "math")]
    info, _ = read_card(honest / "README.md")
    assert info is not None
    measured = [(row.split, row.domain, row.words[0], row.pairs[0]) for row in info.audit]
    assert measured == [
        (surface.split, surface.domain, round(surface.words.accuracy, 4), round(surface.pairs.accuracy, 4))
        for surface in report.surfaces
    ]
    card = (honest / "README.md").read_text(encoding="utf-8")
    assert "| train | law | 150 | 33.3% |" in card
    assert "CC0 1.0. Seed: 0." in card
    assert "| law | Law: 64 individuals, 66 predicates" in card


def test_a_planted_cue_is_no_fault_and_is_shown(cued: Path) -> None:
    report = audit_dataset(cued, verify=False)
    assert report.faults == []
    train = {surface.domain: surface for surface in report.surfaces if surface.split == "train"}
    assert train["law"].with_cue is not None
    assert train["law"].with_cue.leaks_at(3.3)
    assert train["law"].words is not None
    assert not train["law"].words.leaks_at(3.3)


def leak_a_word(rows: Rows) -> None:
    for row in rows:
        if row["answer"] == "True":
            member = row["members"][0]
            member["prompt"] = member["prompt"].replace(" is ", " certainly is ", 1)


def leak_an_order(rows: Rows) -> None:
    """The same words for every answer, in another order: single words tell nothing."""
    for row in rows:
        phrase = "of late and early" if row["answer"] == "True" else "of early and late"
        for member in row["members"]:
            member["prompt"] = member["prompt"].replace(".", f" {phrase}.", 1)


def leak_a_comparison(rows: Rows) -> None:
    """Whether the statement and the premises have the same mark tells True; each mark alone tells nothing."""
    for number, row in enumerate(rows):
        told = ("gladly", "sadly")[number // 3 % 2]
        asked = told if row["answer"] == "True" else {"gladly": "sadly", "sadly": "gladly"}[told]
        for member in row["members"]:
            premises, question, choices = member["prompt"].split("\n")
            premises = premises.replace(".", f" {told}.", 1)
            member["prompt"] = f"{premises}\n{question.removesuffix('.')} {asked}.\n{choices}"


def lengthen_true(rows: Rows) -> None:
    for number, row in enumerate(rows):
        if row["answer"] == "True":
            for member in row["members"]:
                filler = " ".join(f"w{number}x{place}" for place in range(24))
                member["prompt"] = member["prompt"].replace(".", f" {filler}.", 1)


def swap_a_label(rows: Rows) -> None:
    rows[5]["answer"] = next(choice for choice in rows[5]["choices"] if choice != rows[5]["answer"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (leak_a_word, "Split train, domain law: words alone predict the answer"),
        (leak_an_order, "runs of words alone predict the answer"),
        (leak_a_comparison, "pairs of words alone predict the answer"),
        (lengthen_true, "texts with the answer True are"),
    ],
)
def test_planted_leaks_are_found(copy: Path, change: Callable[[Rows], None], told: str) -> None:
    plant(copy, change)
    faults = audit_dataset(copy, verify=False).faults
    assert any(told in fault for fault in faults), faults[:3]
    if change is leak_a_comparison:
        assert not any("words alone" in fault and "pairs of words" not in fault for fault in faults)


@pytest.mark.parametrize(("change", "told"), [(swap_a_label, "rule record"), (leak_a_word, "rule replay")])
def test_sets_that_do_not_verify_are_found(small_copy: Path, change: Callable[[Rows], None], told: str) -> None:
    assert audit_dataset(small_copy).faults == []
    plant(small_copy, change)
    faults = audit_dataset(small_copy).faults
    assert faults
    assert all(told in fault for fault in faults)


def test_repeated_skeletons_and_texts_across_splits_are_found(small_copy: Path) -> None:
    rows = pq.read_table(small_copy / "data" / "train.parquet").to_pylist()
    stray = {**rows[7], "set_id": "stray"}
    for member in stray["members"]:
        # One sentence of many is new: the structure is not, and most sentences are the same.
        member["prompt"] = f"Another {member['prompt']}"
    plant(small_copy, lambda found: found.append(stray), "iid")
    report = audit_dataset(small_copy, verify=False)
    told = f"Set stray of split iid has the structure of set {rows[7]['set_id']} of split train"
    assert any(told in fault for fault in report.faults)
    assert any("Set stray of split iid shares" in line for line in report.near_duplicates)
    plant(small_copy, lambda found: found.append({**rows[8], "set_id": "again"}), "deeper")
    assert any("has the law text of set" in fault for fault in audit_dataset(small_copy, verify=False).faults)


def test_an_answer_that_no_set_has_is_found(copy: Path) -> None:
    plant(copy, lambda rows: rows.__setitem__(slice(None), [row for row in rows if row["answer"] != "Unknown"]))
    report = audit_dataset(copy, verify=False)
    assert report.answers["train"] == {"True": 50, "False": 50, "Unknown": 0}
    assert [fault for fault in report.faults if "balance them" in fault] == [
        "Split train: 0 of 100 sets have the answer Unknown, one of 3; balance them."
    ]


def test_unbalanced_answers_are_found(copy: Path) -> None:
    def tilt(rows: Rows) -> None:
        true = [row for row in rows if row["answer"] == "True"]
        rows[:] = [*rows, *({**row, "set_id": f"{row['set_id']}-{n}"} for n in range(2) for row in true)]

    plant(copy, tilt)
    faults = audit_dataset(copy, verify=False).faults
    assert "Split train: 150 of 250 sets have the answer True, one of 3; balance them." in faults


def test_answers_that_the_options_leave_out_are_not_missed(tmp_path: Path) -> None:
    two = made(tmp_path / "two", sets=100, domains=("law",), family="statute", options={"answers": ("True", "Unknown")})
    numbers = made(tmp_path / "numbers", sets=100, domains=("law",), family="quantity")
    for data, answers in ((two, {"True": 50, "Unknown": 50}), (numbers, {"even": 50, "odd": 50})):
        report = audit_dataset(data, verify=False)
        assert report.answers["train"] == answers
        assert not any("balance them" in fault for fault in report.faults)
    plant(numbers, lambda rows: rows.__setitem__(slice(None), [row for row in rows if int(row["answer"]) % 2] * 2))
    faults = audit_dataset(numbers, verify=False).faults
    assert "Split train: 0 of 100 sets have the answer even, one of 2; balance them." in faults


def test_a_skeleton_that_too_many_sets_share_is_found(small_copy: Path) -> None:
    def repeat(rows: Rows) -> None:
        for row in rows[1:3]:
            row.update(skeleton=rows[0]["skeleton"], canonical=rows[0]["canonical"])

    plant(small_copy, repeat)
    names = ", ".join(row.set_id for row in read_split(small_copy, "train")[:3])
    told = f"Split train: 3 sets share one skeleton ({names}), and max_sets_per_skeleton is 1; drop 2."
    assert told in audit_dataset(small_copy, verify=False).faults
    card = small_copy / "README.md"
    text = card.read_text(encoding="utf-8")
    assert "max_sets_per_skeleton: 1\n" in text
    card.write_text(text.replace("max_sets_per_skeleton: 1\n", "max_sets_per_skeleton: 3\n"), encoding="utf-8")
    assert not any("share one skeleton" in fault for fault in audit_dataset(small_copy, verify=False).faults)


def test_splits_too_small_to_probe_say_so(small: Path) -> None:
    report = audit_dataset(small, verify=False)
    assert {surface.unprobed for surface in report.surfaces} == {"20 sets, too few", "4 sets, too few"}
    info, _ = read_card(small / "README.md")
    assert info is not None
    assert [(row.split, row.words, row.unprobed) for row in info.audit if row.domain == "law"] == [
        ("train", None, "20 sets, too few"),
        ("iid", None, "4 sets, too few"),
        ("deeper", None, "4 sets, too few"),
    ]
    card = (small / "README.md").read_text(encoding="utf-8")
    assert "| train | law | 20 | 35.0% | not probed: 20 sets, too few |" in card
    printed = CliRunner().invoke(app, ["audit", str(small), "--no-verify"])
    assert printed.exit_code == 0
    assert "split train, not probed: 20 sets, too few (law, math)" in printed.output
    assert "split iid, not probed: 4 sets, too few (law, math)" in printed.output


def test_completions_that_end_in_another_answer_are_found(small: Path, tmp_path: Path) -> None:
    teacher = make_teacher("symbolic", style="answer")
    distil(small, teacher, tmp_path / "told")
    assert audit_dataset(tmp_path / "told", verify=False).faults == []
    marks: list[str] = []

    def mistake(rows: Rows) -> None:
        row = rows[3]
        wrong = next(choice for choice in row["choices"] if choice != row["answer"])
        row["members"][1]["completion"] = f"It is so.\nAnswer: {wrong}"
        rows[4]["members"][0]["completion"] = "It is so."
        rows[5]["members"][0]["completion"] = f"Answer: {rows[5]['answer'].upper()}."  # another way to say the same
        rows[6]["members"][0]["completion"] = ""  # not written yet
        marks.extend((row["set_id"], wrong, row["answer"], rows[4]["set_id"], rows[4]["answer"]))

    plant(tmp_path / "told", mistake)
    name, wrong, right, other, its_answer = marks
    again = "distil it again or drop the set."
    assert audit_dataset(tmp_path / "told", verify=False).faults == [
        f"Split train, set {name}, domain math: the completion answers {wrong!r} instead of {right!r}; {again}",
        f"Split train, set {other}, domain law: the completion ends in no answer instead of {its_answer!r}; {again}",
    ]


@pytest.mark.parametrize("of_the_data", [True, False])
def test_wrong_answers_on_purpose_are_no_faults_where_they_are_marked(
    small: Path, tmp_path: Path, of_the_data: bool
) -> None:
    data, options = small, DistilOptions(noise=LabelNoise(0.4, seed=3))
    if of_the_data:
        data = made(tmp_path / "noisy", sets=20, test_sets=4, family="statute", label_noise=0.4, seed=3)
        options = DistilOptions()
    distil(data, make_teacher("symbolic", style="answer"), tmp_path / "told", options=options)
    rows = read_split(tmp_path / "told", "train")
    wrong = {row.set_id for row in rows if split_completion(row.members[0].completion)[1] != row.answer}
    assert 2 <= len(wrong) <= 14
    assert audit_dataset(tmp_path / "told", verify=False).faults == []
    # A set that is not marked, and a split that no noise is for.
    place = next(number for number, row in enumerate(rows) if row.set_id not in wrong)

    def mistake(found: Rows) -> None:
        row = found[place if len(found) == 20 else 0]
        other = next(choice for choice in row["choices"] if choice != row["answer"])
        row["members"][0]["completion"] = f"Answer: {other}"

    plant(tmp_path / "told", mistake)
    plant(tmp_path / "told", mistake, "iid")
    faults = audit_dataset(tmp_path / "told", verify=False).faults
    assert [fault.partition(",")[0] for fault in faults] == ["Split train", "Split iid"]


def test_data_that_claims_nothing_is_measured_and_not_blamed(copy: Path) -> None:
    plant(copy, leak_a_word)
    (copy / "README.md").unlink()
    report = audit_dataset(copy, verify=False)
    assert not report.claimed
    assert report.faults == []
    assert any(surface.words and surface.words.leaks_at(3.3) for surface in report.surfaces)


def test_the_command_prints_tables_and_exits_1(honest: Path, copy: Path) -> None:
    good = CliRunner().invoke(app, ["audit", str(honest), "--no-verify"])
    assert good.exit_code == 0
    assert "0 faults; the data set claims to be free of shortcuts" in good.output
    plant(copy, leak_a_word)
    bad = CliRunner().invoke(app, ["audit", str(copy), "--no-verify"])
    assert bad.exit_code == 1
    assert "fault: Split train, domain law: words alone" in bad.output


def test_the_tables_fit_80_columns_with_nothing_cut(cued: Path) -> None:
    printed = CliRunner().invoke(app, ["audit", str(cued), "--no-verify"], env={"COLUMNS": "80"}).stdout
    assert "…" not in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80  # the last line is prose
    report = audit_dataset(cued, verify=False)
    for surface in report.surfaces:
        for result in (surface.words, surface.ngrams, surface.pairs, surface.with_cue):
            assert result is not None
            assert f"{result.low:.0%}-{result.high:.0%}" in printed


def test_show_folds_a_word_that_is_too_long_for_its_column(small_copy: Path) -> None:
    word = "#" * 70

    def lengthen(rows: Rows) -> None:
        for member in rows[0]["members"]:
            member["completion"] = f"{word}.\nAnswer: {rows[0]['answer']}"

    plant(small_copy, lengthen)
    row = read_split(small_copy, "train")[0]
    printed = CliRunner().invoke(app, ["show", str(small_copy), "--set", row.set_id], env={"COLUMNS": "80"}).stdout
    assert "…" not in printed
    assert printed.count("#") == len(word) * len(row.members)


def test_show_puts_members_side_by_side_and_marks_differences(small_copy: Path) -> None:
    row = read_split(small_copy, "train")[0]
    assert not any(cell.error for line in compare_members(row) for cell in line.cells)
    good = CliRunner().invoke(app, ["show", str(small_copy), "--set", row.set_id])
    assert good.exit_code == 0
    assert "the members differ by their words alone" in good.output

    def damage(rows: Rows) -> None:
        member = rows[0]["members"][1]
        premises, question, choices = member["prompt"].split("\n")
        first, _, rest = premises.partition(". ")
        member["prompt"] = f"{rest} {first}.\n{question}\n{choices}"
        member = rows[1]["members"][0]
        member["prompt"] = member["prompt"].replace(". ", ". It was [bold]so[/bold]. ", 1)
        member = rows[2]["members"][0]
        member["prompt"] = member["prompt"].partition(". ")[2]

    plant(small_copy, damage)
    errors = []
    for changed in read_split(small_copy, "train")[:3]:
        errors.append(Counter(cell.error for line in compare_members(changed) for cell in line.cells if cell.error))
        bad = CliRunner().invoke(app, ["show", str(small_copy), "--set", changed.set_id])
        assert bad.exit_code == 1
        assert "differences in structure" in bad.output
    assert all(error.startswith("says ") and " instead of " in error for error in errors[0])
    assert any("'It was [bold]so[/bold]' has 0 readings" in error for error in errors[1])
    assert "missing" in errors[2]
    missing = CliRunner().invoke(app, ["show", str(small_copy), "--set", "nobody"])
    assert isinstance(missing.exception, IsodistillError)


def test_the_dual_and_the_primal_probe_agree() -> None:
    rng = np.random.default_rng(0)
    scaled = rng.standard_normal((60, 40)).astype(np.float32)
    targets = np.eye(3)[rng.integers(0, 3, 60)]
    fold = rng.permutation(60) % 5
    # Columns of zeros change nothing but the number of features, and so the way of solving.
    wide = np.concatenate([scaled, np.zeros((60, 40), dtype=np.float32)], axis=1)
    narrow_scores, wide_scores = (fold_scores(features, targets, fold, 5, 2.0) for features in (scaled, wide))
    for (one, test), (other, _) in zip(narrow_scores, wide_scores, strict=True):
        assert np.allclose(one, other, atol=1e-4)
        mean = targets[~test].mean(axis=0)
        left = scaled[~test].astype(np.float64)
        weights = np.linalg.solve(left.T @ left + 2.0 * np.eye(40), left.T @ (targets[~test] - mean))
        assert np.allclose(one, scaled[test] @ weights + mean, atol=1e-4)


def test_runs_of_words_are_counted_where_they_are_common() -> None:
    assert ngram_counts(["a b c", "a b c", "a b d", "a b c"]).shape == (4, 6)
    assert word_counts(["Is it? It is.", "no"]).tolist() == [[2, 2, 0], [0, 0, 1]]


def test_pairs_join_a_word_of_the_question_and_one_of_the_premises() -> None:
    counts = pair_counts(["no no no\nIs it not?\nYes or no?", "no it\nIs it?\nYes or no?", "it\nIs it not?"])
    # Any question, "not", and two words of every question; "no" and "it" of the premises, counts before parities.
    assert counts.shape == (3, 4 * 2 * 2)
    assert counts[:, :4].tolist() == [[3, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]]
    assert counts[:, 4:8].tolist() == [[3, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    many = [f"{' '.join(f'a{n}x{k}' for k in range(9))}\nb{n}" for n in range(60)]
    assert pair_counts(many).shape == (60, (PAIR_WORDS[0] + 1) * 2 * PAIR_WORDS[1])
    assert pair_counts(["one line", "no question"]).shape == (2, 2 * 4)


def test_an_even_number_of_signs_is_seen_by_pairs_alone() -> None:
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(600):
        told, asked = rng.integers(0, 5), rng.integers(0, 2)
        names = " ".join(f"n{rng.integers(0, 50)}" for _ in range(6))
        texts.append(f"{names} {'not ' * told}so\nSo {'not ' * asked}n{number % 50}.\nTrue or False?")
        labels.append("True" if (told + asked) % 2 else "False")
    found = {f: probe_texts(texts, labels, "law", f, penalty=300.0) for f in (word_counts, ngram_counts, pair_counts)}
    assert found[pair_counts].accuracy > 0.75
    assert not found[word_counts].leaks_at(3.3)


def test_too_few_texts_are_an_error(honest: Path) -> None:
    rows: list[IsomerSet] = read_split(honest, "train")
    with pytest.raises(IsodistillError, match="at least 50 texts of the domain 'law', there are 20"):
        surface_probe(rows[:20], "law")
    with pytest.raises(IsodistillError, match="domain 'science', there are 0"):
        surface_probe(rows, "science")


def test_lengths_are_compared_by_answer() -> None:
    gap = length_gap(["a b c", "a b d", "a b", "a b"], ["True", "True", "False", "False"])
    assert gap is not None
    assert (abs(gap.words), abs(gap.z)) == (1.0, math.inf)
    assert length_gap(["a", "b", "c"], ["True", "True", "True"]) is None


def test_the_interval_is_wilsons() -> None:
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert wilson_interval(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
