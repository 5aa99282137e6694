"""On-policy distillation: who samples what, with which seed, and that nothing else depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from method_runs import DISTILLED, adapter_of, make_teacher, run_case
from tiny_student import lora, make_model, make_sets, make_tokenizer

from isodistill.errors import IsodistillError
from isodistill.teachers.scoring import Scorer
from isodistill.traces import TraceStore
from isodistill.trainer import IsomerConfig
from isodistill.trainer.data import IsomerCollator
from isodistill.trainer.on_policy import is_on_policy, own_completions

OPTIONS: dict[str, Any] = DISTILLED | {"on_policy_fraction": 1.0, "on_policy_max_new_tokens": 6}

HALF = 0.55
"""With the runs' seed the first step is on the policy and the second is not."""


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def config(**more: Any) -> IsomerConfig:
    return IsomerConfig(output_dir="unused", report_to="none", use_cpu=True, **({"seed": 3} | OPTIONS | more))


def batch_of(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    row: dict[str, Any] = {"domain_ids": list(range(len(rows))), "answer_positions": [len(start) for start, _ in rows]}
    row["input_ids"] = [start + rest for start, rest in rows]
    row["labels"] = [[-100] * len(start) + rest for start, rest in rows]
    return IsomerCollator(0)([row])


ROWS = [([5, 6, 7], [8, 9, 1]), ([10, 11, 12, 13, 14], [15, 1]), ([20], [21, 22, 23, 24, 1])]


def test_completions_are_samples_behind_the_same_prompts() -> None:
    model, tokenizer, batch = make_model(), make_tokenizer(), batch_of(ROWS)
    state = torch.get_rng_state()
    made = own_completions(model.train(), tokenizer, batch, config(), step=4)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())  # the run's own random state is untouched
    for place, (start, _) in enumerate(ROWS):
        ids, labels, mask = (made[name][place].tolist() for name in ("input_ids", "labels", "attention_mask"))
        assert ids[: len(start)] == start
        completion = [label for label in labels if label != -100]
        assert 1 <= len(completion) <= 6
        assert 1 not in completion[:-1]  # nothing comes after the end token
        assert len(completion) == 6 or completion[-1] == 1
        assert labels == [-100] * len(start) + completion + [-100] * (len(labels) - len(start) - len(completion))
        assert mask == [1] * (len(start) + len(completion)) + [0] * (len(ids) - len(start) - len(completion))
        alone = own_completions(model, tokenizer, batch_of([ROWS[place]]), config(), step=4)
        assert [label for label in alone["labels"][0].tolist() if label != -100] == completion
    assert made["on_policy"].all()
    assert "teacher_ids" not in made
    again = own_completions(model, tokenizer, batch, config(), step=4)
    assert torch.equal(again["input_ids"], made["input_ids"])
    for other in (own_completions(model, tokenizer, batch, config(seed=4), 4),
                  own_completions(model, tokenizer, batch, config(), 5)):  # fmt: skip
        assert other["input_ids"].tolist() != made["input_ids"].tolist()


def test_samples_follow_the_student() -> None:
    """The first token's frequency over 400 steps, against its probability at the temperature."""
    model, tokenizer = make_teacher(), make_tokenizer()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    batch = batch_of([ROWS[0]])
    args = config(on_policy_max_new_tokens=1, on_policy_temperature=2.0)
    drawn = [int(own_completions(model, tokenizer, batch, args, step)["labels"][0, 3]) for step in range(400)]
    with torch.inference_mode():
        p = (model(torch.tensor([[5, 6, 7]])).logits[0, -1] / 2.0).softmax(-1)
    top = int(p.argmax())
    expected = float(p[top])
    assert 0.1 < expected < 0.9
    assert abs(drawn.count(top) / 400 - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def test_the_coin_falls_as_often_as_it_should() -> None:
    args = config(on_policy_fraction=0.3, on_policy_every=2)
    steps = [step for step in range(4000) if is_on_policy(args, step)]
    assert all(step % 2 == 0 for step in steps)
    assert 0.26 < len(steps) / 2000 < 0.34
    assert not any(is_on_policy(config(on_policy_fraction=0.0), step) for step in range(50))
    assert all(is_on_policy(config(), step) for step in range(50))


@pytest.mark.parametrize("case", ["iga_factor", "vrex"])
def test_splitting_into_micro_batches_changes_nothing(tmp_path: Path, case: str) -> None:
    options = OPTIONS | {"teacher": make_teacher(), "on_policy_fraction": HALF, "max_steps": 2}
    whole = run_case(tmp_path / "a", case, **options)
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    assert difference(adapter_of(whole), adapter_of(run_case(tmp_path / "b", case, **options, **split))) <= 1e-5
    log = [row for row in whole.state.log_history if "loss" in row]
    own, traces = log
    assert 0 < own["on_policy/tokens"] <= 16 * 6
    assert own["divergence"] == pytest.approx(own["loss"], rel=1e-3)  # no cross-entropy on the student's own samples
    assert traces["on_policy/tokens"] == 0
    assert traces["divergence"] < traces["loss"]


def test_every_kind_of_method_trains_on_them(tmp_path: Path) -> None:
    for case in ("irm", "koyama", "iga_with_consistency", "fishr"):
        more = OPTIONS | {"gradient_checkpointing": True, "max_length": None}
        trainer = run_case(tmp_path / case, case, teacher=make_teacher(), **more)
        assert all(torch.isfinite(value).all() for value in adapter_of(trainer).values()), case
    loop = run_case(tmp_path / "loop", "iga_weight", teacher=make_teacher(), engine="loop", **OPTIONS)
    tap = run_case(tmp_path / "tap", "iga_weight", teacher=make_teacher(), **OPTIONS)
    assert difference(adapter_of(loop), adapter_of(tap)) <= 2e-5


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path: Path) -> None:
    options = OPTIONS | {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 4, "save_strategy": "steps"}
    options |= {"save_steps": 2, "on_policy_fraction": 0.7, "teacher": make_teacher()}
    peft = lora(lora_dropout=0.1)
    straight = run_case(tmp_path, "iga_factor", peft=peft, **options)
    tokens = [row["on_policy/tokens"] for row in straight.state.log_history if "loss" in row]
    assert any(tokens[2:])
    resumed = run_case(tmp_path, "iga_factor", peft=peft, resume=str(tmp_path / "checkpoint-2"), **options)
    expected, found = adapter_of(straight), adapter_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_store_teaches_the_traces_and_a_local_teacher_the_samples(tmp_path: Path) -> None:
    """Steps off the policy take the store's distributions, steps on it the loaded teacher's."""
    sets = make_sets(16)
    with TraceStore(tmp_path / "t.sqlite") as store:
        scorer = Scorer(make_teacher().eval(), make_tokenizer(), "tiny", 12, store=store)
        scorer.score([(member["prompt"], member["completion"]) for row in sets for member in row["members"]])
    more = {"on_policy_fraction": HALF, "max_steps": 2}
    options = OPTIONS | more | {"teacher": make_teacher(), "distillation_store": str(tmp_path / "t.sqlite")}
    stored = run_case(tmp_path / "a", "erm", **options)
    live = run_case(tmp_path / "b", "erm", **(OPTIONS | more), teacher=make_teacher())
    assert difference(adapter_of(stored), adapter_of(live)) <= 1e-3
    logs = [[row["on_policy/tokens"] for row in run.state.log_history if "loss" in row] for run in (stored, live)]
    assert logs[0] == pytest.approx(logs[1], abs=3)


def test_it_brings_the_student_to_the_teacher(tmp_path: Path) -> None:
    more = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 20, "distillation": "reverse_kl"}
    trainer = run_case(tmp_path, "iga_factor", teacher=make_teacher(), **(OPTIONS | more | {"tau": 0.1}))
    divergences = [row["divergence"] for row in trainer.state.log_history if "divergence" in row]
    assert divergences[-1] < 0.6 * divergences[0]


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    make_teacher().save_pretrained(folder)
    other = make_tokenizer()
    other.add_tokens(["zebra"])
    other.save_pretrained(folder)
    with pytest.raises(IsodistillError, match="such as 'zebra'"):
        run_case(tmp_path, "erm", **OPTIONS, distillation_teacher=f"hf:{folder}")
    with pytest.raises(IsodistillError, match="needs a local model: give hf:PATH"):
        run_case(tmp_path, "erm", **OPTIONS, distillation_teacher="openai:m", distillation_store="t.sqlite")
