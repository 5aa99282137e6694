"""Problems, files and a tiny student for the evaluation tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DOMAINS = ("law", "medicine", "science")
NAMES = {"law": "judge", "medicine": "nurse", "science": "atom"}


def problem(domain: str, number: int) -> str:
    return f"The {NAMES[domain]} number {number} is what?"


def solution(number: int) -> tuple[str, str]:
    """Even numbers are true, odd ones false; longer chains for larger numbers."""
    answer = "True" if number % 2 == 0 else "False"
    return "so we see" + " that" * (1 + number % 3) + f" {number}.", answer


def tiny_llama(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,  # far from uniform, so that argmax is never a tie
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


def write_split(path: Path, rows: list[dict[str, Any]]) -> None:
    member = pa.struct([(name, pa.string()) for name in ("domain", "prompt", "completion", "formal", "cue")])
    schema = pa.schema(
        [
            ("set_id", pa.string()),
            ("family", pa.string()),
            ("depth", pa.int32()),
            ("skeleton", pa.string()),
            ("canonical", pa.string()),
            ("answer", pa.string()),
            ("choices", pa.list_(pa.string())),
            ("members", pa.list_(member)),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def set_row(number: int, prefix: str = "deduction", cue: str = "") -> dict[str, Any]:
    return {
        "set_id": f"{prefix}-{number:04d}",
        "family": "deduction",
        "depth": 1 + number % 3,
        "skeleton": "{}",
        "canonical": str(number),
        "answer": solution(number)[1],
        "choices": ["True", "False", "Unknown"],
        "members": [
            {"domain": domain, "prompt": problem(domain, number), "completion": "", "formal": "{}", "cue": cue}
            for domain in DOMAINS
        ],
    }
