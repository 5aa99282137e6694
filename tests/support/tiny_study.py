"""A study that is real and takes seconds: a tiny student, short problems, few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)

GENERATE: dict[str, Any] = {
    "family": "deduction",
    "options": {"answers": ["True", "False"]},
    "domains": ["math", "medicine", "law"],
    "unseen_domains": ["finance"],
    "sets": 8,
    "validation_sets": 4,
    "test_sets": 5,
    "depth": [1, 1],
    "deeper": [2, 2],
    "shortcut": {"rate": 0.9},
    "audit": False,
    "split_by": "wording",
    "max_sets_per_skeleton": 50,
}


WORDS = ("<pad>", "<eos>", "<unk>", "▁\n", "▁Answer:", "▁True", "▁False", "▁not", "▁no", "▁every", "▁is", "▁law")


def save_student(folder: Path) -> Path:
    """Saves a student with a dozen words that can write an answer line, so that it has a name to give to a study."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\n"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    _pretrain(model)
    model.save_pretrained(folder)
    return folder


def _pretrain(model: LlamaForCausalLM) -> None:
    """Teaches the form of an answer line and nothing of which answer is right."""
    line, answer, true, false, eos = (WORDS.index(word) for word in ("▁\n", "▁Answer:", "▁True", "▁False", "<eos>"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(60):
        prompts = torch.randint(2, len(WORDS), (16, int(torch.randint(20, 120, ()))))
        right = torch.where(torch.rand(16, 1) < 0.5, true, false)
        fixed = [torch.full((16, 1), token) for token in (line, answer, eos)]
        ids = torch.cat([prompts, fixed[0], fixed[1], right, fixed[2]], 1)
        labels = ids.clone()
        labels[:, : prompts.shape[1] + 1] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def study_values(student: Path, **changes: Any) -> dict[str, Any]:
    """The fields of a study of two methods and two seeds."""
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"main": {"generate": GENERATE, "teacher": {"style": "answer"}}},
        "students": [str(student)],
        "methods": {"erm": {}, "iga": {"tau": 0.3}},
        "training": {
            "max_steps": 12,
            "per_device_train_batch_size": 2,
            "learning_rate": 0.05,
            "lora_r": 2,
            "lora_alpha": 4,
            "use_cpu": True,
            "bf16": False,
        },
        "evaluation": {
            "splits": ["iid", "cue_absent", "cue_reversed", "unseen_domain"],
            "max_new_tokens": 6,
            "bootstrap_samples": 100,
        },
        "seeds": [0, 1],
    }
    return values | changes
