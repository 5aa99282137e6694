"""docs/results.md is what the raw results in studies/results say."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from isodistill.study.config import StudyConfig, load_study
from isodistill.study.costs import ArmCost
from isodistill.study.results import Results
from isodistill.trainer.config import PLAIN_OPTIMIZER

ROOT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_results", ROOT / "studies" / "write_results.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["write_results"] = script
    spec.loader.exec_module(script)
    return script


WRITE = load_script()
OF_TODAYS_DEFAULTS = {"domains", "temperature"}  # what their IGA leaves out is as it is today


def test_the_page_is_written_from_the_raw_results(tmp_path: Path) -> None:
    WRITE.main(tmp_path)
    assert (tmp_path / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text(), "run make results"
    drawn = {file.name for file in (tmp_path / "results").iterdir()}
    assert drawn == {file.name for file in (ROOT / "docs" / "results").iterdir()}


def test_costs_of_draws_are_summed_up() -> None:
    def cost(arm: str, data: str, seconds: list[float], tokens: list[int]) -> ArmCost:
        runs = len(seconds)
        common = {"rule": "as given", "student": "lab", "seeds": list(range(runs)), "threads": [1] * runs}
        fields = {"arm": arm, "data": data, "seconds": seconds, "tokens": tokens, "steps": [10] * runs}
        return ArmCost.model_validate(common | fields)

    costs = [
        *(cost("erm", "one", [60, 62], [100, 100]), cost("iga", "one", [90, 93], [100, 100])),
        *(cost("erm", "two", [120, 124], [110, 110]), cost("iga", "two", [240, 246], [110, 110])),
    ]
    erm, iga = WRITE.sum_costs(costs, "erm")
    assert (erm.arm, erm.runs, erm.tokens, erm.ratio) == ("erm", 4, 105, 1)
    assert erm.minutes == (62 + 120) / 2 / 60
    assert erm.hours == (60 + 62 + 120 + 124) / 3600
    assert iga.ratio == (9.15 + 24.3) / (6.1 + 12.2)
    more = [row._replace(tokens=row.tokens * 1e4) for row in (erm, iga)]
    assert WRITE.cost_table(more)[-1].startswith("Training took 0.3 hours and 8.40 million tokens in all.")


def test_memory_stands_in_the_table_where_it_was_measured() -> None:
    runs = {"seeds": [0, 1, 2], "threads": [1] * 3, "seconds": [60.0] * 3, "tokens": [100] * 3, "steps": [10] * 3}
    fields = {"rule": "as given", "student": "lab", "data": "one"} | runs
    mebi = 2**20
    some = ArmCost.model_validate(fields | {"arm": "erm", "peak_memory": [900 * mebi, None, 1300 * mebi]})
    none = ArmCost.model_validate(fields | {"arm": "iga"})
    rows = WRITE.sum_costs([some, none], "erm")
    assert [row.memory for row in rows] == [1100, None]
    table = WRITE.cost_table(rows)
    assert table[0].endswith("| most memory held, MiB |")
    assert [line.split("|")[-2].strip() for line in table[2:4]] == ["1,100", ""]
    assert "memory" not in WRITE.cost_table(rows[1:])[0]


def test_every_study_is_valid_and_its_results_are_its_own() -> None:
    files = sorted((ROOT / "studies").glob("*.yaml"))
    assert files
    for file in files:
        config = load_study(file)
        assert config.name == file.stem
        raw = ROOT / "studies" / "results" / f"{file.stem}.json"
        if raw.is_file():
            # Fields that came later stand at their defaults, which is what ran.
            stored = StudyConfig.model_validate(Results.model_validate_json(raw.read_text()).config)
            ran, asked = stored.model_dump(mode="json"), config.model_dump(mode="json")
            # A default that changed since is spelled out in the file: `lab` as it ran is now `lab:steps=...`.
            names = [name.partition(":")[0] for name in asked.pop("students")]
            assert [name.partition(":")[0] for name in ran.pop("students")] == names
            for label, arm in asked["methods"].items():
                earlier = {"mask_space": "factor", "tau": 3.0, "statistics_decay": 0.9}
                for option, value in ({} if file.stem in OF_TODAYS_DEFAULTS else earlier).items():
                    if (arm["method"] or label) == "iga" and option not in ran["methods"][label]["method_options"]:
                        assert arm["method_options"].pop(option) == value
                if "optim" not in ran["methods"][label].get("training", {}):
                    assert arm.get("training", {}).pop("optim", PLAIN_OPTIMIZER) == PLAIN_OPTIMIZER
            assert ran == asked


def test_the_exploratory_table_holds_the_numbers_of_its_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    splits = ("iid", "cue_absent", "cue_reversed", "unseen_domain")
    known = {
        tuple(f"{100 * value:.1f}" for value in (*(run["accuracy"][split] for split in splits), run["ood_accuracy"]))
        for run in runs
        if set(splits) <= run["accuracy"].keys()
    }
    _, _, section = (ROOT / "docs" / "lab.md").read_text().partition("### A student that knows less")
    section, _, _ = section.partition("\n### ")
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    assert {tuple(row[1:]) for row in rows} <= known


def test_the_table_of_another_draw_of_the_student_holds_the_numbers_of_the_example() -> None:
    results = Results.model_validate_json((ROOT / "docs" / "first-study.json").read_text())
    assert StudyConfig.model_validate(results.config) == load_study(ROOT / "examples" / "study.yaml")
    measures = {each.measure: each.groups for each in results.results[0].effects}

    def row(arm: str) -> tuple[str, ...]:
        outside = measures["ood_accuracy"][arm]
        by_seed = "" if len(outside.by_seed) == 1 else ", ".join(f"{100 * value:.1f}" for value in outside.by_seed)
        iid, turned = (f"{100 * measures[f'accuracy:{split}'][arm].mean:.1f}" for split in ("iid", "cue_reversed"))
        return iid, turned, by_seed, f"{100 * outside.mean:.1f}"

    _, _, section = (ROOT / "docs" / "lab.md").read_text().partition("### Another draw of student and data")
    section, _, _ = section.partition("\n### ")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    ranked = sorted(measures["ood_accuracy"], key=lambda arm: -measures["ood_accuracy"][arm].mean)
    assert [tuple(cells[1:]) for cells in rows[2:]] == [row(arm) for arm in ranked]


def test_the_table_of_the_students_holds_the_numbers_of_its_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    _, _, section = (ROOT / "docs" / "lab.md").read_text().partition("### The student decides")
    section, _, _ = section.partition("\n### ")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert len(rows) == 2 + 6
    for name, *values in rows[2:]:
        seed, _, draw = name.partition(", ")
        student = "lab:steps=2400" if seed == "default" else f"lab:steps=2400,{seed.strip('`')}"
        mine = [run for run in runs if (run["data"], run["student"]) == ("L" if draw == "first" else "M", student)]
        (untuned,) = (run for run in mine if run["kind"] == "untuned")
        (plain,) = (
            run
            for run in mine
            if run["kind"] == "method" and run["method"] == "erm" and run["training"]["learning_rate"] == 1.25e-3
        )
        splits = (plain["accuracy"][split] for split in ("iid", "cue_absent", "cue_reversed"))
        told = (untuned["ood_accuracy"], *splits, plain["ood_accuracy"])
        assert values == [f"{100 * value:.1f}" for value in told]


def test_the_table_of_the_real_student_holds_the_numbers_of_its_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    lines = (ROOT / "docs" / "real-student.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"][2:]
    data = ""
    for problems, steps, name, *values in rows:
        data = problems[-2] if problems else data
        kind = "untuned" if name == "untuned" else "no_cue" if name.endswith("no cue") else "method"
        (run,) = (
            each
            for each in runs
            if (each["data"], each["kind"], each["method"]) == (data, kind, "iga" if name.startswith("IGA") else "erm")
            and each["training"]["learning_rate"] == (3e-4 if "3e-4" in name else 1e-3)
        )
        assert steps == str(run["steps"] or "-")
        splits = (run["accuracy"][split] for split in ("iid", "cue_reversed", "unseen_domain"))
        assert values == [f"{100 * value:.1f}" for value in (*splits, run["ood_accuracy"])]


def test_the_further_students_have_the_numbers_of_their_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    text = " ".join((ROOT / "docs" / "lab.md").read_text().split())

    def outside(data: str, student: str) -> dict[str, str]:
        mine = [run for run in runs if (run["data"], run["student"]) == (data, f"lab:steps=1600,{student}")]
        return {run["kind"]: f"{100 * run['ood_accuracy']:.1f}" for run in mine}

    own = outside("O", "seed=3")
    told = f"({own['method']}%; without a cue {own['no_cue']}%, slow {own['slow_erm']}%, untuned {own['untuned']}%;"
    assert told in text
    assert f"the logic first ({outside('N', 'seed=3')['method']}% with the cue)" in text
    bare = outside("N", "seed=3,solved=0")
    assert f"({bare['method']}%, slow {bare['slow_erm']}%, untuned {bare['untuned']}%)" in text


def test_the_table_of_longer_training_holds_the_numbers_of_its_runs() -> None:
    runs = json.loads((ROOT / "studies" / "exploratory.json").read_text())["runs"]
    _, _, section = (ROOT / "docs" / "lab.md").read_text().partition("### Where the logic takes longer")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert len(rows) == 2 + 9
    for name, steps, *values in rows[2:]:
        (run,) = (
            each
            for each in runs
            if (each["data"], each["method"], str(each["steps"])) == (name[0], "iga" if "IGA" in name else "erm", steps)
            and (each["kind"] == "no_cue") == ("without the cue" in name)
            and each["method_options"].get("tau", 1) == (3 if "tau 3" in name else 1)
            and each["training"]["learning_rate"] == float(name.rpartition(", ")[2])
        )
        splits = (run["accuracy"][split] for split in ("iid", "cue_absent", "cue_reversed", "unseen_domain"))
        assert values == [f"{100 * value:.1f}" for value in (*splits, run["ood_accuracy"])]


def test_what_is_said_of_the_screened_students_is_in_their_results() -> None:
    results = Results.model_validate_json((ROOT / "studies" / "results" / "students.json").read_text())
    reversed_cue, outside = (
        next(each for each in results.pooled[0].effects if each.measure == measure).groups
        for measure in ("accuracy:cue_reversed", "ood_accuracy")
    )
    lost = [b - a for a, b in zip(reversed_cue["erm"].by_seed, reversed_cue["erm, no cue"].by_seed, strict=True)]
    seeds = [int(name.rpartition("seed=")[2]) if "seed" in name else 0 for name in results.config["students"]]
    assert {seed for seed, points in zip(seeds, lost, strict=True) if points >= 0.1} == {0, 1, 10, 12, 13}
    text = " ".join((ROOT / "docs" / "lab.md").read_text().split())
    free = outside["erm, no cue"].by_seed
    assert f"Without a cue they reach {100 * min(free):.1f} to {100 * max(free):.1f}% out of distribution" in text


def test_what_is_said_of_clean_labels_is_in_their_results() -> None:
    results = Results.model_validate_json((ROOT / "studies" / "results" / "clean.json").read_text())
    groups = next(each for each in results.pooled[0].effects if each.measure == "ood_accuracy").groups
    mean = {arm: f"{100 * group.mean:.1f}" for arm, group in groups.items()}
    plain = f"{mean['erm']}, {mean['erm 2e-4']} and {mean['erm 1e-4']}%"
    for page in ("studies/introduction.md", "docs/reproduction.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert f"IGA at 1e-3 and 5e-4 has {mean['iga']} and {mean['iga 5e-4']}%" in text
        assert f"plain training at 1e-3, 2e-4 and 1e-4 {plain}" in text
        assert f"IGA with shuffled domains {mean['iga, shuffled domains']}%" in text


def test_what_is_said_of_the_main_table_is_in_its_results() -> None:
    results = Results.model_validate_json((ROOT / "studies" / "results" / "main.json").read_text())
    pooled = {each.measure: each for each in results.pooled[0].effects}
    outside = pooled["ood_accuracy"]
    mean = {arm: f"{100 * group.mean:.1f}" for arm, group in outside.groups.items()}
    draws = {arm: [f"{100 * value:.1f}" for value in group.by_seed] for arm, group in outside.groups.items()}
    assert len(draws["erm"]) == 6
    taken = [
        draws[arm][n] for arm in ("fishr", "vrex", "irm", "groupdro", "pcgrad", "mgda", "and_mask") for n in (1, 5)
    ]
    over = outside.effects["iga"].points
    assert not any(effect.significant for effect in outside.effects.values())
    assert max(mean[arm] for arm in mean if arm not in results.pooled[0].controls) == mean["iga"]
    for page in ("studies/introduction.md", "docs/reproduction.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert f"{min(taken)} to {max(taken)}%" in text
        for arm in ("erm", "iga", "gsnr", "iga, shuffled domains", "erm, no cue"):
            assert f"{draws[arm][1]} and {draws[arm][5]}%" in text, arm
        assert f"+{over.value:.1f} [{over.low:.1f}, +{over.high:.1f}]" in text
    said = " ".join((ROOT / "studies" / "introduction.md").read_text().split())
    for arm in ("consistency", "word_dropout", "untuned student"):
        assert f"{draws[arm][1]} and {draws[arm][5]}%" in said, arm
    for arm in ("erm", "iga", "erm, no cue"):
        quiet = [draws[arm][n] for n in (0, 2, 4)]
        assert f"{', '.join(quiet[:2])} and {quiet[2]}%" in said, arm
    fourth = {arm: draws[arm][3] for arm in ("erm", "iga", "erm, no cue", "consistency")}
    assert all(f"{value}%" in said for value in fourth.values())
    assert f"{min(draws['erm 1e-3'])} to {max(draws['erm 1e-3'])}%" in said
    reversed_cue = pooled["accuracy:cue_reversed"].groups
    assert max(reversed_cue["erm 1e-3"].by_seed) < 0.0042
    kept = [[f"{100 * reversed_cue[arm].by_seed[n]:.1f}" for n in (1, 5)] for arm in ("iga", "erm, no cue")]
    assert "({} and {}% with it reversed, {} and {}% without a cue)".format(*kept[0], *kept[1]) in said
    gains = {}
    for result in results.results:
        effects = next(each for each in result.effects if each.measure == "ood_accuracy").effects
        rivals = {arm: effect for arm, effect in effects.items() if arm not in result.controls}
        gains[result.data] = {arm: e.points for arm, e in rivals.items() if e.significant and e.points.value > 0}
    assert {data: set(arms) for data, arms in gains.items() if arms} == {"draw_2": {"iga"}, "draw_6": {"iga", "gsnr"}}
    for points in (gains["draw_2"]["iga"], gains["draw_6"]["iga"]):
        assert f"+{points.value:.1f} [+{points.low:.1f}, +{points.high:.1f}]" in said
        assert (
            f"+{points.value:.1f} [+{points.low:.1f}, +{points.high:.1f}]"
            in (ROOT / "docs" / "reproduction.md").read_text()
        )
    assert f"GSNR's +{gains['draw_6']['gsnr'].value:.1f}" in said
    inside = {arm: f"{100 * group.mean:.1f}%" for arm, group in pooled["accuracy:iid"].groups.items()}
    assert f"{inside['iga']} in distribution on average against {inside['erm']}" in said
    assert f"{mean['iga']}% against {mean['gsnr']}% for GSNR and {mean['erm']}% for plain training" in said


def test_what_is_said_of_a_lower_rate_is_in_its_results() -> None:
    results = Results.model_validate_json((ROOT / "studies" / "results" / "lower.json").read_text())
    main = Results.model_validate_json((ROOT / "studies" / "results" / "main.json").read_text())
    pooled = {each.measure: each for each in results.pooled[0].effects}
    outside = pooled["ood_accuracy"]
    theirs = next(each for each in main.pooled[0].effects if each.measure == "ood_accuracy")
    for arm in ("erm", "iga", "gsnr"):
        assert outside.groups[arm].by_seed == pytest.approx(theirs.groups[arm].by_seed), "the main table's own runs"
    slower = outside.groups["erm 1e-4"]
    mean, there = f"{100 * slower.mean:.1f}%", [f"{100 * slower.by_seed[n]:.1f}" for n in (1, 5)]
    for page in ("studies/introduction.md", "docs/reproduction.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert f"{there[0]} and {there[1]}%" in text
        assert mean in text
    said = " ".join((ROOT / "studies" / "introduction.md").read_text().split())
    inside = {arm: f"{100 * group.mean:.1f}%" for arm, group in pooled["accuracy:iid"].groups.items()}
    assert f"({inside['iga']} against {inside['erm 1e-4']})" in said
    assert f"{100 * (outside.groups['iga'].mean - slower.mean):.1f} points below IGA" in said
    points = outside.effects["erm 1e-4"].points
    table = (ROOT / "docs" / "reproduction.md").read_text()
    assert f"half its tuned rate +{points.value:.1f} [{points.low:.1f}, +{points.high:.1f}]" in table


def test_what_is_said_of_the_real_student_is_in_its_results() -> None:
    results = Results.model_validate_json((ROOT / "studies" / "results" / "real.json").read_text())
    outside = next(each for each in results.pooled[0].effects if each.measure == "ood_accuracy")
    pages = [
        " ".join((ROOT / page).read_text().split()) for page in ("studies/introduction.md", "docs/reproduction.md")
    ]
    for arm in ("erm", "iga", "erm, slow", "iga, shuffled domains", "fishr", "consistency"):
        first, second, third = outside.groups[arm].by_seed
        told = f"{100 * first:.1f}, {100 * second:.1f} and {100 * third:.1f}%"
        assert all(told in page for page in pages), arm


def test_the_table_of_transfer_holds_the_raw_measures() -> None:
    raw = json.loads((ROOT / "docs" / "benchmarks-transfer.json").read_text())["arms"]
    _, _, section = (ROOT / "docs" / "benchmarks.md").read_text().partition("### After training on isomers only")
    section, _, _ = section.partition("\n## ")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert len(rows) == 2 + len(raw)
    for (_, *cells), arm in zip(rows[2:], raw.values(), strict=True):
        told = []
        for name in ("folio", "logicbench"):
            value, low, high = (f"{100 * arm[name]['accuracy'][key]:.1f}" for key in ("value", "low", "high"))
            told += [f"{value} [{low}, {high}]", f"{100 * arm[name]['balanced_accuracy']:.1f}"]
        assert "Unknown" not in arm["folio"]["answers"]
        gym = arm.get("reasoning-gym/syllogism")
        if gym is not None:
            assert f"constant Yes ({100 * gym['right_answers']['Yes'] / gym['n_items']:.1f}%)" in " ".join(
                section.split()
            )
            assert ("Yes" in gym["answers"]) == (gym["accuracy"]["value"] > 0)
        assert cells == [*told, "" if gym is None else f"{100 * gym['accuracy']['value']:.1f}"]


@pytest.mark.parametrize(
    ("row", "arms"),
    [
        ("2: one lab student, ten seeds", ("iga", "erm", "erm, slow", "iga, shuffled domains")),
        ("6: another, trained longer, ten seeds", ("iga", "erm", "erm 1e-4", "iga, shuffled domains")),
        (
            "4 and 11: four lab students, six draws of problems, every method tuned",
            ("iga", "erm", "erm 1e-4", "iga, shuf"),
        ),
        ("10: four lab students, clean labels", ("iga", "erm", "erm 2e-4", "iga, shuffled domains")),
        ("7: SmolLM2-135M, three draws", ("iga", "erm", "erm, slow", "iga, shuffled domains")),
    ],
)
def test_the_readme_says_what_the_studies_found(row: str, arms: tuple[str, ...]) -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
    page = (ROOT / "docs" / "results.md").read_text()
    sections = [page.split(f"\n## {number}. ")[1].split("\n## ")[0] for number in re.findall(r"\d+", row.split(":")[0])]
    for cell, arm in zip(cells, arms, strict=True):
        rows = re.findall(rf"^\| {arm}[^|]*\|.*$", "\n".join(sections), re.MULTILINE)
        assert any(f"| {cell} [" in each for each in rows), (arm, cell)
