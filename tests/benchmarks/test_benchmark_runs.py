from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_helpers import (
    command,
    folio_file,
    gsm8k_file,
    isomers_folder,
    isosci_file,
    logicbench_folder,
    saved_student,
)
from tiny_student import make_model, make_tokenizer

from isodistill.benchmarks import Benchmark, add_benchmark, make_benchmark
from isodistill.evaluation import Evaluation, EvaluationConfig, ood_accuracy
from isodistill.evaluation.evaluate import empty_evaluation

# The package's function of the same name hides the module.
EVALUATE = importlib.import_module("isodistill.evaluation.evaluate")


def options(**changes: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate({"max_new_tokens": 4, "bootstrap_samples": 100, **changes})


def run(benchmark: Benchmark, config: EvaluationConfig) -> Evaluation:
    model = make_model()
    return add_benchmark(empty_evaluation(model, config), model, make_tokenizer(), benchmark, config)


def forbid(name: str) -> Any:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"{name} was called")

    return refuse


def writes(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> list[str]:
    """Lets the student write what it is told, and notes the prompts that it saw."""
    seen: list[str] = []

    def write(model: Any, tokenizer: Any, prompts: list[str], **options: Any) -> list[str]:
        seen.extend(prompts)
        return [next(text for part, text in answers.items() if part in prompt) for prompt in prompts]

    monkeypatch.setattr(EVALUATE, "generate_completions", write)
    return seen


def test_likelihood_alone_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVALUATE, "generate_completions", forbid("generation"))
    benchmark = make_benchmark("folio", folio_file(tmp_path))
    result = run(benchmark, options(by="likelihood"))
    split = result.splits["folio"]
    assert split.likelihood_accuracy == split.accuracy
    assert split.answered == 1
    for item in result.items:
        assert item.completion == ""
        assert item.probabilities is not None
        assert item.extracted == max(item.probabilities, key=item.probabilities.__getitem__)
        assert item.correct == (item.extracted == item.answer)


def test_generation_alone_scores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVALUATE, "score_answers", forbid("scoring"))
    benchmark = make_benchmark("logicbench", logicbench_folder(tmp_path))
    seen = writes(monkeypatch, {"not so": "Answer: No", "": "Answer: No"})
    result = run(benchmark, options(by="generation"))
    assert set(seen) == {f"{item.prompt}\n{benchmark.instruction}" for item in benchmark.items}
    split = result.splits["logicbench"]
    assert split.accuracy.value == 0.5
    assert split.agreement is not None
    assert split.agreement.value == 1  # always the same answer: consistent, and wrong in every second set
    assert split.set_accuracy is not None
    assert split.set_accuracy.value == 0.5
    assert (split.likelihood_accuracy, split.lcs_raw, split.js_divergence, split.probes) == (None, None, None, None)


def test_both_ways_score_after_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, {"": "Because.\nAnswer: Yes"})
    split = run(make_benchmark("logicbench", logicbench_folder(tmp_path)), options()).splits["logicbench"]
    assert split.accuracy.value == 0.5
    assert split.likelihood_accuracy is not None
    assert split.lcs_centred is not None


def test_pairs_with_answers_of_their_own_are_no_isomers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(
        monkeypatch,
        {"far, 1": "Answer: 1.5 m", "much, 1": "Answer: 1 MOL", "far, 2": "Answer: 2.51", "": "Answer: 9 m"},
    )
    split = run(make_benchmark("isosci", isosci_file(tmp_path)), options()).splits["isosci/test"]
    assert (split.n_sets, split.n_items) == (3, 6)
    assert split.accuracy.value == 0.5
    assert split.set_accuracy is not None
    assert split.set_accuracy.value == pytest.approx(1 / 3)
    assert (split.agreement, split.lcs_raw, split.lcs_centred, split.cka) == (None, None, None, None)


def test_reasoning_gym_is_judged_by_its_own_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym", reason="needs pip install 'isodistill[reasoning-gym]'")
    benchmark = make_benchmark("reasoning-gym", "knights_knaves")
    first = benchmark.items[0]
    # Another wording, which a comparison of texts would refuse, and an answer that is half of one.
    writes(monkeypatch, {first.prompt: f"Answer: {first.answer.lower().removesuffix('.')}", "": "Answer: a knight"})
    result = run(benchmark, options(by="generation", limit_sets=200))
    right = [item.correct for item in result.items]
    assert right[0]
    assert sum(right) == 1
    split = result.splits["reasoning-gym/knights_knaves"]
    assert split.accuracy.value == 1 / len(right)
    assert split.mean_score is not None
    assert split.accuracy.value <= split.mean_score < 0.5


def test_benchmarks_join_a_runs_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, out = saved_student(tmp_path / "student"), tmp_path / "evaluation.json"
    data = isomers_folder(tmp_path)
    shared = ("--student", student, "--by", "likelihood", "--bootstrap-samples", "100", "--out", out)
    assert command(monkeypatch, "evaluate", "--data", data, *shared) == 0
    alone = Evaluation.load(out)
    folio, logic = f"folio:{folio_file(tmp_path)}", f"logicbench:{logicbench_folder(tmp_path / 'bqa')}"
    assert command(monkeypatch, "evaluate", "--benchmark", folio, "--benchmark", logic, *shared) == 0
    joined = Evaluation.load(out)
    assert list(joined.splits) == [*alone.splits, "folio", "logicbench"]
    assert joined.items[: len(alone.items)] == alone.items
    assert joined.config == alone.config
    assert joined.data == alone.data == "mine"
    assert ood_accuracy(joined) == ood_accuracy(alone)
    record = joined.benchmarks["folio"]
    assert (record.splits, record.config.by, record.license) == (["folio"], "likelihood", "cc-by-sa-4.0")
    # In bf16, into a file of its own: recorded, and near the same probabilities.
    rough_file = tmp_path / "bf16.json"
    assert command(monkeypatch, "evaluate", "--benchmark", folio, "--bf16", *shared[:-1], rough_file) == 0
    rough = Evaluation.load(rough_file)
    assert rough.benchmarks["folio"].config.bf16
    assert not record.config.bf16
    exact = [item for item in joined.items if item.split == "folio"]
    for item, other_item in zip(exact, rough.items, strict=True):
        assert item.probabilities is not None
        assert other_item.probabilities == pytest.approx(item.probabilities, abs=0.05)
    assert any(item.probabilities != other.probabilities for item, other in zip(exact, rough.items, strict=True))
    # Again, with fewer sets: the same benchmark takes its own place and no other.
    assert command(monkeypatch, "evaluate", "--benchmark", folio, "--limit-sets", "1", *shared) == 0
    again = Evaluation.load(out)
    assert again.splits["folio"].n_sets == 1
    assert again.splits["logicbench"] == joined.splits["logicbench"]
    assert len(again.items) == len(joined.items) - 2
    # Another data set under a name of its own, beside the run's own splits of the same names.
    assert command(monkeypatch, "evaluate", "--benchmark", f"isomers:{data}", *shared) == 0
    other = Evaluation.load(out)
    assert other.splits["isomers/mine/unseen_domain"].accuracy == alone.splits["unseen_domain"].accuracy
    assert ood_accuracy(other) == ood_accuracy(alone)


def test_another_students_evaluation_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folio = tmp_path / "evaluation.json", f"folio:{folio_file(tmp_path)}"
    run(make_benchmark("folio", folio.removeprefix("folio:")), options(by="likelihood")).save(out)
    before = out.read_text()
    # The student's folder is never looked for.
    assert command(monkeypatch, "evaluate", "--benchmark", folio, "--student", "./none", "--out", out) == 2
    assert "cannot join it: give another --out" in capsys.readouterr().err
    assert out.read_text() == before


def test_what_cannot_be_done_is_refused_before_the_student_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        (): "there is nothing to evaluate",
        ("--benchmark", f"gsm8k:{gsm8k_file(tmp_path)}", "--by", "likelihood"): "has no choices",
        ("--benchmark", "nothing"): "There is no benchmark 'nothing'",
        ("--benchmark", f"folio:{folio_file(tmp_path)}", "--split", "iid"): "--split names a split of --data",
        ("--benchmark", f"folio:{folio_file(tmp_path)}", "--by", "magic"): "evaluation option by",
        ("--benchmark", "folio:x/y.jsonl", "--student", "./none"): "There is no file or folder 'x/y.jsonl'",
        ("--benchmark", f"folio:{folio_file(tmp_path)}", "--lm-eval-include", str(tmp_path)): "--lm-eval-include goes",
        ("--benchmark", f"folio:{folio_file(tmp_path)}") * 2: "two benchmarks would be called 'folio'",
    }
    for arguments, told in words.items():
        student = () if "--student" in arguments else ("--student", "./none")
        assert command(monkeypatch, "evaluate", *arguments, *student) == 2
        assert told in capsys.readouterr().err


def test_an_evaluation_of_benchmarks_alone_can_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isodistill.report import RunSummary, build_report

    result = run(make_benchmark("logicbench", logicbench_folder(tmp_path)), options(by="likelihood"))
    path = result.save(tmp_path / "evaluation.json")
    assert Evaluation.load(path) == result
    assert json.loads(path.read_text())["benchmarks"]["logicbench"]["instruction"].startswith("End with a line")
    summaries = [
        RunSummary(name=name, method=name, settings={"method": name}, evaluation=result, seconds=1.0, tokens=1)
        for name in ("erm", "iga")
    ]
    build_report(summaries, tmp_path / "report.html", rerun_command="isodistill report", baseline="erm")
    assert "logicbench" in (tmp_path / "report.html").read_text(encoding="utf-8")
