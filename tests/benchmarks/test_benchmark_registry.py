from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_helpers import command, folio_file, gsm8k_file, isomers_folder, isosci_file, logicbench_folder
from public_data import public_data

from isodistill.benchmarks import BENCHMARKS, make_benchmark, parse_benchmark
from isodistill.errors import IsodistillError
from isodistill.evaluation import is_ood_split
from isodistill.evaluation.items import limited

SOURCES: dict[str, Callable[[Path], str]] = {
    "logicbench": logicbench_folder,
    "folio": folio_file,
    "gsm8k": gsm8k_file,
    "isosci": isosci_file,
    "isomers": isomers_folder,
    "reasoning-gym": lambda folder: "knights_knaves,gsm_symbolic",
}


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_benchmark_gives_problems_that_can_be_judged(name: str, tmp_path: Path) -> None:
    kind = BENCHMARKS[name]
    assert kind.name == name
    if kind.build is None:  # run by a harness of its own
        with pytest.raises(IsodistillError, match="another harness runs it"):
            make_benchmark(name, "a_task")
        return
    if name == "reasoning-gym":
        pytest.importorskip("reasoning_gym", reason="needs pip install 'isodistill[reasoning-gym]'")
    benchmark = make_benchmark(name, SOURCES[name](tmp_path))
    assert benchmark.items
    assert "Answer: X" in benchmark.instruction or name == "isomers"
    assert ("likelihood" in kind.ways) == all(item.choices for item in benchmark.items)
    # The key by which two runs' problems are paired.
    keys = Counter((item.split, item.set_id, item.domain) for item in benchmark.items)
    assert max(keys.values()) == 1
    for split, items in benchmark.splits.items():
        assert split == name or split.startswith(f"{name}/")
        assert not is_ood_split(split)  # no benchmark slips into the mean over a run's own test splits
        few = limited(items, 2)
        assert len({item.set_id for item in few}) == min(2, len({item.set_id for item in items}))
        for item in few:
            assert benchmark.scorer(item, item.answer) == 1
            assert benchmark.scorer(item, None) == 0
            assert benchmark.scorer(item, "no such thing") < 1


def test_the_scenarios_of_one_rule_are_one_set(tmp_path: Path) -> None:
    benchmark = make_benchmark("logicbench", logicbench_folder(tmp_path, rules=2, scenarios=5))
    sets = Counter(item.set_id for item in benchmark.items)
    assert sorted(sets.values()) == [5, 5, 5, 5]  # two rules, two questions each
    for name in sets:
        members = [item for item in benchmark.items if item.set_id == name]
        assert len({(item.family, item.answer) for item in members}) == 1
    assert benchmark.instruction == "End with a line 'Answer: X', where X is Yes or No."


def test_conclusions_of_one_story_stay_together(tmp_path: Path) -> None:
    benchmark = make_benchmark("folio", folio_file(tmp_path))
    assert [item.set_id for item in benchmark.items] == ["folio-story-0"] * 2 + ["folio-story-1"] * 2
    assert [item.answer for item in benchmark.items] == ["True", "Unknown", "False", "False"]
    assert benchmark.items[0].prompt == "Story 0 has a cat.\nConclusion: Cat 0?\nTrue, False or Unknown?"
    assert benchmark.instruction == "End with a line 'Answer: X', where X is True, False or Unknown."


def test_a_category_of_reasoning_gym_is_all_of_its_tasks() -> None:
    pytest.importorskip("reasoning_gym", reason="needs pip install 'isodistill[reasoning-gym]'")
    from isodistill.importers.reasoning_gym import tasks_of

    assert {"knights_knaves", "propositional_logic", "syllogism"} <= set(tasks_of("logic"))
    assert "gsm_symbolic" in tasks_of("arithmetic")
    assert tasks_of("no_such_category") == ()


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="There is no benchmark 'logic'; choose one of isomers, logicbench"):
        parse_benchmark("logic")
    with pytest.raises(IsodistillError, match="'logicbench' needs more: write logicbench:X"):
        parse_benchmark("logicbench")
    assert parse_benchmark("gsm8k")[1] == "openai/gsm8k"
    assert parse_benchmark("isomers:C:/data")[1] == "C:/data"
    with pytest.raises(IsodistillError, match="has no split 'validation'"):
        make_benchmark("folio", gsm8k_file(tmp_path))
    with pytest.raises(IsodistillError, match="has no split 'test'"):
        make_benchmark("gsm8k", folio_file(tmp_path / "folio"))


def test_the_list_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "benchmarks", "--json", tmp_path / "list.json") == 0
    assert "logicbench" in capsys.readouterr().out
    listed = {entry["name"]: entry for entry in json.loads((tmp_path / "list.json").read_text())}
    assert list(listed) == list(BENCHMARKS)
    assert listed["gsm8k"]["by"] == ["generation"]


@pytest.mark.data
def test_published_data_is_read_whole() -> None:
    logicbench = make_benchmark("logicbench", str(public_data("logicbench") / "BQA"))
    assert len(logicbench.items) == 1520
    assert len({item.set_id for item in logicbench.items}) == 76  # 25 rules, their questions, 20 scenarios each
    folio = make_benchmark("folio", str(public_data("folio")))
    assert len(folio.items) == 204
    assert Counter(item.answer for item in folio.items) == {"True": 72, "Unknown": 69, "False": 63}
    assert len(make_benchmark("gsm8k", str(public_data("gsm8k"))).items) == 1319
