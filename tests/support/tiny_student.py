"""A tiny student with a word-level tokenizer, and small isomer sets for it."""

from __future__ import annotations

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)

DOMAINS = ("law", "math", "medicine", "science")
WORDS = [f"w{i}" for i in range(40)] + ["Answer", ":", "True", "False", "so"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def make_sets(count: int, domains: tuple[str, ...] = DOMAINS, seed: int = 0) -> Dataset:
    """Sets whose members differ in length between domains, so that token weights matter."""
    generator = torch.Generator().manual_seed(seed)

    def words(n: int) -> str:
        return " ".join(f"w{int(i)}" for i in torch.randint(0, 40, (n,), generator=generator))

    rows = []
    for i in range(count):
        members = [
            {
                "domain": domain,
                "prompt": words(5 + k),
                "completion": f"so {words(1 + k)} \nAnswer: {'True' if i % 2 else 'False'}",
                "formal": "",
                "cue": "",
            }
            for k, domain in enumerate(domains)
        ]
        rows.append({"set_id": f"s{i}", "members": members})
    return Dataset.from_list(rows)


def lora(**options: object) -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **options)
