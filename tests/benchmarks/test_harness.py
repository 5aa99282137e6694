"""What the harness says of a student with its adapter is what it says of the merged model, run on its own."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from benchmark_helpers import command, folio_file, saved_student, write_jsonl
from peft import PeftModel, get_peft_model
from public_data import public_data
from tiny_student import WORDS, lora, make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from isodistill.benchmarks.harness import HarnessTask
from isodistill.errors import IsodistillError
from isodistill.evaluation import Evaluation, EvaluationConfig
from isodistill.importers import import_logicbench
from isodistill.students import load_student

pytest.importorskip("lm_eval", reason="needs pip install 'isodistill[lm-eval]'")


def choice_task(folder: Path, name: str, rows: list[dict[str, Any]], choices: list[str]) -> None:
    """A task file and its data, as a user of the harness writes them."""
    write_jsonl(folder / f"{name}.jsonl", rows)
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_choice": choices,
        "doc_to_target": "label",
        "metric_list": [{"metric": metric} for metric in ("acc", "acc_norm", "brier_score")],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def words_task(folder: Path, count: int = 24) -> None:
    draw = random.Random(0)
    rows = [{"question": " ".join(draw.choices(WORDS, k=6)), "label": draw.randrange(2)} for _ in range(count)]
    choice_task(folder, "words", rows, ["True", "False"])


def adapter(folder: Path, model: Any, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    get_peft_model(model, lora(init_lora_weights=False)).save_pretrained(folder)
    return folder


def directly(folder: Path, task: str, include: Path, **options: Any) -> dict[str, float]:
    """The harness on a saved model, with nothing of ours in between."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        device="cpu",
        tasks=[task],
        task_manager=TaskManager(include_path=str(include), include_defaults=False),
        bootstrap_iters=100,
        **options,
    )
    assert found is not None
    return {metric: value for metric, value in found["results"][task].items() if isinstance(value, int | float)}


def test_the_adapter_scores_as_the_merged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, tasks = saved_student(tmp_path / "student"), tmp_path / "tasks"
    words_task(tasks)
    trained = adapter(tmp_path / "adapter", make_model())
    arguments = ("--student", student, "--adapter", trained, "--bootstrap-samples", "100", "--batch-size", "8")
    harness = ("--benchmark", "lm-eval:words", "--lm-eval-include", tasks)
    assert command(monkeypatch, "evaluate", *arguments, *harness) == 0
    record = Evaluation.load(trained / "evaluation.json").benchmarks["lm-eval/words"]

    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(student), str(trained)).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    make_tokenizer().save_pretrained(tmp_path / "merged")
    wanted = directly(tmp_path / "merged", "words", tasks, batch_size=8)
    assert {"acc,none", "acc_norm,none", "brier_score,none"} <= set(wanted)
    assert record.metrics == pytest.approx(wanted, abs=1e-5)
    assert record.metrics["acc,none"] == wanted["acc,none"]
    # The adapter matters here: without it the same task gives another number.
    assert directly(student, "words", tasks)["brier_score,none"] != pytest.approx(wanted["brier_score,none"], abs=1e-3)
    assert record.versions["lm_eval"][0].isdigit()


def test_the_harness_leaves_the_model_and_the_generators_as_they_were(tmp_path: Path) -> None:
    words_task(tmp_path, count=4)
    model = get_peft_model(make_model(), lora(lora_dropout=0.5)).train()
    before, state = random.getstate(), torch.get_rng_state()
    record = HarnessTask("words", tmp_path).run(model, make_tokenizer(), EvaluationConfig(limit_sets=3))
    assert record.metrics["sample_len"] == 3
    assert model.training
    assert random.getstate() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_mistakes_are_told_before_a_student_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(IsodistillError, match="There is no folder"):
        HarnessTask("words", tmp_path / "none")
    words_task(tmp_path)
    (tmp_path / "words.jsonl").unlink()
    arguments = ("--benchmark", "lm-eval:words", "--lm-eval-include", tmp_path, "--student", "./none")
    assert command(monkeypatch, "evaluate", *arguments) == 2
    assert "The task 'words' of lm-evaluation-harness cannot be loaded" in capsys.readouterr().err


def test_without_the_harness_it_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    student, out = saved_student(tmp_path / "student"), tmp_path / "out.json"
    arguments = ("--student", student, "--by", "likelihood", "--bootstrap-samples", "100", "--out", out)
    assert command(monkeypatch, "evaluate", "--benchmark", f"folio:{folio_file(tmp_path)}", *arguments) == 0
    with pytest.raises(IsodistillError, match=r"pip install 'isodistill\[lm-eval\]'"):
        HarnessTask("words")


@pytest.mark.slow
def test_an_unknown_task_is_told() -> None:
    with pytest.raises(IsodistillError, match="has no task 'no_such_task'"):
        HarnessTask("no_such_task")


@pytest.mark.slow
@pytest.mark.student
@pytest.mark.data
def test_the_real_student_scores_as_its_merged_model(tmp_path: Path) -> None:
    problems = import_logicbench(public_data("logicbench") / "BQA")["test"].problems[::80]
    rows = [{"question": problem.prompt, "label": problem.choices.index(problem.answer)} for problem in problems]
    choice_task(tmp_path, "rules", rows, ["Yes", "No"])
    model, tokenizer = load_student("smollm2-135m")
    torch.manual_seed(0)
    adapted = get_peft_model(model, lora())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    record = HarnessTask("rules", tmp_path).run(
        adapted, tokenizer, EvaluationConfig(batch_size=8, bootstrap_samples=100)
    )
    merged: Any = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").vocab_size == tokenizer.vocab_size
    wanted = directly(tmp_path / "merged", "rules", tmp_path, batch_size=8)
    assert record.metrics == pytest.approx(wanted, abs=1e-4)
    assert record.metrics["acc,none"] == wanted["acc,none"]
