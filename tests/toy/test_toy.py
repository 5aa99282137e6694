"""On a problem with a known invariant, plain training leans on the cue and the fitting methods do not."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from typer.testing import CliRunner

from isodistill.cli.main import app
from isodistill.errors import IsodistillError
from isodistill.methods import METHODS, build_method
from isodistill.toy.grid import OPTIMIZERS, Case, all_cases
from isodistill.toy.problem import (
    CUE_RATES,
    INVARIANT_FEATURES,
    ToyProblem,
    Variant,
    difference_weight,
    token_batch,
    toy_student,
)
from isodistill.toy.study import StudySettings, run_study
from isodistill.toy.train import ToyResult, Trial, train_toy


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cue_weight(variant: Variant, case: str, optimizer: str = "adamw") -> float:
    row = Case(case)
    results = [
        train_toy(variant, row.method, row.defaults()[optimizer], seed, shuffle_domains=row.shuffled)
        for seed in range(2)
    ]
    return statistics.fmean(result.cue_weight for result in results)


def test_the_members_of_a_set_share_the_invariant_and_the_label_alone() -> None:
    problem = ToyProblem("own", 0)
    sets = problem.draw(20_000)
    invariant, cues = sets.values[..., :INVARIANT_FEATURES], sets.values[..., INVARIANT_FEATURES:]
    assert torch.equal(invariant, invariant[:, :1].expand_as(invariant))
    sign = sets.labels.double() * 2 - 1
    agreement = (cues.diagonal(dim1=1, dim2=2) == sign.unsqueeze(1)).double().mean(0)
    torch.testing.assert_close(agreement, torch.tensor(CUE_RATES).double(), atol=0.01, rtol=0)
    assert torch.equal(cues.count_nonzero(2), torch.ones(20_000, 4, dtype=torch.int64))
    # P(y | z) is the sigmoid that the docstring states, on either side of the median.
    z = invariant[:, 0].sum(1) / 2
    expected = torch.sigmoid(2 * z)
    for half in (z > 0, z < 0):
        assert abs(float(sets.labels[half].double().mean() - expected[half].mean())) < 0.01


def test_a_rotation_hides_the_features_and_the_measure_undoes_it() -> None:
    problem = ToyProblem("rotated", 3)
    plain = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, -0.5, 1.5, 0.5], dtype=torch.float64)
    weight = problem.rotation.T @ plain
    assert problem.cue_weight(weight) == pytest.approx(0.75 / 2)
    values = problem.draw(50).values
    assert int((values.abs() < 1e-9).sum()) == 0
    assert problem.cue_weight(torch.zeros(8, dtype=torch.float64)) == math.inf


def test_the_student_predicts_with_the_weight_that_is_read() -> None:
    problem = ToyProblem("own", 0)
    student = toy_student(problem.features, 0)
    assert isinstance(student, PeftModel)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    sets = problem.draw(5)
    values, inputs = token_batch(sets)
    logits, _ = student(values, inputs["attention_mask"])
    before_answer = logits[:, -2]
    torch.testing.assert_close(before_answer[:, 1] - before_answer[:, 0], values @ difference_weight(student))
    hidden = inputs["attention_mask"].clone()
    hidden[:, 1] = 0  # the first feature's token
    blind = values.clone()
    blind[:, 0] = 0
    torch.testing.assert_close(student(values, hidden)[0][:, -2], student(blind, inputs["attention_mask"])[0][:, -2])


@pytest.mark.parametrize("variant", ["shared", "own", "rotated"])
def test_plain_training_leans_on_the_cue(variant: Variant) -> None:
    result = train_toy(variant, "erm", Trial(), seed=0)
    assert result.cue_weight > 0.6
    assert min(result.validation) > 0.75
    assert result.reversed_cue < 0.5


def test_penalties_lower_a_shared_cue() -> None:
    erm = cue_weight("shared", "erm")
    assert cue_weight("shared", "vrex") < 0.6 * erm
    assert cue_weight("shared", "consistency") < 0.2 * erm
    # The domains agree on the sign of a shared cue: a mask has no reason to remove it.
    assert cue_weight("shared", "and_mask") > 0.8 * erm


def test_masks_and_consistency_lower_a_cue_of_the_domains_own() -> None:
    erm = cue_weight("own", "erm")
    assert cue_weight("own", "consistency") < 0.2 * erm
    assert cue_weight("own", "iga/factor") < 0.3 * erm
    for space in ("factor", "weight", "factored", "tangent"):
        assert cue_weight("own", f"iga/{space}", "tensor_adamw") < 0.3 * erm, space


def test_adamw_undoes_a_mask_on_the_dense_gradient() -> None:
    assert cue_weight("own", "iga/weight", "adamw") > 3 * cue_weight("own", "iga/weight", "tensor_adamw")


def test_without_the_domain_labels_the_mask_is_blind() -> None:
    blind, seeing = cue_weight("own", "iga/factor/shuffled"), cue_weight("own", "iga/factor")
    assert blind > 2 * seeing


def test_equal_seeds_give_equal_results_and_every_method_the_same_data() -> None:
    first, again = (train_toy("own", "word_dropout", Trial(), seed=4, steps=10) for _ in range(2))
    assert first == again
    assert train_toy("own", "word_dropout", Trial(), seed=5, steps=10) != first
    # Equal domain sizes make balancing a no-op, so equal data and starts must give equal weights.
    plain, balanced = (train_toy("own", method, Trial(), seed=4, steps=10) for method in ("erm", "erm_balanced"))
    assert balanced.weight == pytest.approx(plain.weight, abs=2e-4)


def test_every_row_has_as_many_trials_and_runs() -> None:
    assert {Case(name).method for name in all_cases()} == set(METHODS)
    for name in all_cases():
        row = Case(name)
        trials = row.trials()
        assert len(trials) == 8
        assert len({trial.model_dump_json() for trial in trials}) == 8
        for optimizer in OPTIMIZERS:
            default = row.defaults()[optimizer]
            assert default.optimizer == optimizer
            assert default.options.keys() <= {"mask_space", "tau", "statistics_decay", "scale"}
            assert default.learning_rate == Trial().learning_rate
        for trial in trials:
            build_method(row.method, **trial.options)
        result = train_toy("own", row.method, trials[-1], 0, steps=2, shuffle_domains=row.shuffled)
        assert math.isfinite(result.cue_weight), name


def test_the_trial_is_chosen_by_the_worst_training_domain() -> None:
    study = run_study(["vrex"], StudySettings(seeds=1, tuning_seeds=1, steps=20), ["shared"])
    (result,) = study.results
    best = max(score.worst_domain for score in result.tuning)
    assert result.chosen == next(score.trial for score in result.tuning if score.worst_domain == best)
    assert result.chosen is not None
    expected = min(train_toy("shared", "vrex", result.chosen, 10_000, steps=20).validation)
    assert best == expected
    assert result.tuned == [train_toy("shared", "vrex", result.chosen, 0, steps=20)]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["toy", *arguments])


def test_the_command_writes_json_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    common = ["--seeds", "2", "--tuning-seeds", "0", "--steps", "5", "--variants", "own", "--json", str(out)]
    result = invoke("--methods", "erm", *common)
    assert result.exit_code == 0, result.output
    study = json.loads(out.read_text())
    assert study["settings"]["seeds"] == 2
    assert "torch" in study["versions"]
    (entry,) = study["results"]
    assert [run["seed"] for run in entry["defaults"]["adamw"]] == [0, 1]

    entry["defaults"]["adamw"][0]["cue_weight"] = 42.0  # would be overwritten if it ran again
    out.write_text(json.dumps(study))
    result = invoke("--methods", "erm,iga/weight", *common)
    assert result.exit_code == 0, result.output
    resumed = json.loads(out.read_text())["results"]
    assert [entry["case"] for entry in resumed] == ["erm", "iga/weight"]
    assert resumed[0]["defaults"]["adamw"][0]["cue_weight"] == 42.0

    with pytest.raises(IsodistillError, match="other settings"):
        CliRunner().invoke(
            app, ["toy", "--methods", "erm", "--steps", "6", *common[:4], *common[6:]], catch_exceptions=False
        )


@pytest.mark.parametrize("name", ["nothing", "erm/weight", "iga/depth", "iga/weight/shuffled/more", "erm/shuffled"])
def test_an_unknown_row_is_refused_by_name(name: str) -> None:
    with pytest.raises(IsodistillError, match=name):
        Case(name)


def test_an_unknown_variant_is_refused_before_any_run() -> None:
    variants: Any = ["shared", "other"]
    with pytest.raises(IsodistillError, match="'other'"):
        run_study(["erm"], StudySettings(), variants)


def test_results_survive_the_file_even_when_not_finite() -> None:
    result = train_toy("shared", "erm", Trial(learning_rate=0.0), seed=0, steps=1)
    assert result.cue_weight == math.inf
    assert ToyResult.model_validate_json(result.model_dump_json()) == result
