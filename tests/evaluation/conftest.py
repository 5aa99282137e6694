from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation_helpers import DOMAINS, problem, set_row, solution, tiny_llama, write_split
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A lossless word-level tokenizer: words carry their leading space, line breaks are tokens."""
    splitter = pre_tokenizers.Split(Regex(r"\n| ?[^\s:.?]+|[:.?]| "), behavior="isolated")
    texts = [problem(domain, number) for domain in DOMAINS for number in range(10)]
    texts += [solution(number)[0] for number in range(10)]
    texts += ["\nAnswer: True\n", " False Answer: Maybe not", "Answer", "Think. Unknown"]
    words = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)}
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", "<bos>", *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", bos_token="<bos>"
    )


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A student that has learnt by heart to reason and to answer, and that never writes an EOS."""
    student = tiny_llama(tokenizer, initializer_range=0.1)
    texts = []
    for domain in DOMAINS:
        for number in range(10):
            rationale, answer = solution(number)
            texts.append(f"{problem(domain, number)}\n{rationale}\nAnswer: {answer}\nThink.\nAnswer: Unknown\n")
    batch = tokenizer(texts, padding=True, return_tensors="pt", padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(80):
        loss = student(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return student.eval()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "set-of-sets"
    write_split(folder / "data" / "train.parquet", [set_row(1)])
    write_split(folder / "data" / "iid.parquet", [set_row(n, cue=solution(n)[1]) for n in range(6)])
    write_split(folder / "data" / "cue_reversed.parquet", [set_row(n, "reversed", cue="Unknown") for n in range(4, 10)])
    numeric = set_row(3, "quantity") | {"family": "quantity", "answer": "42", "choices": []}
    write_split(folder / "data" / "unseen_domain.parquet", [numeric, set_row(8, "unseen")])
    return folder
