"""What a study may say, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import GENERATE, study_values

from isodistill.errors import IsodistillError
from isodistill.isomers import generate, make_config, read_split
from isodistill.methods import METHODS, Choice, Range
from isodistill.study.arms import build_arms
from isodistill.study.config import DataEntry, load_study, parse_study
from isodistill.study.data import DataFacts, StudyData, check_data, facts
from isodistill.study.folder import StudyFolder
from isodistill.study.plan import Planner
from isodistill.study.search import choose_trial, draw_trials

FACTS = {"main": DataFacts("0123456789abcdef", ("law", "math", "medicine"))}
SEARCH: dict[str, Any] = {
    "trials": 5,
    "space": {
        "learning_rate": {"low": "1e-4", "high": "1e-2", "log": True},
        "max_steps": {"choices": [2, 4, 8]},
    },
}


def study(**changes: Any) -> Any:
    return parse_study(study_values(Path("student"), **changes), "study x.yaml")


def test_a_method_takes_its_options_directly_or_by_name() -> None:
    config = study(
        methods={
            "erm": None,
            "a": {"method": "iga", "tau": 0.5},
            "b": {"method": "iga", "method_options": {"tau": 0.5}},
        }
    )
    arms = {arm.label: arm for arm in build_arms(config)}
    assert arms["a"].method_options == arms["b"].method_options == {"tau": 0.5}
    assert arms["erm"].method == "erm"


def test_numbers_in_exponent_form_are_numbers(tmp_path: Path) -> None:
    values = study_values(Path("student"))
    values["training"]["learning_rate"] = "1e-3"
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values).replace("'1e-3'", "1e-3"))
    assert load_study(file).training["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seedss": [1]}, "study x.yaml, seedss"),
        ({"baseline": "sgd"}, "the baseline 'sgd' is not among the methods erm, iga"),
        ({"seeds": [1, 1]}, "seeds names something twice"),
        ({"data": {"main": {"path": "a", "generate": GENERATE}}}, "data.main: give either generate or path"),
        ({"data": {"main": {"generate": GENERATE | {"sets": 0}}}}, "data.main.generate.sets"),
        ({"search": {"rules": ["best"]}}, "search.rules.0"),
        ({"search": {"space": {"learning_rate": {"low": 1}}}}, "search.space.learning_rate: give low and high"),
        ({"search": {"space": {"learning_rate": {"low": 0, "high": 1, "log": True}}}}, "above 0 with log"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(IsodistillError, match=told.replace(".", r"\.").replace("(", r"\(")):
        study(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"training": {"learning_rat": 1}},
            "training.learning_rat is no option of training; did you mean learning_rate?",
        ),
        ({"training": {"seed": 1}}, "training.seed is set by the study"),
        ({"methods": {"erm": {}, "iga": {"taw": 1}}}, "methods.iga: method='iga' does not take"),
        ({"methods": {"erm": {}, "iga": {"tau": -1}}}, "methods.iga: tau=-1"),
        ({"methods": {"erm": {}, "best": {}}}, "methods.best: method='best' is unknown"),
        ({"methods": {"erm": {}, "iga": {"penalty": "erm"}}}, "penalty='erm' combines"),
        ({"evaluation": {"system_prompt": "Think."}}, "evaluation.system_prompt differs"),
        ({"methods": {"erm": {}, "irm": {}}, "baseline": "irm", "controls": ["slow_erm"]}, "slow_erm needs a baseline"),
        ({"data": {"main": {"path": "x"}}, "controls": ["no_cue"]}, "no_cue needs generated data"),
        (
            {
                "data": {"main": {"generate": {k: v for k, v in GENERATE.items() if k != "shortcut"}}},
                "controls": ["no_cue"],
            },
            "no_cue needs a cue",
        ),
        (
            {"methods": {"erm": {}, "iga": {"training": {"per_device_train_batch_size": 4}}}},
            "every method gets the same",
        ),
        ({"methods": {"erm": {}, "iga": {"training": {"lora_r": 4}}}}, "every method gets the same"),
        ({"methods": {"erm": {}, "iga": {"training": {"max_steps": 4}}}}, "every method gets the same"),
        ({"search": {"space": {"lora_r": {"choices": [1, 2]}}}}, "search.space.lora_r would give methods different"),
        (
            {"data": {"main": {"path": "x", "training": {"max_stepz": 4}}}},
            "data.main.training.max_stepz is no option of training; did you mean max_steps?",
        ),
        (
            {"data": {"main": {"path": "x", "training": {"lr_scheduler_type": "cosin"}}}},
            "data.main.training, methods.erm: ",
        ),
        (
            {
                "data": {"main": {"path": "x", "training": {"warmup_steps": 4}}},
                "methods": {"erm": {}, "iga": {"training": {"warmup_steps": 3}}},
            },
            "data.main.training.warmup_steps stands in methods.iga.training too",
        ),
        (
            {"data": {"main": {"path": "x", "training": {"max_steps": 4}}}, "search": SEARCH},
            "data.main.training.max_steps stands in search.space too",
        ),
    ],
)
def test_what_cannot_be_run_or_is_unfair_is_refused_in_a_sentence(changes: dict[str, Any], told: str) -> None:
    config = study(**changes)
    with pytest.raises(IsodistillError) as caught:
        build_arms(config)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fairness_may_be_waived_by_name() -> None:
    config = study(methods={"erm": {}, "iga": {"training": {"lora_r": 4}}}, fair=False)
    assert [arm.training["lora_r"] for arm in build_arms(config)] == [2, 4]


def test_wrong_data_is_refused_before_any_is_made() -> None:
    entry = study(data={"main": {"generate": GENERATE, "teacher": {"style": "loud"}}}).data["main"]
    with pytest.raises(IsodistillError, match=r"data\.main: .*loud"):
        check_data("main", entry)
    entry = study(data={"main": {"path": "/nowhere"}}).data["main"]
    with pytest.raises(IsodistillError, match=r"data\.main: .*/nowhere"):
        check_data("main", entry)


def test_every_arm_has_the_same_number_of_trials_and_the_same_shared_values() -> None:
    config = study(
        methods={"erm": {}, "iga": {}, "fishr": {}, "both": {"method": "erm", "penalty": "vrex"}},
        search=SEARCH,
        controls=["shuffled_domains"],
    )
    trials = {arm.label: draw_trials(config.search, arm) for arm in build_arms(config)}
    assert {len(drawn) for drawn in trials.values()} == {5}
    for drawn in trials.values():
        assert drawn[0].model_dump(exclude={"number"}) == {"training": {}, "method_options": {}, "penalty_options": {}}
        assert [trial.training for trial in drawn] == [trial.training for trial in trials["erm"]]
        assert len({trial.training.get("learning_rate") for trial in drawn}) == 5
    assert trials == {arm.label: draw_trials(config.search, arm) for arm in build_arms(config)}
    assert set(trials["iga"][1].method_options) == {"tau", "statistics_decay"}
    assert trials["both"][1].penalty_options.keys() == {"penalty_weight"}
    assert trials["both"][1].method_options == {}
    assert "iga, shuffled domains" in trials
    assert "erm, shuffled domains" not in trials


def test_data_may_be_for_some_of_the_students(tmp_path: Path) -> None:
    """A draw of the problems goes with a draw of the student, where a claim is to hold over both."""
    data = study_values(Path("student"))["data"]["main"]
    draws = {"one": data | {"students": ["a/a"]}, "two": data | {"students": ["b/b"]}, "both": data}
    config = study(students=["a/a", "b/b"], data=draws)
    assert config.pairs == [("a/a", "one"), ("a/a", "both"), ("b/b", "two"), ("b/b", "both")]
    planner = Planner(config, dict.fromkeys(draws, FACTS["main"]))
    cells, entries = planner.final_cells([])
    assert {(cell.student, cell.data) for cell in cells} == set(config.pairs)
    assert {(entry.student, entry.data) for entry in entries} == set(config.pairs)
    assert facts("one", config.data["one"]) == facts("both", config.data["both"])  # the problems are the same


def test_a_data_set_may_have_trainer_options_of_its_own() -> None:
    """Equal tokens a step for sets of more members: fewer sets, for every arm and control alike."""
    wide = study_values(Path("student"))["data"]["main"]
    data = {"main": wide, "wide": wide | {"training": {"per_device_train_batch_size": 1}}}
    config = study(data=data, controls=["shuffled_domains", "untuned", "slow_erm"])
    planner = Planner(config, dict.fromkeys(data, FACTS["main"]))
    given = config.training["per_device_train_batch_size"]
    assert given != 1
    cells, _ = planner.final_cells([])
    sizes = {(cell.arm.label, cell.data, cell.arm.training["per_device_train_batch_size"]) for cell in cells}
    assert sizes == {(arm.label, name, size) for arm in planner.arms for name, size in (("main", given), ("wide", 1))}
    # The problems are the same, and a study without such options keeps its runs' names.
    assert facts("wide", config.data["wide"]) == facts("main", config.data["main"])
    plain = Planner(study(data={"main": wide}, controls=["slow_erm"]), FACTS).final_cells([])[0]
    assert {cell.slug for cell in plain} < {cell.slug for cell in cells}
    trials = Planner(study(data=data, search={"trials": 2}), dict.fromkeys(data, FACTS["main"])).trial_cells()
    assert {(cell.data, cell.arm.training["per_device_train_batch_size"]) for cell in trials} == {
        ("main", given),
        ("wide", 1),
    }


@pytest.mark.parametrize(
    ("students", "told"),
    [
        (["c/c"], "data.main is for 'c/c', which is not among the students"),
        (["a/a"], "no data set is for the student 'b/b'"),
    ],
)
def test_data_for_a_student_that_is_not_there_is_refused(students: list[str], told: str) -> None:
    data = study_values(Path("student"))["data"]["main"] | {"students": students}
    with pytest.raises(IsodistillError, match=told):
        study(students=["a/a", "b/b"], data={"main": data})


def test_draws_are_alike_but_for_their_seed() -> None:
    data = study_values(Path("student"))["data"]["main"] | {"draw_of": "main"}
    other = data | {"generate": data["generate"] | {"seed": 5}}
    assert study(data={"one": data, "two": other}).data["two"].draw_of == "main"
    third = data | {"generate": data["generate"] | {"validation_sets": 7}}
    with pytest.raises(IsodistillError, match=r"data.third and data.one are draws of 'main' and differ in more"):
        study(data={"one": data, "two": other, "third": third})


def test_the_shuffled_control_runs_for_the_methods_that_are_named() -> None:
    methods = {"erm": {}, "iga": {}, "fishr": {}, "consistency": {}}
    config = study(methods=methods, controls=["shuffled_domains"], shuffled=["iga"])
    shuffled = [arm.label for arm in build_arms(config) if arm.kind == "shuffled_domains"]
    assert shuffled == ["iga, shuffled domains"]
    with pytest.raises(IsodistillError, match="'consistency', whose method reads no domain"):
        build_arms(study(methods=methods, controls=["shuffled_domains"], shuffled=["iga", "consistency"]))
    with pytest.raises(IsodistillError, match="shuffled names 'ige', which is not among the methods"):
        study(methods=methods, controls=["shuffled_domains"], shuffled=["ige"])
    with pytest.raises(IsodistillError, match="which controls does not have"):
        study(methods=methods, shuffled=["iga"])


def test_trials_stay_inside_the_space() -> None:
    config = study(search=SEARCH | {"trials": 40})
    arm = build_arms(config)[1]
    drawn = draw_trials(config.search, arm)[1:]
    rates = sorted(trial.training["learning_rate"] for trial in drawn)
    assert 1e-4 <= rates[0] < 5e-4 < 2e-3 < rates[-1] <= 1e-2
    assert {trial.training["max_steps"] for trial in drawn} == {2, 4, 8}


def test_every_method_states_a_space_that_it_accepts() -> None:
    config = study(search={"trials": 6})
    for name, method in METHODS.items():
        arm = build_arms(study(methods={"erm": {}, "m": {"method": name}}))[1]
        for trial in draw_trials(config.search, arm):
            method(**trial.method_options)
        for space in method.search_space.values():
            assert isinstance(space, Range | Choice)


@pytest.mark.parametrize(
    ("scores", "chosen"), [([0.5, 0.5], 0), ([0.1, None, 0.3], 2), ([None, None], None), ([None, 0.0], 1)]
)
def test_the_best_finished_trial_is_chosen(scores: list[float | None], chosen: int | None) -> None:
    assert choose_trial(scores) == chosen


def test_another_study_in_the_folder_is_refused_by_its_field(tmp_path: Path) -> None:
    StudyFolder.create(tmp_path, study())
    StudyFolder.create(tmp_path, study())
    other = study_values(Path("student"))
    other["training"]["learning_rate"] = 0.5
    with pytest.raises(IsodistillError, match=r"differs in training\.learning_rate"):
        StudyFolder.create(tmp_path, parse_study(other, "x"))


def test_a_method_without_enough_domains_is_refused() -> None:
    facts = {"main": DataFacts("0" * 16, ("law", "math"))}
    with pytest.raises(IsodistillError, match=r"leave_one_domain_out leaves 1 domain\(s\) of data\.main"):
        Planner(study(search=SEARCH | {"rules": ["leave_one_domain_out"]}), facts)


def test_the_final_grid_shares_cells_where_rules_agree(tmp_path: Path) -> None:
    config = study(
        search=SEARCH | {"rules": ["validation", "oracle"]},
        controls=["shuffled_domains", "slow_erm", "no_cue", "untuned"],
    )
    planner = Planner(config, FACTS)
    folder = StudyFolder.create(tmp_path, config)
    trials = planner.trial_cells()
    assert len(trials) == len({cell.slug for cell in trials}) == 3 * 5
    assert all(cell.evaluation.splits == ["validation"] for cell in trials)
    tunings = planner.tune(folder)
    assert planner.final_cells(tunings)[1][0].arm == "untuned student"  # nothing was scored, so nothing else is chosen
    for tuning in tunings:
        tuning.chosen = {"validation": 1, "oracle": 1 if tuning.arm == "erm" else 2}
    cells, entries = planner.final_cells(tunings)
    by_arm = {arm.label: [cell for cell in cells if cell.arm.label == arm.label] for arm in planner.arms}
    assert {label: len(own) for label, own in by_arm.items()} == {
        "erm": 2,
        "iga": 4,
        "iga, shuffled domains": 4,
        "erm, slow": 2,
        "erm, no cue": 2,
        "untuned student": 1,
    }
    rate = planner.trials["erm"][1].training["learning_rate"]
    assert {cell.arm.training["learning_rate"] for cell in by_arm["erm, slow"]} == {rate / 10}
    assert len(entries) == 2 * (5 * 2 + 1)
    assert all(cell.oracle_share == 0.2 for cell in cells)


def test_a_domain_is_left_out_of_sets_that_are_told_in_some(tmp_path: Path) -> None:
    names = ["law", "math", "medicine", "science"]
    sizes = {"sets": 30, "validation_sets": 4, "test_sets": 4}
    generate(make_config(**sizes, domains=names, told_in=2), tmp_path / "some")
    assert facts("main", DataEntry(path=str(tmp_path / "some"))).domains == tuple(names)
    StudyData._leave_out(tmp_path / "some", tmp_path / "without", "law")
    left = read_split(tmp_path / "without", "train")
    whole = read_split(tmp_path / "some", "train")
    assert left == [row for row in whole if "law" not in row.domains]
    assert 5 < len(left) < 30
    assert all(row.domains == ("law",) for row in read_split(tmp_path / "without", "validation"))
