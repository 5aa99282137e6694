"""Batched greedy decoding that stops at the answer line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from isodistill.answers import ANSWER_PREFIX
from isodistill.errors import IsodistillError
from isodistill.evaluation.encoding import (
    base_model,
    batches_by_length,
    check_lengths,
    encode,
    evaluation_mode,
    mixed_precision,
    pad_batch,
    pad_id,
)
from isodistill.prompting import render_prompt

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)`` after every batch."""

_COMPLETE_ANSWER = re.compile(rf"^[ \t]*{re.escape(ANSWER_PREFIX)}[ \t]*\S[^\n]*(?=\n)", re.MULTILINE)


def generate_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    system_prompt: str | None = None,
    batch_size: int = 16,
    bf16: bool = False,
    max_new_tokens: int = 256,
    progress: Progress | None = None,
    stage: str = "generate",
) -> list[str]:
    """Lets the student answer problems by greedy decoding.

    A sequence ends at an EOS token, at the line break after a complete answer line, or after
    `max_new_tokens`; it then leaves its batch, so that one runaway does not keep the others
    computing. Sampling settings that the student was published with (temperature, repetition
    penalty) are not applied. The model's training flags are restored; the tokenizer is not changed.

    Args:
        model: A transformers causal language model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        prompts: The problems' texts, without a chat template.
        system_prompt: An instruction put before each, or ``None``.
        batch_size: Sequences in a batch.
        bf16: See `EvaluationConfig`.
        max_new_tokens: The most tokens to write for one problem.
        progress: Called after each batch with the number of finished problems.
        stage: The first argument of `progress`.

    Returns:
        The completions in the order of the prompts, without special tokens and without anything
        after the first complete answer line. Untrusted text.

    Raises:
        IsodistillError: If a prompt does not fit into the context or the model keeps no cache.
    """
    texts = [render_prompt(tokenizer, prompt, system_prompt) for prompt in prompts]
    encoded = encode(tokenizer, texts)
    for index, ids in enumerate(encoded):
        if not ids:
            raise IsodistillError(f"Prompt {index} turns into no token with the student's tokenizer; it needs text.")
    network = base_model(model)
    check_lengths(network, [len(ids) for ids in encoded], max_new_tokens, "generate")
    completions = [""] * len(encoded)
    done = 0
    with evaluation_mode(model), mixed_precision(network, bf16):
        for batch in batches_by_length([len(ids) for ids in encoded], batch_size):
            written = _decode_batch(network, tokenizer, [encoded[index] for index in batch], max_new_tokens)
            for index, ids in zip(batch, written, strict=True):
                completions[index] = _cut(tokenizer.decode(ids, skip_special_tokens=True))
            done += len(batch)
            if progress is not None:
                progress(stage, done, len(encoded))
    return completions


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Collects the tokens that end a completion.

    Args:
        model: The transformers model; its generation config may name further end tokens.
        tokenizer: Its tokenizer.

    Returns:
        The EOS ids of both; empty if neither has one.
    """
    found: set[int] = set()
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    for value in (tokenizer.eos_token_id, configured):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(entry) for entry in value)
    return found


def _decode_batch(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Greedy decoding of one batch; returns the new ids of each prompt, without the EOS token."""
    device = model.get_input_embeddings().weight.device
    ends = stop_ids(model, tokenizer)
    breaks = _LineBreaks(tokenizer)
    written: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    ids, mask = pad_batch(prompts, pad_id(tokenizer), "left", device)  # (B, T)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (B, T)
    options: dict[str, Any] = {"use_cache": True}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        options["logits_to_keep"] = 1  # else the prompt's logits alone would fill the memory
    cache: Any = None
    for step in range(max_new_tokens):
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, **options)
        cache = output.past_key_values
        if cache is None or not hasattr(cache, "batch_select_indices"):
            raise IsodistillError(
                f"{type(model).__name__} returns no key-value cache that generation could use: "
                "choose a decoder-only transformer as the student."
            )
        chosen: list[int] = output.logits[:, -1].argmax(dim=-1).tolist()  # (B,)
        kept: list[int] = []
        for row, token in enumerate(chosen):
            sequence = written[running[row]]
            if token in ends:
                continue
            sequence.append(token)
            if not (token in breaks and _COMPLETE_ANSWER.search(tokenizer.decode(sequence, skip_special_tokens=True))):
                kept.append(row)
        if not kept or step == max_new_tokens - 1:
            break
        if len(kept) < len(running):
            rows = torch.tensor(kept, device=device)
            cache.batch_select_indices(rows)
            mask, positions = mask[rows], positions[rows]
            running = [running[row] for row in kept]
        ids = torch.tensor([[chosen[row]] for row in kept], device=device)  # (B, 1)
        mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return written


class _LineBreaks:
    """Tells which token ids contain a line break, looking each id up once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bool] = {}

    def __contains__(self, token: int) -> bool:
        if token not in self._known:
            self._known[token] = "\n" in self._tokenizer.decode([token])
        return self._known[token]


def _cut(text: str) -> str:
    """Drops what the token with the line break carried beyond the answer line."""
    match = _COMPLETE_ANSWER.search(text)
    return text[: match.end()] if match else text
