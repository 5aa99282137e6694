"""Studies of the number of training domains: every run is a point, and lines are fitted over the doublings of K."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import domain_sweep
import numpy as np
import pytest
import write_results
import yaml

from isodistill.evaluation.effects import GroupValue, MeasureEffects
from isodistill.study.results import Result, Results

ROOT = Path(__file__).resolve().parents[2]
METHOD = ROOT / "docs" / "method.md"


def measure(name: str, values: dict[str, list[float]]) -> MeasureEffects:
    groups = {
        arm: GroupValue(mean=float(np.mean(own)), low=None, high=None, by_seed=own) for arm, own in values.items()
    }
    fields = {"measure": name, "title": name, "unit": "share", "better": "higher", "splits": ["unseen_domain"]}
    return MeasureEffects.model_validate(fields | {"over": "seeds", "baseline": "erm", "groups": groups, "effects": {}})


def comparison(data: str, gaps: dict[str, list[float]]) -> Result:
    outside = {arm: [0.9 - gap for gap in own] for arm, own in gaps.items()}
    inside = {arm: [0.9 for _ in own] for arm, own in gaps.items()}
    measures = [measure("ood_accuracy", outside), measure("accuracy:iid", inside), measure("ood_gap", gaps)]
    return Result(rule="as_given", data=data, student="lab", controls=[], effects=measures)


SWEEP = [
    (2, comparison("k_2", {"erm": [0.40, 0.38], "iga": [0.30, 0.28]})),
    (8, comparison("k_8", {"erm": [0.36, 0.34], "iga": [0.20, 0.18]})),
    (4, comparison("k_4", {"erm": [0.38, 0.36], "iga": [0.25, 0.23]})),
]


def test_slopes_are_points_for_a_doubling() -> None:
    fits = domain_sweep.gap_fits(SWEEP)
    assert fits["erm"][0] == pytest.approx(-2)
    assert fits["iga"][0] == pytest.approx(-5)
    assert fits["iga - erm"] == pytest.approx((-3, -3, -3))  # paired: no residual is left
    # Six points, one point above or below the line each: stderr = sqrt(6 / 4) / sqrt(4), t(4) = 2.776.
    assert fits["erm"][1:] == pytest.approx((-2 - 2.776 * 1.5**0.5 / 2, -2 + 2.776 * 1.5**0.5 / 2), abs=1e-3)


def test_two_numbers_of_domains_make_no_line() -> None:
    assert domain_sweep.gap_fits(SWEEP[:2]) == {}


def test_the_table_is_ordered_by_the_number_of_domains() -> None:
    table = domain_sweep.domain_table(SWEEP, ("iid", "deeper"))
    assert table[0] == "| K | arm | iid | out of distribution | iid - out of distribution |"
    assert table[2:4] == ["| 2 | erm | 90.0 | 51.0 | 39.0 |", "| 2 | iga | 90.0 | 61.0 | 29.0 |"]
    assert [line.split("|")[1].strip() for line in table[2:]] == ["2", "2", "4", "4", "8", "8"]


def test_the_picture_holds_every_run() -> None:
    chart = domain_sweep.gap_chart(SWEEP)
    assert len(chart.rows) == 12
    assert ["iga", 8, 0.18] in chart.rows
    assert "training domains K" in chart.svg()


def test_domains_are_counted_over_the_draws() -> None:
    def entry(domains: int, draw_of: str) -> dict[str, object]:
        return {"draw_of": draw_of, "generate": {"domains": [f"nonce:{n}" for n in range(domains)]}}

    study = {"data": {"a": entry(2, "k_2"), "b": entry(2, "k_2"), "c": entry(4, "mixed"), "d": entry(2, "mixed")}}
    assert domain_sweep.domain_count(study, "k_2") == 2
    assert domain_sweep.domain_count(study, "a") == 2
    assert domain_sweep.domain_count(study, "mixed") is None
    assert domain_sweep.domain_count({"data": {"own": {"path": "x"}}}, "own") is None


def test_a_sweep_gets_one_table_and_one_picture(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    entries = "".join(f"  {result.data}: {{generate: {{domains: {['d'] * count}}}}}\n" for count, result in SWEEP)
    file.write_text(f"# 1. How many?\nname: sweep\ndata:\n{entries}")
    results = Results(versions={}, config={}, results=[result for _, result in SWEEP], failed={})
    page = "\n".join(write_results.write_study(file, results, tmp_path))
    assert page.count("| K | arm |") == 1
    assert "| iga - erm | -3.0 [-3.0, -3.0] |" in page
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["sweep.svg"]


@pytest.mark.parametrize("file", ["domains.yaml", "temperature.yaml"])
def test_the_studies_of_domains_are_nested_and_of_equal_length(file: str) -> None:
    study = yaml.safe_load((ROOT / "studies" / file).read_text())
    unseen = [f"nonce:{n}" for n in range(64, 80)]
    for name, entry in study["data"].items():
        count = domain_sweep.domain_count(study, name)
        assert count is not None
        assert entry["draw_of"] == f"k_{count}"
        assert entry["generate"]["domains"] == [f"nonce:{n}" for n in range(count)]
        assert entry["generate"]["unseen_domains"] == unseen
        assert entry["generate"]["told_in"] == 2
        training = study["training"]
        assert entry["generate"]["sets"] == training["max_steps"] * training["per_device_train_batch_size"]


def test_what_its_protocol_says_of_exploratory_runs_is_in_their_file() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    mine = [run for run in runs if run["data"] in "RS" and run["kind"] == "method"]
    assert len(mine) == 8
    told = (ROOT / "studies" / "domains.yaml").read_text().partition("name:")[0]
    short = {run["training"]["learning_rate"]: run["ood_accuracy"] for run in mine if run["steps"] == 60}
    assert f"little at 2e-3 ({100 * short[2e-3]:.1f}% out of distribution)" in told
    assert f"most of it at 4e-3 ({100 * short[4e-3]:.1f}%)" in told
    first = {
        arm: ", ".join(
            f"{100 * run['ood_accuracy']:.1f}"
            for name in "TUV"
            for run in runs
            if run["data"] == name and run["kind"] == "method" and run["method"] == arm
        )
        for arm in ("erm", "iga")
    }
    assert len(first["erm"].split(", ")) == len(first["iga"].split(", ")) == 3
    flat = " ".join(told.replace("#", " ").split())
    for arm, words in (("erm", "out of distribution for plain training"), ("iga", "for IGA")):
        values = " and ".join(first[arm].rsplit(", ", 1))
        assert f"{values}% {words}" in flat
    (other,) = [run for run in runs if run["data"] == "W"]
    assert other["method_options"]["tau"] == 1 / 16
    assert f"({100 * other['ood_accuracy']:.1f}% out of distribution, one exploratory run" in METHOD.read_text()
    assert f"had {100 * short[2e-3]:.1f}%, as much as IGA" in (ROOT / "docs" / "reproduction.md").read_text()
    longer = [run for run in mine if "steps=1600" in run["student"] and run["training"]["learning_rate"] <= 2e-3]
    assert all(run["accuracy"]["cue_reversed"] >= run["accuracy"]["cue_absent"] for run in longer)


def test_the_mean_masks_told_are_those_of_the_runs() -> None:
    raw = json.loads((ROOT / "studies" / "results" / "domains-masks.json").read_text())
    draws = [[raw["tau 1"][f"k_{count}_draw_{draw}"] for draw in (1, 2)] for count in (2, 4, 8, 16, 32, 64)]
    *told, last = [f"{np.mean([steps[:5] for steps in each]):.2f}" for each in draws]
    text = " ".join(METHOD.read_text().split())
    assert f"first five steps was {', '.join(told)} and {last} for K = 2, 4, 8, 16, 32 and 64" in text
    assert f"With tau = 1/16 and K = 64 it is {np.mean(raw['tau 1/16, data W'][:5]):.2f}" in text


def test_what_is_told_of_the_temperature_is_in_its_results() -> None:
    raw = (ROOT / "studies" / "results" / "temperature.json").read_text()
    sweep = {result.data: result for result in Results.model_validate_json(raw).pooled}
    told = (ROOT / "studies" / "introduction.md").read_text()
    for arm in ("iga", "iga tau 1", "erm 2e-3", "erm 1e-3", "iga, shuffled domains"):
        *first, last = [domain_sweep.percent(sweep[f"k_{count}"], "ood_accuracy", arm) for count in (2, 4, 16, 64)]
        assert f"{', '.join(first)} and {last}%" in " ".join(told.split())
    gaps = [domain_sweep.percent(result, "ood_gap", "iga") for result in sweep.values()]
    assert "3.8" in gaps
    assert max(map(float, gaps)) == 3.8


def test_what_is_told_of_the_estimator_without_a_floor_is_in_its_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    by_options = {
        (run["data"], run["method_options"].get("conflict_estimator", "plain"), run["method_options"]["tau"]): run
        for run in runs
        if run["data"] in ("AA", "AB")
    }
    cross, plain = by_options["AA", "cross", 9.0], by_options["AA", "plain", 9.0]
    default, early = by_options["AA", "plain", None], by_options["AB", "cross", 3.0]
    told = " ".join(METHOD.read_text().split())
    for run, words in ((cross, "{}% out of distribution ({}% with the cue reversed)"), (plain, "at {}% ({}%)")):
        assert words.format(*_percents(run)) in told
    assert f"the default at {_percents(default)[0]}%" in told
    assert f"cue too ({_percents(early)[0]}%)" in told


def _percents(run: dict[str, Any]) -> tuple[str, str]:
    return f"{100 * run['ood_accuracy']:.1f}", f"{100 * run['accuracy']['cue_reversed']:.1f}"
