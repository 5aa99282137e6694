from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from import_helpers import import_command, write_jsonl
from public_data import public_data

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.evaluation.items import read_items
from isodistill.importers import import_gsm8k, import_isosci, import_logicbench
from isodistill.isomers import read_split


def test_gsm8k() -> None:
    rows = [
        {"question": "How many?", "answer": "She sold 48/2 = <<48/2=24>>24 clips.\n#### 1,024"},
        {"question": "How many?", "answer": "Minus.\n#### -3.5"},
        {"question": "How many?", "answer": "No marker, 5"},
        {"question": "How many?", "answer": "Words.\n#### five"},
        {"question": "", "answer": "#### 5"},
    ]
    imported = import_gsm8k(rows, "train", "here")
    assert [problem.answer for problem in imported.problems] == ["1024", "-3.5"]
    assert imported.problems[0].completion == "She sold 48/2 = 24 clips.\nAnswer: 1024"
    assert imported.dropped == {"the solution does not end in '#### NUMBER'": 2, "the prompt is empty": 1}
    with pytest.raises(IsodistillError, match="no column 'answer'"):
        import_gsm8k([{"question": "How many?"}], "train", "here")


@pytest.mark.data
def test_gsm8k_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = public_data("gsm8k") / "test.jsonl"
    assert import_command(monkeypatch, "gsm8k", source, "--out", tmp_path / "out") == 0
    sets = read_split(tmp_path / "out", "test")
    assert len(sets) == 1319
    for isomer_set in sets:
        completion = isomer_set.members[0].completion
        assert split_completion(completion)[1] == isomer_set.answer
        assert "<<" not in completion
        assert "####" not in completion
    # What is imported can be evaluated as it is.
    assert len(read_items(tmp_path / "out", "test", limit_sets=10)) == 10


def write_rule(folder: Path, axiom: str, samples: list[Any], kind: str = "propositional_logic") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data_instances.json").write_text(json.dumps({"type": kind, "axiom": axiom, "samples": samples}))


def sample(number: int, first: str = "yes") -> dict[str, Any]:
    second = "no" if first == "yes" else "yes"
    pairs = [{"question": f"Is {number} so?", "answer": first}, {"question": f"Is {number} not so?", "answer": second}]
    return {"id": number, "context": f"Scenario {number}.", "qa_pairs": pairs}


def test_logicbench_groups_scenarios_of_one_rule(tmp_path: Path) -> None:
    # Scenario 3 asks the other way round: it may not join the others.
    write_rule(tmp_path / "a", "modus_tollens", [sample(n, "no" if n == 3 else "yes") for n in range(6)])
    imported = import_logicbench(tmp_path, members=2)["test"]
    sets: dict[str, list[Any]] = {}
    for problem in imported.problems:
        sets.setdefault(problem.set_id, []).append(problem)
    assert len(sets) == 4
    for members in sets.values():
        assert [member.domain for member in members] == ["instance_0", "instance_1"]
        assert len({member.answer for member in members}) == 1
        assert len({member.prompt.split("\n")[1].replace("not ", "") for member in members}) == 2
    together = [[member.prompt.split("\n")[0] for member in members] for members in sets.values()]
    assert together[0] == ["Scenario 0.", "Scenario 1."]
    assert not any("Scenario 3." in contexts for contexts in together)
    # Of five alike scenarios one is left over, and number 3 is alone: once for each of two questions.
    assert imported.dropped == {"too few scenarios were left over for a set": 4}
    assert imported.problems[0].prompt == "Scenario 0.\nIs 0 so?\nYes or No?"


def test_logicbench_mistakes(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match=r"holds no data_instances\.json"):
        import_logicbench(tmp_path)
    write_rule(tmp_path / "a", "modus_tollens", [sample(n) for n in range(4)])
    with pytest.raises(IsodistillError, match="too few for sets of 5"):
        import_logicbench(tmp_path, members=5)
    write_rule(tmp_path / "b", "modus_tollens", [sample(n) for n in range(4)])
    with pytest.raises(IsodistillError, match="hold the same rule"):
        import_logicbench(tmp_path)
    write_rule(tmp_path / "b", "commutation", [{"context": "A.", "qa_pairs": [{"question": "?", "answer": "maybe"}]}])
    with pytest.raises(IsodistillError, match="sample 0, a question or its yes or no is missing"):
        import_logicbench(tmp_path, members=1)
    write_rule(tmp_path / "b", "commutation", ["text"])
    with pytest.raises(IsodistillError, match="sample 0 has no text 'context'"):
        import_logicbench(tmp_path, members=1)
    (tmp_path / "b" / "data_instances.json").write_text("[]")
    with pytest.raises(IsodistillError, match="lacks 'type'"):
        import_logicbench(tmp_path, members=1)


@pytest.mark.data
def test_logicbench_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = public_data("logicbench") / "BQA"
    assert import_command(monkeypatch, "logicbench", source, "--out", tmp_path / "out") == 0
    sets = read_split(tmp_path / "out", "test")
    assert len(sets) == 380
    # 25 rules of 20 scenarios, 5 sets for each question; 12 rules ask one yes and one no, 12 one yes and three no, and
    # one (priority) two of each.
    assert Counter(isomer_set.answer for isomer_set in sets) == {"Yes": 5 * 26, "No": 5 * 50}
    prompts = {member.prompt for isomer_set in sets for member in isomer_set.members}
    assert len(prompts) == 4 * len(sets)
    assert len({isomer_set.family for isomer_set in sets}) == 25
    assert len(read_items(tmp_path / "out", "test")) == 1520


PAIR = {
    "pair_id": "p1",
    "mapping": "physics_to_chemistry",
    "source_domain": "physics",
    "target_domain": "chemistry",
    "structure_type": "proportional_reasoning",
    "source_question": "How far?",
    "source_answer": "3 m",
    "target_question": "How much?",
    "target_answer": "5 mol",
}


def test_isosci_keeps_the_pairs_and_their_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**PAIR, "pair_id": "p2", "mapping": "physics_to_biology", "target_domain": "biology"}
    write_jsonl(tmp_path / "in" / "data" / "train.jsonl", [PAIR, other])
    write_jsonl(tmp_path / "in" / "data" / "test.jsonl", [{**PAIR, "pair_id": "p3"}])
    write_jsonl(tmp_path / "in" / "data" / "verified_pairs.jsonl", [PAIR, other])
    assert import_command(monkeypatch, "isosci", tmp_path / "in", "--out", tmp_path / "out") == 0
    loaded = load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 2}
    rows = list(loaded["train"])
    assert [(row["set_id"], row["domain"], row["answer"]) for row in rows[:2]] == [
        ("p1", "physics", "3 m"),
        ("p1", "chemistry", "5 mol"),
    ]
    assert rows[0]["family"] == "isosci/proportional_reasoning"
    arguments = ("--mapping", "physics_to_chemistry", "--out", tmp_path / "one")
    assert import_command(monkeypatch, "isosci", tmp_path / "in", *arguments) == 0
    assert len(load_dataset(str(tmp_path / "one"))["train"]) == 2


def test_isosci_reads_the_nested_format_too() -> None:
    nested = {
        **{name: PAIR[name] for name in ("pair_id", "mapping", "source_domain", "target_domain")},
        "source": {"question": "How far?", "answer": "3 m", "structure_type": "proportional_reasoning"},
        "target": {"question": "How much?", "answer": "5 mol"},
    }
    flat = import_isosci({"verified_pairs": [PAIR]}, "here")
    assert import_isosci({"verified_pairs": [nested]}, "here") == flat
    assert len(flat["verified_pairs"].problems) == 2


def test_isosci_drops_whole_pairs_and_counts_problems() -> None:
    rows = [
        PAIR,
        PAIR,
        {**PAIR, "pair_id": "p2", "target_domain": "physics"},
        {**PAIR, "pair_id": "p3", "target_answer": None},
        {**PAIR, "pair_id": "p4", "source_answer": "one\ntwo"},
    ]
    imported = import_isosci({"train": rows}, "here")["train"]
    assert len(imported.problems) == 2
    assert sum(imported.dropped.values()) == 8
    assert all(count == 2 for count in imported.dropped.values())


@pytest.mark.parametrize("missing", ["pair_id", "mapping", "source_domain", "target_question", "source_answer"])
def test_isosci_refuses_missing_columns(missing: str) -> None:
    row = {name: value for name, value in PAIR.items() if name != missing}
    with pytest.raises(IsodistillError, match=f"row 0 has no column '{missing}'"):
        import_isosci({"train": [row]}, "here")
