from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset
from import_helpers import import_command

from isodistill.errors import IsodistillError
from isodistill.evaluation import EvaluationConfig, read_items
from isodistill.evaluation.evaluate import check_items
from isodistill.importers import import_reasoning_gym
from isodistill.importers.reasoning_gym import score, task_names
from isodistill.isomers import read_split

reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs pip install 'isodistill[reasoning-gym]'")

TRAP = "__import__('pathlib').Path('TRAP').touch()"


def test_one_task_is_sets_of_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--train", "6", "--test", "4", "--seed", "3", "--option", "max_terms=3")
    assert import_command(monkeypatch, "reasoning-gym", "chain_sum", "--out", tmp_path / "out", *arguments) == 0
    train, test = read_split(tmp_path / "out", "train"), read_split(tmp_path / "out", "test")
    assert (len(train), len(test)) == (6, 4)
    prompts = [isomer_set.members[0].prompt for isomer_set in (*train, *test)]
    assert len(set(prompts)) == 10
    for isomer_set in (*train, *test):
        expression = isomer_set.members[0].prompt.split(": ")[1].rstrip("= ")
        # A reference of its own: the sum, added up here.
        terms = expression.replace("- ", "+ -").split(" + ")
        assert sum(int(term) for term in terms) == int(isomer_set.answer)


def test_equal_seeds_give_equal_problems() -> None:
    first = import_reasoning_gym(["chain_sum"], {"train": 5}, seed=1)
    assert import_reasoning_gym(["chain_sum"], {"train": 5}, seed=1) == first
    assert import_reasoning_gym(["chain_sum"], {"train": 5}, seed=2) != first


def test_several_tasks_are_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--train", "3", "--test", "0", "--out", tmp_path / "out")
    assert import_command(monkeypatch, "reasoning-gym", "chain_sum,knights_knaves,sudoku", *arguments) == 0
    rows = load_dataset(str(tmp_path / "out"), split="train")
    assert rows["domain"] == ["chain_sum"] * 3 + ["knights_knaves"] * 3
    assert "set_id" not in rows.column_names
    card = (tmp_path / "out" / "README.md").read_text()
    assert "3 problems, because the answer has more than one line" in card
    assert "no problem of the task 'sudoku' is left" in card


def test_the_tasks_own_scorer_judges() -> None:
    problem = import_reasoning_gym(["knights_knaves"], {"train": 1})["train"].problems[0]
    right = problem.answer
    assert score(problem.formal, problem.prompt, right) == 1.0
    # The scorer reads more than one wording; comparing strings would not.
    assert score(problem.formal, problem.prompt, right.lower().removesuffix(".")) == 1.0
    assert score(problem.formal, problem.prompt, "I do not know") < 0.5
    with pytest.raises(IsodistillError, match="is another problem under reasoning-gym"):
        score(problem.formal, "Another question?", right)


@pytest.mark.parametrize("formal", ["", "{}", "[]", '{"source": "reasoning-gym", "task": "os", "config": {}}'])
def test_damaged_records_are_refused(formal: str) -> None:
    with pytest.raises(IsodistillError, match="is none of a reasoning-gym problem"):
        score(formal, "", "")
    problem = import_reasoning_gym(["chain_sum"], {"train": 1})["train"].problems[0]
    record = json.loads(problem.formal)
    for change in ({"index": 7}, {"index": -1}, {"task": "no_such_task"}, {"task": ["chain_sum"]}):
        with pytest.raises(IsodistillError, match="is none of a reasoning-gym problem"):
            score(json.dumps({**record, **change}), problem.prompt, "")


def test_mistakes_are_told() -> None:
    with pytest.raises(IsodistillError, match="has no task 'chain_sums'; it has ab, acre"):
        import_reasoning_gym(["chain_sums"], {"train": 1})
    with pytest.raises(IsodistillError, match="at least one task"):
        import_reasoning_gym(["chain_sum", "chain_sum"], {"train": 1})
    with pytest.raises(IsodistillError, match="'chain_sum' of reasoning-gym refuses its options"):
        import_reasoning_gym(["chain_sum"], {"train": 1}, options={"min_terms": 9, "max_terms": 2})
    with pytest.raises(IsodistillError, match="'chain_sum' of reasoning-gym refuses its options"):
        import_reasoning_gym(["chain_sum"], {"train": 1}, options={"colour": "red"})


# The one that is no task of its own but mixes others, which it must be told.
@pytest.mark.parametrize("task", sorted({*task_names()} - {"composite"}))
def test_every_task_repeats_its_problems_and_accepts_its_answers(task: str, tmp_path: Path) -> None:
    random.seed(0)
    imported = import_reasoning_gym([task], {"train": 2})["train"]
    assert random.random() == random.Random(0).random()  # the global generator is left as it was
    assert import_reasoning_gym([task], {"train": 2})["train"] == imported
    assert len(imported.problems) + sum(imported.dropped.values()) == 2
    for problem in imported.problems:
        assert score(problem.formal, problem.prompt, problem.answer) == 1.0
    # No scorer runs what a model wrote, though some would call eval on it.
    trap = tmp_path / "trap"
    for text in (TRAP, f"[{TRAP}]", f"<answer>{TRAP}</answer>", f"{{'a': {TRAP}}}", f"1 + {TRAP}", f"lambda: {TRAP}"):
        for problem in imported.problems:
            assert 0 <= score(problem.formal, problem.prompt, text.replace("TRAP", str(trap))) <= 1
    assert not trap.exists()
    for text in ("", "banana", "0", "[1, 2", "{}", "1/0", "(" * 300, "\x00"):
        for problem in imported.problems:
            assert 0 <= score(problem.formal, problem.prompt, text) <= 1


def test_the_trap_works(tmp_path: Path) -> None:
    # Else the test above could not fail: this scorer does call eval.
    dataset = reasoning_gym.create_dataset("string_insertion", seed=0, size=1)
    dataset.score_answer(answer=TRAP.replace("TRAP", str(tmp_path / "trap")), entry=dataset[0])
    assert (tmp_path / "trap").exists()


def test_scorers_that_evaluate_still_judge_arithmetic() -> None:
    problem = import_reasoning_gym(["countdown"], {"train": 1})["train"].problems[0]
    assert score(problem.formal, problem.prompt, f"({problem.answer}) + 0 * 1") < 1
    assert score(problem.formal, problem.prompt, f"({problem.answer})") == 1.0


def test_an_evaluation_finds_out_early_that_problems_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--train", "0", "--test", "3", "--out", tmp_path / "out")
    assert import_command(monkeypatch, "reasoning-gym", "chain_sum", *arguments) == 0
    items = read_items(tmp_path / "out", "test")
    check_items(items, EvaluationConfig())
    with pytest.raises(IsodistillError, match="is another problem under reasoning-gym"):
        check_items([replace(item, prompt="Another?") for item in items], EvaluationConfig())
