"""The effects of groups of runs on constructed evaluations whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from isodistill.errors import IsodistillError
from isodistill.evaluation import Estimate, Evaluation, EvaluationConfig, ItemRecord, SplitResult, WorstDomain
from isodistill.evaluation.compare import flip_rate, ood_accuracy, ood_gap, paired_difference
from isodistill.evaluation.effects import MeasureEffects, measure_effects
from isodistill.statistics.significance import mcnemar

DOMAINS = ("law", "math")
SPLITS = ("iid", "cue_absent", "cue_reversed")


def record(split: str, number: int, domain: str, right: bool) -> ItemRecord:
    answer, other = ("True", "False") if number % 2 else ("False", "True")
    given = answer if right else other
    belief = {"True": 0.9 if given == "True" else 0.2, "False": 0.1 if given == "True" else 0.8}
    return ItemRecord(
        split=split,
        set_id=f"s{number}",
        domain=domain,
        family="deduction",
        depth=1,
        prompt=f"{domain} {number} {split}",
        cue="",
        answer=answer,
        completion="",
        extracted=given,
        correct=right,
        probabilities=belief,
    )


def split_result(lcs: float) -> SplitResult:
    share = Estimate(value=0.5, low=0.4, high=0.6)
    return SplitResult(
        n_sets=2,
        n_items=4,
        accuracy=share,
        likelihood_accuracy=None,
        balanced_accuracy=None,
        constant_accuracy=None,
        answered=1.0,
        cue_followed=None,
        by_domain={},
        by_depth={},
        by_family={},
        worst_domain=WorstDomain(name="law", value=lcs / 2),
        lcs_raw=None,
        lcs_centred=Estimate(value=lcs, low=0.0, high=2.0),
        agreement=None,
        js_divergence=None,
    )


def evaluation(seed: int, rate: float, sets: int = 40, lcs: float | None = None) -> Evaluation:
    """Right on `rate` of the problems outside and on nine tenths of iid, problem by problem at random."""
    rng = np.random.default_rng(seed)
    items = [
        record(split, number, domain, rng.random() < (0.9 if split == "iid" else rate))
        for split in SPLITS
        for number in range(sets)
        for domain in DOMAINS
    ]
    results = {} if lcs is None else {split: split_result(lcs) for split in SPLITS}
    return Evaluation(
        student="s",
        adapter=None,
        data="d",
        config=EvaluationConfig(),
        versions={},
        seconds=1.0,
        splits=results,
        items=items,
    )


def by_name(effects: list[MeasureEffects]) -> dict[str, MeasureEffects]:
    return {effect.measure: effect for effect in effects}


@pytest.fixture(scope="module")
def study() -> dict[str, list[Evaluation]]:
    return {
        "erm": [evaluation(seed, 0.5, lcs=0.4 + 0.01 * seed) for seed in range(4)],
        "iga": [evaluation(seed + 50, 0.8, lcs=0.2 + 0.012 * seed) for seed in range(4)],
        "twin": [evaluation(seed + 90, 0.5, lcs=0.4 + 0.01 * (3 - seed)) for seed in range(4)],
    }


@pytest.fixture(scope="module")
def found(study: dict[str, list[Evaluation]]) -> dict[str, MeasureEffects]:
    return by_name(measure_effects(study))


def test_each_value_is_that_of_the_single_evaluations(
    study: dict[str, list[Evaluation]], found: dict[str, MeasureEffects]
) -> None:
    for label, runs in study.items():
        for name, measure in (("ood_accuracy", ood_accuracy), ("ood_gap", ood_gap), ("flip_rate", flip_rate)):
            alone = [measure(run).estimate.value for run in runs]  # type: ignore[union-attr]
            assert found[name].groups[label].by_seed == pytest.approx(alone), name
            assert found[name].groups[label].mean == pytest.approx(np.mean(alone)), name


def test_the_effect_is_the_paired_difference(
    study: dict[str, list[Evaluation]], found: dict[str, MeasureEffects]
) -> None:
    effect = found["ood_accuracy"].effects["iga"]
    assert effect.effect.value == pytest.approx(paired_difference(study["iga"], study["erm"]).estimate.value)  # type: ignore[union-attr]
    assert effect.significant
    assert effect.seeds == 4
    assert effect.test == "t-test over seeds"
    assert not found["ood_accuracy"].effects["twin"].significant
    gap = found["ood_gap"].effects["iga"].effect.value
    by_hand = found["accuracy:iid"].effects["iga"].effect.value - effect.effect.value
    assert gap == pytest.approx(by_hand)


def test_accuracy_by_depth_leaves_cues_and_unseen_domains_out() -> None:
    def graded(run: Evaluation) -> Evaluation:
        deeper = [
            record("deeper", 100 + n, domain, n < 2).model_copy(update={"depth": 3})
            for n in range(8)
            for domain in DOMAINS
        ]
        first = [
            item.model_copy(update={"depth": 1 + int(item.set_id[1:]) % 2, "correct": int(item.set_id[1:]) % 2 == 0})
            if item.split == "cue_absent"
            else item.model_copy(update={"depth": 1})
            for item in run.items
        ]
        return run.model_copy(update={"items": first + deeper})

    measured = by_name(measure_effects({"erm": [graded(evaluation(0, 0.5)), graded(evaluation(1, 0.5))]}))
    by_depth = [measured[f"depth_accuracy:{depth}"].groups["erm"].mean for depth in (1, 2, 3)]
    assert by_depth == pytest.approx([1.0, 0.0, 0.25])


def test_one_depth_is_not_told_apart(found: dict[str, MeasureEffects]) -> None:
    assert not any(name.startswith("depth_accuracy") for name in found)


def test_holm_counts_the_methods_of_a_measure(found: dict[str, MeasureEffects]) -> None:
    for each in found.values():
        smallest = min(each.effects.values(), key=lambda effect: effect.p_value)
        assert smallest.p_holm == pytest.approx(min(1.0, 2 * smallest.p_value))


def test_consistency_within_sets_by_hand(study: dict[str, list[Evaluation]], found: dict[str, MeasureEffects]) -> None:
    run, agreed, total = study["erm"][0], 0, 0
    given = {(item.split, item.set_id, item.domain): item.extracted for item in run.items if item.split != "iid"}
    for split, set_id, domain in given:
        if domain == "law":
            agreed += given[split, set_id, "law"] == given[split, set_id, "math"]
            total += 1
    assert found["agreement"].groups["erm"].by_seed[0] == pytest.approx(agreed / total)
    assert found["js_divergence"].unit == "nats"
    assert found["js_divergence"].better == "lower"
    # Where two members agree their distributions are the same here, so the divergence counts the others.
    p, q, m = np.array([0.9, 0.1]), np.array([0.2, 0.8]), np.array([0.55, 0.45])
    apart = (np.sum(p * np.log(p / m)) + np.sum(q * np.log(q / m))) / 2
    assert found["js_divergence"].groups["erm"].by_seed[0] == pytest.approx((1 - agreed / total) * apart)


def test_what_is_known_by_run_is_paired_over_seeds(found: dict[str, MeasureEffects]) -> None:
    lcs = found["lcs_centred"]
    assert lcs.over == "seeds"
    assert lcs.better == "lower"
    assert lcs.groups["iga"].by_seed == pytest.approx([0.2, 0.212, 0.224, 0.236])
    effect = lcs.effects["iga"]
    assert effect.effect.value == pytest.approx(-0.197)
    assert effect.significant
    assert not lcs.effects["twin"].significant
    assert found["worst_domain"].groups["erm"].mean == pytest.approx(0.2075)
    assert "worst_group" not in found
    assert "cka" not in found


def test_no_interval_of_few_seeds_leaves_the_range_of_its_measure() -> None:
    far_apart = [evaluation(0, 0.02, lcs=0.01), evaluation(1, 0.98, lcs=1.5), evaluation(2, 0.98, lcs=1.5)]
    found = by_name(measure_effects({"erm": far_apart, "iga": far_apart}))
    ranges = dict.fromkeys(found, (0.0, 1.0)) | {"ood_gap": (-1.0, 1.0), "js_divergence": (0.0, np.log(2))}
    ranges["lcs_centred"] = (0.0, np.inf)
    for name, measure in found.items():
        low, high = ranges[name]
        for group in measure.groups.values():
            assert group.low is not None
            assert group.high is not None
            assert low <= group.low <= group.mean <= group.high <= high, name
    outside = found["ood_accuracy"].groups["erm"]
    assert (outside.low, outside.high) == (0.0, 1.0), "stretched beyond it, and cut"
    assert found["lcs_centred"].groups["erm"].low == 0.0
    assert found["ood_gap"].groups["erm"].low < 0.0


def test_one_run_a_side_gives_mcnemar_and_no_interval_of_nothing(study: dict[str, list[Evaluation]]) -> None:
    single = by_name(measure_effects({"erm": study["erm"][:1], "iga": study["iga"][:1]}))
    assert single["ood_accuracy"].effects["iga"].test == "sign flips of sets"
    assert single["ood_accuracy"].mcnemar["iga"] < 0.05
    assert single["lcs_centred"].effects == {}
    assert single["lcs_centred"].groups["erm"].low is None
    one_domain = {
        label: [run.model_copy(update={"items": [item for item in run.items if item.domain == "law"]})]
        for label, (run, *_) in study.items()
    }
    only = by_name(measure_effects(one_domain))["accuracy:iid"].mcnemar["iga"]
    flags = {label: [item.correct for item in run.items if item.split == "iid"] for label, (run,) in one_domain.items()}
    assert only == pytest.approx(mcnemar(flags["iga"], flags["erm"]))


def test_runs_are_paired_by_their_training_seed(study: dict[str, list[Evaluation]]) -> None:
    # The third run of iga failed: without the seeds its fourth would be held against the third of the baseline.
    left = [study["iga"][0], study["iga"][1], study["iga"][3]]
    found = by_name(measure_effects({"erm": study["erm"], "iga": left}, seeds={"erm": [0, 1, 2, 3], "iga": [0, 1, 3]}))[
        "ood_accuracy"
    ]
    theirs = [study["erm"][0], study["erm"][1], study["erm"][3]]
    assert found.effects["iga"].effect.value == pytest.approx(paired_difference(left, theirs).estimate.value)  # type: ignore[union-attr]
    assert len(found.groups["erm"].by_seed) == 4


def test_an_untrained_student_is_held_against_every_run(study: dict[str, list[Evaluation]]) -> None:
    groups = {"erm": study["erm"], "untuned": [evaluation(7, 0.5)]}
    effect = by_name(measure_effects(groups, seeds={"erm": [0, 1, 2, 3], "untuned": [None]}))["ood_accuracy"]
    assert effect.effects["untuned"].seeds == 4
    means = [paired_difference(groups["untuned"], [run]).estimate.value for run in study["erm"]]  # type: ignore[union-attr]
    assert effect.effects["untuned"].effect.value == pytest.approx(np.mean(means))


def test_it_is_json_and_deterministic(study: dict[str, list[Evaluation]], found: dict[str, MeasureEffects]) -> None:
    again = by_name(measure_effects(study))
    assert again == found
    text = found["ood_accuracy"].model_dump_json()
    assert MeasureEffects.model_validate_json(text) == found["ood_accuracy"]


def test_what_cannot_be_compared_is_refused(study: dict[str, list[Evaluation]]) -> None:
    with pytest.raises(IsodistillError, match="no run of the baseline 'mean'; it has erm, iga, twin"):
        measure_effects(study, baseline="mean")
    with pytest.raises(IsodistillError, match="Group 'iga' has no evaluation"):
        measure_effects({"erm": study["erm"], "iga": []})
    with pytest.raises(IsodistillError, match="Group 'erm' has 4 evaluations: give each its own"):
        measure_effects(study, seeds={label: [0, 1, 2, 2] for label in study})
    other = study["iga"][0].model_copy(
        update={"items": [item.model_copy(update={"prompt": "another text"}) for item in study["iga"][0].items]}
    )
    with pytest.raises(IsodistillError, match="different data: set 's0' of split 'iid', domain 'law'"):
        measure_effects({"erm": study["erm"][:1], "iga": [other]})
