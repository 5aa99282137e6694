from __future__ import annotations

import numpy as np
import pytest
from report_helpers import make_panel, make_run

from isodistill.errors import IsodistillError
from isodistill.evaluation.compare import paired_difference
from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary, replicates
from isodistill.report.verdict import change, judge, p_value, percent, points, quantity


def flip(run: RunSummary, correct: bool, name: str, method: str | None = None) -> RunSummary:
    """A copy that is right, or wrong, on every out-of-distribution problem."""
    copy = run.model_copy(deep=True, update={"name": name, "method": method or name})
    for item in copy.evaluation.items:
        if item.split != "iid":
            item.correct = correct
    return copy


def seeds(method: str, count: int, first: int, shift: float = 0.0) -> list[RunSummary]:
    return [make_run(f"{method}-{n}", method, seed=first + n, shift=shift, n_sets=12) for n in range(count)]


def test_over_seeds_it_wins_loses_or_shows_nothing() -> None:
    erm = seeds("erm", 3, 0)
    won = judge([*erm, *seeds("iga", 3, 10, shift=0.3)])
    assert won.kind == "better"
    assert won.sentence.startswith("iga (3 seeds) beats erm (3 seeds) out of distribution: ")
    assert "paired over 3 training seeds and 48 isomer sets; p " in won.sentence
    lost = judge([*erm, *seeds("iga", 3, 10, shift=-0.3)])
    assert lost.kind == "worse"
    assert lost.sentence.startswith("iga (3 seeds) loses to erm (3 seeds) out of distribution: ")
    same = judge([*erm, *seeds("iga", 3, 10)])
    assert same.kind == "no difference"
    assert same.sentence.startswith("No difference shown between iga (3 seeds) and erm (3 seeds) ")


def test_one_run_a_side_never_beats() -> None:
    erm = make_run("erm", "erm", seed=1)
    won, lost = judge([erm, flip(erm, True, "iga")]), judge([erm, flip(erm, False, "iga")])
    assert (won.kind, lost.kind) == ("lead", "lead")
    assert won.sentence.startswith(
        "iga is ahead of erm out of distribution, with one run a side: a lead, not evidence: 100.0% against "
    )
    assert lost.sentence.startswith("iga is behind erm out of distribution, with one run a side")
    assert judge([erm, make_run("iga", "iga", seed=2)]).kind == "no difference"
    for verdict in (won, lost):
        assert "beats" not in verdict.sentence
        assert verdict.comparisons[0].mcnemar is not None


def test_nothing_beats_without_significance_after_holm() -> None:
    erm = seeds("erm", 3, 0)
    groups = {"erm": erm, "iga": seeds("iga", 3, 10, shift=0.08)}
    seed_lists = {label: [0, 1, 2] for label in groups}
    alone = judge(Panel("", groups, "erm", seed_lists)).comparisons[0].effect
    many = {f"m{n}": seeds(f"m{n}", 3, 20 + 10 * n) for n in range(6)}
    panel = Panel("", {**groups, **many}, "erm", {label: [0, 1, 2] for label in (*groups, *many)})
    judged = judge(panel).comparisons[0]
    assert judged.effect.p_value == pytest.approx(alone.p_value)
    assert judged.effect.p_holm > alone.p_holm
    assert (judged.reading == "better") == (judged.effect.p_holm <= 0.05 and judged.effect.effect.low > 0)


def test_the_sentence_says_what_the_paired_difference_is() -> None:
    erm, iga = make_run("erm", "erm", seed=1), make_run("iga", "iga", seed=2, shift=0.2)
    verdict = judge([erm, iga])
    difference = paired_difference(iga.evaluation, erm.evaluation)
    assert difference.estimate is not None
    effect = verdict.comparisons[0].effect.effect
    assert effect.value == pytest.approx(difference.estimate.value)
    assert effect.low == pytest.approx(difference.estimate.low, abs=0.015)
    assert (
        f"{points(effect.value)} points (95% interval {points(effect.low)} to {points(effect.high)}, "
        "paired over 120 isomer sets; p " in verdict.sentence
    )


def test_an_interval_that_touches_zero_shows_nothing() -> None:
    erm = make_run("erm", "erm", seed=1)
    verdict = judge([erm, erm.model_copy(update={"name": "iga", "method": "iga"})])
    assert verdict.kind == "no difference"
    assert "0.0 points (95% interval 0.0 to 0.0" in verdict.sentence


def test_iga_is_judged_first_and_all_others_are_listed() -> None:
    runs = [make_run("erm"), make_run("vrex", "vrex", seed=1), make_run("mine", "iga-factor", seed=2)]
    verdict = judge(runs)
    assert [row.label for row in verdict.comparisons] == ["mine", "vrex"]
    assert verdict.sentence.startswith(("mine ", "No difference shown between mine "))
    assert verdict.others == "The others against erm: no difference shown: vrex."


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
    runs = seeds("erm", 2, 1) + seeds("iga", 3, 3, shift=0.2)
    other = make_run("iga-tau", "iga", seed=6, settings={"seed": 6, "tau": 1.0}, n_sets=12)
    assert replicates([*runs, other], runs[2]) == runs[2:5]
    panel = panel_of_runs([*runs, other])
    assert list(panel.groups) == ["erm (2 seeds)", "iga (3 seeds)", "iga-tau"]
    first = judge(panel).comparisons[0]
    assert first.effect.seeds == len(first.by_seed) == 2  # as many as both sides have
    assert first.effect.effect.value == pytest.approx(np.mean(first.by_seed))


def test_runs_with_the_same_seeds_are_paired_by_them() -> None:
    erm = seeds("erm", 3, 0)
    iga = [
        make_run(f"iga-{n}", "iga", seed=n, shift=0.2, n_sets=12, settings={"seed": n, "method": "iga"}) for n in (2, 0)
    ]
    panel = panel_of_runs([*erm, *iga])
    assert panel.seeds == {"erm (3 seeds)": [0, 1, 2], "iga (2 seeds)": [2, 0]}
    row = judge(panel).comparisons[0]
    expected = [paired_difference(a.evaluation, b.evaluation).estimate for a, b in ((iga[0], erm[2]), (iga[1], erm[0]))]
    assert row.by_seed == pytest.approx([each.value for each in expected if each is not None])


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


def test_few_seeds_and_unfinished_runs_are_caveats() -> None:
    notes = judge(make_panel(seeds=2, notes=("1 of 9 final runs are not finished.",))).caveats
    assert notes[0] == "1 of 9 final runs are not finished."
    assert notes[1].startswith("Only 2 training seeds were paired")


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
    assert quantity(0.0312, "nats") == "0.031"
    assert quantity(0.613, "share") == "61.3%"
    assert change(-0.0312, "number") == "−0.031"
    assert change(0.00001, "number") == "0.000"
    assert change(0.031, "share") == "+3.1"
    assert p_value(0.0004) == "p < 0.001"
    assert p_value(0.0321) == "p = 0.032"
