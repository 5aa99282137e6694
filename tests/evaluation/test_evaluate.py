from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import DOMAINS, set_row, solution, write_split
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.errors import IsodistillError
from isodistill.evaluation import metrics
from isodistill.evaluation.compare import is_ood_split, ood_accuracy, paired_difference
from isodistill.evaluation.evaluate import evaluate, follows_cue
from isodistill.evaluation.items import EvalItem
from isodistill.evaluation.results import Evaluation, EvaluationConfig
from isodistill.files import write_text_atomically


@pytest.fixture
def evaluation(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, data_dir: Path) -> Evaluation:
    return evaluate(model, tokenizer, data_dir, EvaluationConfig(max_new_tokens=24, bootstrap_samples=200))


def test_a_taught_student_passes(evaluation: Evaluation) -> None:
    assert list(evaluation.splits) == ["iid", "cue_reversed", "unseen_domain"]
    iid = evaluation.splits["iid"]
    assert (iid.n_sets, iid.n_items) == (6, 18)
    assert (iid.accuracy.value, iid.answered, iid.balanced_accuracy) == (1, 1, 1)
    assert iid.likelihood_accuracy is not None
    assert iid.likelihood_accuracy.value == 1
    assert iid.constant_accuracy == 0.5
    assert iid.cue_followed == 1  # the cue tells the truth here
    assert evaluation.splits["cue_reversed"].cue_followed == 0
    assert iid.agreement is not None
    assert iid.agreement.value == 1
    assert iid.by_domain == dict.fromkeys(DOMAINS, 1.0)
    assert iid.by_depth == {1: 1.0, 2: 1.0, 3: 1.0}
    assert iid.worst_domain.value == 1
    assert iid.js_divergence is not None
    assert 0 <= iid.js_divergence.value < 0.05
    assert iid.lcs_raw is not None
    assert iid.lcs_centred is not None
    # True and False lie far apart in the states, the domains of one set close together.
    assert 0 <= iid.lcs_raw.value < 0.05
    assert 0 <= iid.lcs_centred.value < 0.05


def test_numeric_items_have_a_state_but_no_distribution(evaluation: Evaluation) -> None:
    unseen = evaluation.splits["unseen_domain"]
    numeric = [item for item in evaluation.items if item.family == "quantity"]
    assert len(numeric) == len(DOMAINS)
    assert all(item.probabilities is None and not item.correct for item in numeric)
    assert unseen.by_family == {"deduction": 1.0, "quantity": 0.0}
    assert unseen.accuracy.value == 0.5
    assert unseen.likelihood_accuracy is not None
    assert unseen.likelihood_accuracy.value == 1.0  # over the items with choices alone
    assert unseen.cue_followed is None
    assert unseen.lcs_raw is not None


def test_measures_agree_with_the_records(evaluation: Evaluation) -> None:
    for split, result in evaluation.splits.items():
        items = [item for item in evaluation.items if item.split == split]
        assert len(items) == result.n_items
        assert result.accuracy.value == pytest.approx(metrics.accuracy([item.correct for item in items]))
        distributions = [
            None if item.probabilities is None else np.array(list(item.probabilities.values())) for item in items
        ]
        assert result.js_divergence is not None
        assert result.js_divergence.value == pytest.approx(
            metrics.js_divergence(distributions, [item.set_id for item in items])
        )


def test_json_round_trip_is_exact_and_strict(evaluation: Evaluation, tmp_path: Path) -> None:
    path = evaluation.save(tmp_path / "deep" / "result.json")
    assert Evaluation.load(path) == evaluation

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(path.read_text(), parse_constant=refuse)  # NaN and Infinity are no JSON
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_a_damaged_result_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="Cannot read the evaluation"):
        Evaluation.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"student": "x"}')
    with pytest.raises(IsodistillError, match="not an evaluation of this version: adapter: is missing"):
        Evaluation.load(tmp_path / "bad.json")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(tmp_path / "page.html", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_the_rationale_can_be_left_out(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, data_dir: Path
) -> None:
    def probabilities(rationale: str) -> list[dict[str, float] | None]:
        config = EvaluationConfig.model_validate(
            {"splits": ["iid"], "rationale": rationale, "max_new_tokens": 24, "bootstrap_samples": 100}
        )
        return [item.probabilities for item in evaluate(model, tokenizer, data_dir, config).items]

    assert probabilities("student") != probabilities("none")


def test_adapters_are_named_and_progress_is_told(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM, data_dir: Path
) -> None:
    import copy

    student = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, target_modules="all-linear"))
    stages: list[tuple[str, int, int]] = []
    config = EvaluationConfig(splits=["iid"], limit_sets=2, max_new_tokens=4, bootstrap_samples=100)
    result = evaluate(student, tokenizer, data_dir, config, progress=lambda *step: stages.append(step))
    assert result.adapter == "default (LORA, rank 4)"
    assert result.data == "set-of-sets"
    assert set(result.versions) == {"torch", "transformers", "peft", "isodistill"}
    assert stages == [("iid: generate", 6, 6), ("iid: score", 6, 6)]
    assert result.splits["iid"].n_sets == 2
    assert result.splits["iid"].answered == 0  # four tokens are too few
    assert evaluate(model, tokenizer, data_dir, config, student="tiny").student == "tiny"


def test_one_set_alone_has_no_centred_score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, data_dir: Path
) -> None:
    config = EvaluationConfig(splits=["iid"], limit_sets=1, max_new_tokens=4, bootstrap_samples=100)
    result = evaluate(model, tokenizer, data_dir, config).splits["iid"]
    assert result.lcs_centred is None
    assert result.lcs_raw is not None


def test_every_split_is_checked_before_anything_is_generated(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, data_dir: Path
) -> None:
    broken = set_row(5, "broken")
    broken["members"] = broken["members"][:2]
    write_split(data_dir / "data" / "deeper.parquet", [set_row(4, "whole"), broken])
    stages: list[str] = []
    with pytest.raises(IsodistillError, match="'broken-0005' has no member for the domain 'science'"):
        evaluate(model, tokenizer, data_dir, EvaluationConfig(), progress=lambda stage, *_: stages.append(stage))
    assert stages == []
    with pytest.raises(IsodistillError, match="named twice"):
        evaluate(model, tokenizer, data_dir, EvaluationConfig(splits=["iid", "iid"]))
    (data_dir / "data" / "iid.parquet").unlink()
    for name in ("deeper", "cue_reversed", "unseen_domain"):
        (data_dir / "data" / f"{name}.parquet").unlink()
    with pytest.raises(IsodistillError, match="no test split"):
        evaluate(model, tokenizer, data_dir, EvaluationConfig())


def test_ood_accuracy_is_the_mean_over_its_splits(evaluation: Evaluation) -> None:
    ood = ood_accuracy(evaluation)
    assert ood.splits == ["cue_reversed", "unseen_domain"]
    assert ood.n_sets == 8
    assert ood.estimate is not None
    assert ood.estimate.value == pytest.approx((1.0 + 0.5) / 2)
    only_iid = evaluation.model_copy(update={"items": [item for item in evaluation.items if item.split == "iid"]})
    assert ood_accuracy(only_iid).estimate is None
    assert is_ood_split("unseen_domain__cue_random")
    assert not is_ood_split("iid")
    assert not is_ood_split("validation")


def test_paired_difference(evaluation: Evaluation) -> None:
    same = paired_difference(evaluation, evaluation)
    assert same.estimate is not None
    assert (same.estimate.value, same.estimate.low, same.estimate.high) == (0, 0, 0)
    worse = evaluation.model_copy(deep=True)
    for item in worse.items:
        if item.split == "cue_reversed" and item.set_id != "reversed-0004":
            item.correct = False
    difference = paired_difference(evaluation, worse)
    assert difference.estimate is not None
    assert difference.estimate.value == pytest.approx(5 / 6 / 2)
    assert 0 < difference.estimate.low <= difference.estimate.value <= difference.estimate.high
    mirrored = paired_difference(worse, evaluation).estimate
    assert mirrored is not None
    assert mirrored.value == pytest.approx(-difference.estimate.value)
    assert difference.candidate is not None
    assert difference.baseline is not None
    assert difference.candidate.value - difference.baseline.value == pytest.approx(difference.estimate.value)
    # Seeds are averaged item by item.
    averaged = paired_difference([evaluation, worse], [worse, worse, worse]).estimate
    assert averaged is not None
    assert averaged.value == pytest.approx(difference.estimate.value / 2)
    # A problem that one of the seeds did not answer does not count.
    shorter = worse.model_copy(update={"items": [item for item in worse.items if item.set_id != "reversed-0004"]})
    assert paired_difference([evaluation, shorter], evaluation).n_sets == difference.n_sets - 1
    # Only what both evaluated counts.
    few = worse.model_copy(update={"items": [item for item in worse.items if item.set_id == "reversed-0004"]})
    shared = paired_difference(evaluation, few)
    assert (shared.n_sets, shared.splits) == (1, ["cue_reversed"])
    assert paired_difference(evaluation, few, splits=["iid"]).estimate is None
    few.items[0].prompt = "Something else?"
    with pytest.raises(IsodistillError, match="different data: set 'reversed-0004'"):
        paired_difference(evaluation, few)


@pytest.mark.parametrize(
    ("extracted", "cue", "follows"),
    [
        ("42", "even", True),
        ("42", "odd", False),
        ("1,003", "odd", True),
        ("-7", "odd", True),
        ("seven", "odd", False),
        ("3.5", "odd", False),
        ("", "even", False),
        (None, "even", False),
    ],
)
def test_cues_of_numbers_point_at_the_parity(extracted: str | None, cue: str, follows: bool) -> None:
    item = EvalItem("iid", "quantity-1", "law", "quantity", 1, "How many?", "42", (), cue)
    assert follows_cue(extracted, item) is follows
    closed = EvalItem("iid", "deduction-1", "law", "deduction", 1, "Is it?", "True", ("True", "False"), "False")
    assert follows_cue("false", closed)
    assert not follows_cue("True", closed)


def test_solutions_are_what_the_fixture_says() -> None:
    assert solution(4) == ("so we see that that 4.", "True")
    assert math.isclose(metrics.accuracy([solution(n)[1] == "True" for n in range(6)]), 0.5)
