from __future__ import annotations

import pytest
from report_helpers import make_run

from isodistill.errors import IsodistillError
from isodistill.evaluation.compare import paired_difference
from isodistill.report.runs import RunSummary, replicates
from isodistill.report.verdict import judge, percent, points


def flip(run: RunSummary, correct: bool, name: str) -> RunSummary:
    """A copy that is right, or wrong, on every out-of-distribution problem."""
    copy = run.model_copy(deep=True, update={"name": name, "method": name})
    for item in copy.evaluation.items:
        if item.split != "iid":
            item.correct = correct
    return copy


def test_a_win_a_loss_and_nothing_shown() -> None:
    erm = make_run("erm", "erm", seed=1)
    won = judge([erm, flip(erm, True, "iga")])
    assert won.kind == "better"
    assert won.sentence.startswith("iga beats erm out of distribution: 100.0% against ")
    lost = judge([erm, flip(erm, False, "iga")])
    assert lost.kind == "worse"
    assert lost.sentence.startswith("iga loses to erm out of distribution: 0.0% against ")
    same = judge([erm, make_run("iga", "iga", seed=2)])
    assert same.kind == "no difference"
    assert same.sentence.startswith("No difference shown between iga and erm out of distribution: ")


def test_the_sentence_says_what_the_paired_difference_is() -> None:
    erm, iga = make_run("erm", "erm", seed=1), make_run("iga", "iga", seed=2, shift=0.2)
    verdict = judge([erm, iga])
    difference = paired_difference(iga.evaluation, erm.evaluation)
    assert difference.estimate is not None
    estimate = difference.estimate
    assert verdict.comparisons[0].comparison == difference
    assert (
        f"{points(estimate.value)} points (95% interval {points(estimate.low)} to {points(estimate.high)}, "
        "paired over 120 isomer sets)" in verdict.sentence
    )


def test_an_interval_that_touches_zero_shows_nothing() -> None:
    erm = make_run("erm", "erm", seed=1)
    verdict = judge([erm, erm.model_copy(update={"name": "iga", "method": "iga"})])
    assert verdict.kind == "no difference"
    assert "0.0 points (95% interval 0.0 to 0.0" in verdict.sentence


def test_a_gain_whose_interval_crosses_zero_shows_nothing() -> None:
    erm = make_run("erm", "erm", seed=1)
    iga = erm.model_copy(deep=True, update={"name": "iga", "method": "iga"})
    ood = [item for item in iga.evaluation.items if item.split == "deeper"]
    next(item for item in ood if not item.correct).correct = True
    verdict = judge([erm, iga])
    estimate = verdict.comparisons[0].comparison.estimate
    assert estimate is not None
    assert estimate.value > 0 >= estimate.low
    assert verdict.kind == "no difference"


def test_iga_is_judged_first_and_all_others_are_listed() -> None:
    runs = [make_run("erm"), make_run("vrex", "vrex", seed=1), make_run("mine", "iga-factor", seed=2)]
    verdict = judge(runs)
    assert [row.label for row in verdict.comparisons] == ["mine", "vrex"]
    assert verdict.sentence.startswith(("mine ", "No difference shown between mine "))


def test_the_baseline_is_found_by_name_then_by_method() -> None:
    slow = make_run("erm", "erm-slow")
    plain = make_run("plain", "erm", seed=1)
    assert judge([plain, slow], "erm").baseline == "erm"  # a name goes before a method
    assert judge([plain, make_run("iga", "iga")], "erm").baseline == "plain"
    alone = judge([make_run("iga", "iga")])
    assert (alone.kind, alone.comparisons) == ("none", [])
    assert "there is no baseline run called 'erm'" in alone.sentence
    assert "the baseline is the only run" in judge([plain]).sentence


def test_seeds_form_one_group() -> None:
    runs = [make_run(f"erm-{seed}", "erm", seed=seed) for seed in (1, 2)]
    runs += [make_run(f"iga-{seed}", "iga", seed=seed, shift=0.2) for seed in (3, 4, 5)]
    other = make_run("iga-tau", "iga", seed=6, settings={"seed": 6, "tau": 1.0})
    assert replicates([*runs, other], runs[2]) == runs[2:5]
    verdict = judge([*runs, other])
    first = verdict.comparisons[0]
    assert (first.label, first.runs, verdict.baseline) == ("iga (3 seeds)", 3, "erm (2 seeds)")
    assert [name for name, _ in first.by_run] == ["iga-3", "iga-4", "iga-5"]
    assert first.comparison.estimate is not None
    assert first.comparison.estimate.value == pytest.approx(sum(value for _, value in first.by_run) / 3)
    assert any("3 and 2 runs were averaged" in caveat for caveat in verdict.caveats)
    assert verdict.comparisons[1].label == "iga-tau"


def test_caveats_tell_what_weakens_the_sentence() -> None:
    erm, iga = make_run("erm", "erm", seed=1), make_run("iga", "iga", seed=2)
    assert judge([erm, iga]).caveats == [
        "The interval covers the choice of test problems, not the variation between training seeds: with a single "
        "run on a side this is a lead, not evidence."
    ]
    iga.evaluation.splits["deeper"].answered = 0.5
    iga.evaluation.config.max_new_tokens = 8
    iga.evaluation.student = "another"
    for item in iga.evaluation.items:
        if item.split == "iid" or item.split == "cue_absent":
            item.correct = False
    notes = " ".join(judge([erm, iga]).caveats)
    assert "iga ended fewer than nine in ten problems with an answer line in: deeper" in notes
    assert "evaluated with different settings: max_new_tokens" in notes
    assert "different students" in notes
    assert "On the training domains iga is 88.3 points below erm" in notes
    assert "iga does not beat the best constant answer in: cue_absent" in notes


def test_different_data_are_refused() -> None:
    erm, iga = make_run("erm"), make_run("iga", "iga")
    next(item for item in iga.evaluation.items if item.split == "deeper").prompt = "Another question?"
    with pytest.raises(IsodistillError, match="different data"):
        judge([erm, iga])


def test_nothing_shared_is_said() -> None:
    erm, iga = make_run("erm"), make_run("iga", "iga")
    iga.evaluation.items = [item for item in iga.evaluation.items if item.split == "iid"]
    verdict = judge([erm, iga])
    assert verdict.kind == "none"
    assert "share no problem" in verdict.sentence


def test_numbers_are_written_as_people_write_them() -> None:
    assert percent(0.613) == "61.3%"
    assert percent(1.0) == "100.0%"
    assert points(0.031) == "+3.1"
    assert points(-0.031) == "−3.1"
    assert points(-0.00001) == "0.0"
    assert points(0.031, sign=False) == "3.1"
