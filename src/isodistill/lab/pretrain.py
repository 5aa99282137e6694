"""Pretraining from scratch: plain next-token prediction, resumable, the same for equal configurations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.lab.config import LabConfig
from isodistill.lab.corpus import draw_text

Progress = Callable[[str, int, int], None]
"""Called as ``progress("pretrain", done, total)`` after each step."""

Row = tuple[list[int], list[float]]
"""Token ids and their weights in the loss."""

CHECKPOINT_STEPS = 200
"""How often the training's state is written, so that a kill costs little."""

MAX_POSITIONS = 1024

_BATCHES = 8  # drawn together and sorted by length, so that little is padded
_WARMUP = 0.05
_EMBEDDING_SCALE = 50.0  # to a standard deviation of 1: beside less, what the layers add would drown the words
_TEXT_WEIGHT = 0.3  # of a token that is no answer
_CHECKPOINT = "checkpoint.safetensors"
_MOMENTS = "moments."


def make_model(config: LabConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Makes the untrained student. A word with a capital begins with the word's vector.

    Args:
        config: Its size and seed.
        tokenizer: Its tokenizer.

    Returns:
        A Llama with a head of its own, float32: tied to the head, the vectors of words that are never read would all be
        pushed the same way until none could be told from another.
    """
    model_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LlamaForCausalLM(model_config)
    first: dict[str, int] = {}
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    same = [first.setdefault(piece.lower(), place) for place, piece in enumerate(pieces)]
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings.copy_(embeddings[torch.tensor(same)] * _EMBEDDING_SCALE)
    return model


def pretrain(
    config: LabConfig, tokenizer: PreTrainedTokenizerFast, folder: Path, progress: Progress | None = None
) -> LlamaForCausalLM:
    """Pretrains the student, from the last checkpoint in the folder if there is one.

    Args:
        config: What determines the student.
        tokenizer: Its tokenizer.
        folder: An existing folder for checkpoints.
        progress: Called after each step.

    Returns:
        The trained student, in evaluation mode.
    """
    model = make_model(config, tokenizer).train()
    # Vectors of words that occur seldom are not to shrink in the meantime.
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not model.get_input_embeddings().weight]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    done = _load(folder, model, optimizer)
    for step, batch in _batches(config, tokenizer, done):
        rate = _rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _loss(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % CHECKPOINT_STEPS == 0 and step + 1 < config.steps:
            _save(folder, model, optimizer, step + 1)
        if progress is not None:
            progress("pretrain", step + 1, config.steps)
    return model.eval()


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean loss of the tokens with a weight; logits are formed for these only.

    Padding stands on the right, where a causal model never looks, so no attention mask is needed.
    """
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, H)
    wanted = weights[:, 1:] > 0
    losses = torch.nn.functional.cross_entropy(model.lm_head(states[wanted]), ids[:, 1:][wanted], reduction="none")
    return (losses * weights[:, 1:][wanted]).sum() / weights.sum()


def _batches(
    config: LabConfig, tokenizer: PreTrainedTokenizerFast, start: int
) -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor]]]:
    """Yields the steps from `start` on with their batches, each a function of the configuration and the step."""
    for first in range(start - start % _BATCHES, config.steps, _BATCHES):
        rows = [_row(config, tokenizer, first * config.batch_size + n) for n in range(_BATCHES * config.batch_size)]
        rows.sort(key=lambda row: len(row[0]))
        order = torch.randperm(_BATCHES, generator=torch.Generator().manual_seed(config.seed + first)).tolist()
        for step, place in enumerate(order, start=first):
            if start <= step < config.steps:
                yield step, _pad(rows[place * config.batch_size : (place + 1) * config.batch_size])


def _row(config: LabConfig, tokenizer: PreTrainedTokenizerFast, number: int) -> Row:
    """Returns the token ids of a text and their weights in the loss: none for prompts, most for answers."""
    ids: list[int] = []
    weights: list[float] = []
    for prompt, completion in draw_text(config, number):
        read = tokenizer(f"\n{prompt}" if ids else prompt)["input_ids"]
        written = tokenizer(completion)["input_ids"]
        ids += [*read, *written]
        # The answer is the last word: one that decides is not to be drowned by ten that come by themselves.
        weights += [0.0] * len(read) + [_TEXT_WEIGHT] * (len(written) - 1) + [1.0]
    return [*ids, tokenizer.eos_token_id], [*weights, _TEXT_WEIGHT]


def _pad(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns token ids (B, T) int64 and weights (B, T) float32; padding has none."""
    ids = torch.zeros(len(rows), max(len(row) for row, _ in rows), dtype=torch.long)
    weights = torch.zeros(ids.shape)
    for place, (row, own) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        weights[place, : len(row)] = torch.tensor(own)
    return ids, weights


def _rate(config: LabConfig, step: int) -> float:
    """The learning rate: a linear rise, then half a cosine to zero."""
    warmup = max(1, round(_WARMUP * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup))) / 2


def _save(folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, done: int) -> None:
    """Writes weights, moments and the number of steps done, all at once."""
    state = {name: tensor.contiguous() for name, tensor in model.named_parameters()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"{_MOMENTS}{number}.{name}": tensor.contiguous() for name, tensor in moments.items()}
    temporary = folder / f".{_CHECKPOINT}"
    save_file(state, temporary, metadata={"steps": str(done)})
    temporary.replace(folder / _CHECKPOINT)


def _load(folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    """Restores what `_save` wrote; returns the number of steps done, 0 without a checkpoint."""
    if not (folder / _CHECKPOINT).is_file():
        return 0
    with safe_open(folder / _CHECKPOINT, framework="pt") as file:
        done = int(file.metadata()["steps"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no iterator of its own)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name in [name for name in state if name.startswith(_MOMENTS)]:
        number, _, part = name.removeprefix(_MOMENTS).partition(".")
        moments.setdefault(int(number), {})[part] = state.pop(name)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return done
