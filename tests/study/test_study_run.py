"""Real studies with a tiny student: fair, resumable, and the same numbers after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_study import GENERATE, save_student, study_values

from isodistill.errors import IsodistillError
from isodistill.evaluation import Evaluation, is_ood_split
from isodistill.isomers import generate, make_config
from isodistill.isomers.store import read_split
from isodistill.runs import RunRecord
from isodistill.study import StudyFolder, execute
from isodistill.study.config import StudyConfig, parse_study
from isodistill.study.costs import Costs
from isodistill.study.data import laid_aside
from isodistill.study.results import Results
from isodistill.study.run import Outcome, run_study

SHORT = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.05,
    "lora_r": 2,
    "use_cpu": True,
    "bf16": False,
}


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """The metrics of every cell, apart from times and memory."""
    costs = ("seconds", "peak_memory")
    return {
        file.parent.name: {
            name: value for name, value in json.loads(file.read_text()).items() if not name.startswith(costs)
        }
        for file in sorted(folder.glob("cells/*/metrics.json"))
    }


def by_run(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The same by arm and seed, since a cell's name hangs on every option."""
    cells = {name: json.loads((folder / "cells" / name / "cell.json").read_text()) for name in numbers(folder)}
    return {(cell["arm"]["label"], cell["seed"]): numbers(folder)[name] for name, cell in cells.items()}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def plain(student: Path) -> StudyConfig:
    methods = {"erm": {}, "erm again": {"method": "erm"}, "iga": {"tau": 0.3}}
    values = study_values(student, methods=methods, controls=["untuned"], training=SHORT)
    return parse_study(values, "test")


@pytest.fixture(scope="module")
def undisturbed(plain: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(plain, tmp_path_factory.mktemp("undisturbed"), workers=0)


def test_every_arm_sees_the_same_sets_in_the_same_order(undisturbed: Outcome) -> None:
    orders: dict[int, set[str]] = {}
    for run in undisturbed.folder.finals("as given"):
        if run.seed is not None:
            found = json.loads((run.folder / "metrics.json").read_text())
            assert found["sets_seen"] == 4 * 2
            orders.setdefault(run.seed, set()).add(found["data_order"])
    assert [len(found) for found in orders.values()] == [1, 1]
    assert orders[0] != orders[1]


def test_the_same_method_under_two_labels_is_not_called_different(undisturbed: Outcome) -> None:
    assert undisturbed.results is not None
    (result,) = undisturbed.results.results
    assert result.effects[0].measure == "ood_accuracy"
    effect = result.effects[0].effects["erm again"]
    assert effect.effect.value == 0
    assert not effect.significant
    assert effect.p_holm == 1
    found = {run.arm: run.folder for run in undisturbed.folder.finals("as given") if run.seed == 1}
    by_cell = numbers(undisturbed.folder.root)
    assert by_cell[found["erm"].name] == by_cell[found["erm again"].name] != by_cell[found["iga"].name]


def test_a_cell_is_a_run_folder_without_its_adapter(undisturbed: Outcome) -> None:
    runs = undisturbed.folder.finals("as given")
    assert [(run.arm, run.seed) for run in runs] == [
        ("erm", 0),
        ("erm", 1),
        ("erm again", 0),
        ("erm again", 1),
        ("iga", 0),
        ("iga", 1),
        ("untuned student", None),
    ]
    assert [run.control for run in runs] == [False] * 6 + [True]
    iga = runs[4].folder
    assert RunRecord.load(iga).method == "iga"
    assert {item.split for item in Evaluation.load(iga / "evaluation.json").items} == {
        *("iid", "cue_absent", "cue_reversed", "unseen_domain")
    }
    files = {file.name for file in iga.iterdir()}
    assert {"cell.json", "metrics.json", "diagnostics.jsonl", "log.txt", "evaluation.json", "run.json"} <= files
    assert not any(name.endswith(".safetensors") or name.startswith("tokenizer") for name in files)
    with pytest.raises(IsodistillError, match="no rule 'oracle': it has as given"):
        undisturbed.folder.finals("oracle")


def test_costs_are_those_of_the_runs(undisturbed: Outcome) -> None:
    costs = Costs.model_validate_json((undisturbed.folder.root / "costs.json").read_text())
    trained = [run for run in undisturbed.folder.finals("as given") if run.seed is not None]
    assert list(dict.fromkeys(run.arm for run in trained)) == [cost.arm for cost in costs.arms]
    for cost in costs.arms:
        records = [RunRecord.load(run.folder) for run in trained if run.arm == cost.arm]
        assert cost.tokens == [record.tokens for record in records]
        assert cost.seconds == [record.seconds for record in records]
        assert min(cost.seconds) > 0
        assert all(peak is None or peak > 2**26 for peak in cost.peak_memory)  # Python and torch are more than 64 MiB
        assert len(cost.peak_memory) == len(cost.seeds)
        assert cost.seeds == [run.seed for run in trained if run.arm == cost.arm]


def test_finished_cells_are_not_run_again(
    undisturbed: Outcome, plain: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(execute, "run_training", never)
    monkeypatch.setattr(execute, "evaluate", never)
    before = (undisturbed.folder.root / "results.json").read_bytes()
    again = run_study(plain, undisturbed.folder.root, workers=0)
    assert (again.missing, again.failed) == (0, {})
    assert (undisturbed.folder.root / "results.json").read_bytes() == before


def test_a_study_that_is_cut_off_in_training_and_in_evaluation_gives_the_same_numbers(
    undisturbed: Outcome, plain: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_training(*args: Any, **options: Any) -> Any:
        class Stop(execute.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 2 and len(numbers(tmp_path)) == 1:
                    raise KeyboardInterrupt

        options["callbacks"] = [*options["callbacks"], Stop()]
        return real_training(*args, **options)

    def in_evaluation(*args: Any, **options: Any) -> Any:
        if len(numbers(tmp_path)) == 3:
            raise KeyboardInterrupt
        return real_evaluation(*args, **options)

    real_training, real_evaluation = execute.run_training, execute.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(execute, "run_training", in_training)
        with pytest.raises(KeyboardInterrupt):
            run_study(plain, tmp_path, workers=0)
    assert len(numbers(tmp_path)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(execute, "evaluate", in_evaluation)
        with pytest.raises(KeyboardInterrupt):
            run_study(plain, tmp_path, workers=0)
    assert len(numbers(tmp_path)) == 3
    (half,) = [f.parent for f in tmp_path.glob("cells/*/training.json") if not (f.parent / "metrics.json").exists()]
    assert (half / "adapter_model.safetensors").is_file()
    assert run_study(plain, tmp_path, workers=0).results is not None
    assert numbers(tmp_path) == numbers(undisturbed.folder.root)


def test_a_training_goes_on_from_its_last_whole_checkpoint(
    undisturbed: Outcome, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_study(study_values(student, training=SHORT | {"save_steps": 1}), "test")

    def cut_off(*args: Any, **options: Any) -> Any:
        class Stop(execute.TrainerCallback):
            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                # The third checkpoint is there and is not yet told to be whole.
                if state.global_step == 3 and len(numbers(tmp_path)) == 1:
                    raise KeyboardInterrupt

        options["callbacks"] = [Stop(), *options["callbacks"]]
        return real_training(*args, **options)

    trained: list[bool] = []

    def gone_on(job: Any, *args: Any, **options: Any) -> Any:
        trained.append(job.resume)
        return real_training(job, *args, **options)

    real_training = execute.run_training
    with monkeypatch.context() as patch:
        patch.setattr(execute, "run_training", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run_study(config, tmp_path, workers=0)
    assert len(list(tmp_path.glob("cells/*/checkpoint-*"))) >= 1
    monkeypatch.setattr(execute, "run_training", gone_on)
    run_study(config, tmp_path, workers=0)
    assert trained.count(True) == 1
    assert not list(tmp_path.glob("cells/*/checkpoint-*"))
    known = by_run(undisturbed.folder.root)
    found = by_run(tmp_path)
    assert len(found) == 4
    assert found == {run: known[run] for run in found}


@pytest.fixture(scope="module")
def searched(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Outcome]]:
    """A study with every rule, run in turns by two shards."""
    config = parse_study(
        study_values(
            student,
            methods={"erm": {}},
            controls=["no_cue", "slow_erm"],
            training=SHORT,
            seeds=[0],
            search={
                "trials": 2,
                "space": {"learning_rate": {"low": 0.3, "high": 0.9}},
                "rules": ["validation", "leave_one_domain_out", "oracle"],
                "oracle_share": 0.4,
            },
        ),
        "test",
    )
    out = tmp_path_factory.mktemp("searched")
    return [run_study(config, out, workers=0, shard=shard) for shard in ((0, 2), (1, 2), (0, 2))]


def test_shards_wait_for_each_other_between_stages(searched: list[Outcome]) -> None:
    first, second, third = searched
    assert (first.stage, first.missing, first.results) == ("trial", 4, None)
    assert second.stage == "final"
    assert second.missing > 0
    assert second.results is None
    assert third.missing == 0
    assert third.results is not None
    assert [result.rule for result in third.results.results] == ["validation", "leave_one_domain_out", "oracle"]


def test_trials_read_no_test_set_that_a_final_run_counts(searched: list[Outcome]) -> None:
    folder = searched[-1].folder
    plan = folder.load_plan()
    whole = folder.root / "data" / "main"
    aside: set[tuple[str, str]] = set()
    for cell in plan.cells["trial"]:
        place = folder.cell_folder(cell.slug)
        items = Evaluation.load(place / "evaluation.json").items
        assert {item.split for item in items} == {"validation"}
        if cell.held_out is not None:
            assert {item.domain for item in items} == {cell.held_out}
            assert cell.held_out not in RunRecord.load(place).domains
            assert len(RunRecord.load(place).domains) == 2
            assert not (place / "oracle.json").exists()
        else:
            oracle = Evaluation.load(place / "oracle.json").items
            assert all(is_ood_split(item.split) for item in oracle)
            aside |= {(item.split, item.set_id) for item in oracle}
    counted = {
        (item.split, item.set_id)
        for cell in plan.cells["final"]
        for item in Evaluation.load(folder.cell_folder(cell.slug) / "evaluation.json").items
    }
    assert aside
    assert not aside & counted
    for split in ("cue_absent", "cue_reversed", "unseen_domain"):
        assert {(split, row.set_id) for row in read_split(whole, split)} <= aside | counted
    ids = {row.set_id for row in read_split(whole, "iid")}
    assert {set_id for split, set_id in counted if split == "iid"} == ids - laid_aside(ids, 0.4)


def test_each_rule_chooses_the_trial_that_it_scores_highest(searched: list[Outcome]) -> None:
    (tuning,) = json.loads((searched[-1].folder.root / "trials.json").read_text())
    assert [len(trial["cells"]) for trial in tuning["trials"]] == [4, 4]
    assert 0.3 <= tuning["trials"][1]["trial"]["training"]["learning_rate"] <= 0.9
    for rule, chosen in tuning["chosen"].items():
        scores = [trial["scores"][rule] for trial in tuning["trials"]]
        assert scores[chosen] == max(scores)
        assert chosen == scores.index(max(scores))
    found = numbers(searched[-1].folder.root)
    out = [found[slug]["validation"] for slug in tuning["trials"][0]["cells"] if "without" in slug]
    assert tuning["trials"][0]["scores"]["leave_one_domain_out"] == pytest.approx(sum(out) / 3)


def test_the_ceiling_is_trained_on_the_same_problems_without_the_cue(searched: list[Outcome]) -> None:
    root = searched[-1].folder.root
    (bare,) = root.glob("parts/no-cue-*/main")
    cued = {row.set_id: row for row in read_split(root / "data" / "main", "train")}
    assert cued.keys() == {row.set_id for row in read_split(bare, "train")}
    for row in read_split(bare, "train"):
        for member, other in zip(row.members, cued[row.set_id].members, strict=True):
            assert (member.cue, bool(other.cue), member.domain) == ("", True, other.domain)
            assert all(sentence in other.prompt for sentence in member.prompt.split(". "))
            assert len(member.prompt) < len(other.prompt)


def test_a_failed_cell_is_named_and_stops_nothing_else(student: Path, tmp_path: Path) -> None:
    methods = {"erm": {}, "iga": {"tau": 0.3, "training": {"max_length": 5}}}
    values = study_values(student, methods=methods, training=SHORT, seeds=[0], fair=False)
    outcome = run_study(parse_study(values, "test"), tmp_path, workers=0)
    ((slug, reason),) = outcome.failed.items()
    assert slug.startswith("final-iga")
    assert "the prompt alone fills max_length=5" in reason
    assert "Traceback" in (tmp_path / "cells" / slug / "log.txt").read_text()
    assert outcome.results is not None
    assert list(outcome.results.results[0].effects[0].groups) == ["erm"]
    stamp = (tmp_path / "cells" / slug / "error.json").stat().st_mtime_ns
    run_study(parse_study(values, "test"), tmp_path, workers=0)
    assert (tmp_path / "cells" / slug / "error.json").stat().st_mtime_ns == stamp
    run_study(parse_study(values, "test"), tmp_path, workers=0, retry_failed=True)
    assert (tmp_path / "cells" / slug / "error.json").stat().st_mtime_ns > stamp
    assert StudyFolder.open(tmp_path).finals("as given")[0].arm == "erm"


def test_final_runs_are_measured_on_benchmarks_too(student: Path, tmp_path: Path) -> None:
    generate(make_config(**GENERATE | {"sets": 2, "validation_sets": 0, "seed": 9}), tmp_path / "other")
    values = study_values(
        student,
        methods={"erm": {}, "iga": {}},
        training=SHORT,
        seeds=[0],
        benchmarks=[f"isomers:{tmp_path / 'other'}"],
    )
    outcome = run_study(parse_study(values, "test"), tmp_path / "study", workers=0)
    assert outcome.results is not None
    (result,) = outcome.results.results
    measured = {effect.measure for effect in result.effects}
    run = outcome.folder.finals("as given")[0]
    evaluation = Evaluation.load(run.folder / "evaluation.json")
    (record,) = evaluation.benchmarks.values()
    assert record.splits
    assert not any(is_ood_split(split) for split in record.splits), "a benchmark would enter the mean over splits"
    assert any(split in name for split in record.splits for name in measured)
    values["benchmarks"] = ["sudoku"]
    with pytest.raises(IsodistillError, match="sudoku"):
        run_study(parse_study(values, "test"), tmp_path / "refused", workers=0)
    assert not (tmp_path / "refused").exists()


def test_draws_of_student_and_problems_are_taken_together(student: Path, tmp_path: Path) -> None:
    """Each draw has a student and problems of its own; the pooled comparison counts each as one value."""
    other = tmp_path / "other-student"
    shutil.copytree(student, other)
    values = study_values(student, methods={"erm": {}, "iga": {}}, training=SHORT, seeds=[0])
    main = values["data"]["main"]
    again = main | {"generate": main["generate"] | {"seed": 77}}
    values["students"] = [str(student), str(other)]
    values["data"] = {
        "one": main | {"students": [str(student)], "draw_of": "main"},
        "two": again | {"students": [str(other)], "draw_of": "main"},
    }
    outcome = run_study(parse_study(values, "test"), tmp_path / "study", workers=0)
    assert outcome.results is not None
    assert [(each.student, each.data) for each in outcome.results.results] == [
        (str(student), "one"),
        (str(other), "two"),
    ]
    (pooled,) = outcome.results.pooled
    for place, single in enumerate(outcome.results.results):
        assert pooled.effects[0].groups["iga"].by_seed[place] == single.effects[0].groups["iga"].mean
    assert Results.model_validate_json((tmp_path / "study" / "results.json").read_text()) == outcome.results
