"""A teacher's token distributions beside the training rows: found in the trace store, or made for a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset

from isodistill.errors import IsodistillError
from isodistill.teachers.scoring import signal_key
from isodistill.traces import TokenSignal, TraceStore
from isodistill.traces.signals import vocabulary_digest

if TYPE_CHECKING:
    from isodistill.trainer.data import MemberRow

DEFAULT_TOP_K = 32
"""How many of a local teacher's tokens are kept at each place unless told otherwise."""

TEACHER_COLUMNS = ("teacher_ids", "teacher_logprobs")
"""What a batch holds of the teacher: (S, C, k), row t of a sequence being about its t-th label."""


def add_stored_signals(
    sets: Dataset,
    members: list[MemberRow],
    store: Path,
    teacher: str | None,
    k: int | None,
    tokenizer: Any,
    system_prompt: str | None,
    width: int,
) -> Dataset:
    """Puts the stored token distributions beside the rows that they belong to.

    Args:
        sets: The output of `group_sets`.
        members: The members that went in, in the same order.
        store: The trace store's file.
        teacher: Whose distributions, ``hf:PATH`` or ``openai:MODEL``; ``None`` for the only one there.
        k: How many tokens at each place; ``None`` for the most that are there.
        tokenizer: The student's tokenizer.
        system_prompt: The system message of the training.
        width: The number of the student's logits.

    Returns:
        The sets with the column signals: K packed `TokenSignal`s.

    Raises:
        IsodistillError: If the store has none for this student or this row, or they are for other tokens.
    """
    with TraceStore(store, create=False) as opened:
        scorer, vocabulary, k = _source(opened, teacher, k, tokenizer)
        rest = iter(members)
        column = []
        for labels_of_set in sets["labels"]:
            packed = []
            for labels in labels_of_set:
                member = next(rest)
                key = signal_key(tokenizer, member.prompt, member.completion, system_prompt)
                signal = opened.find_signal(*key, scorer, vocabulary, k)
                if signal is None:
                    raise IsodistillError(
                        f"{_place(member)}: the trace store {store} has no distributions of {scorer!r} with k={k} for"
                        " this completion; score these data with `isodistill distill`, with the --system-prompt of"
                        " this training"
                    )
                _check(signal, [label for label in labels if label != -100], member, width, tokenizer)
                packed.append(signal.to_bytes())
            column.append(packed)
    return sets.add_column("signals", column)


def _source(store: TraceStore, teacher: str | None, k: int | None, tokenizer: Any) -> tuple[str, str, int]:
    """Chooses one scorer, vocabulary and k of those in the store."""
    make = "make them with `isodistill distill DIR --top-k 32 --scorer hf:PATH`"
    sources = store.signal_sources()
    if not sources:
        raise IsodistillError(f"the trace store {store.path} has no token distributions; {make}")
    scorers = sorted({scorer for scorer, _, _ in sources})
    chosen = scorers[0] if teacher is None else teacher.removeprefix("hf:")
    if chosen not in scorers:
        raise IsodistillError(
            f"the trace store {store.path} has no token distributions of distillation_teacher={teacher!r}, only of"
            f" {', '.join(scorers)}; name one of these, or {make}"
        )
    if teacher is None and len(scorers) > 1:
        raise IsodistillError(
            f"the trace store {store.path} has token distributions of several teachers ({', '.join(scorers)}); name"
            " one in distillation_teacher"
        )
    vocabulary = vocabulary_digest(tokenizer)
    sizes = [size for scorer, words, size in sources if scorer == chosen and words == vocabulary]
    if not sizes:
        raise IsodistillError(
            f"the token distributions of {chosen!r} in {store.path} are over another vocabulary than the student's, so"
            " they cannot be compared; take a teacher of the student's own model family, or leave distillation out"
        )
    if k is not None and k not in sizes:
        raise IsodistillError(
            f"the trace store {store.path} has token distributions of {chosen!r} with k ="
            f" {', '.join(map(str, sizes))}, not {k}; set distillation_top_k to one of these"
        )
    return chosen, vocabulary, max(sizes) if k is None else k


def _check(signal: TokenSignal, labels: list[int], member: MemberRow, width: int, tokenizer: Any) -> None:
    """Refuses distributions of other tokens than the labels; truncation may have cut the labels' end off."""
    stored = signal.token_ids[: len(labels)].tolist()
    mend = "delete them with `isodistill traces prune --distributions` and score the data again"
    if stored != labels:
        place = next((i for i, (a, b) in enumerate(zip(stored, labels, strict=False)) if a != b), len(stored))
        ours, theirs = (repr(tokenizer.decode(ids[place : place + 1])) for ids in (labels, stored))
        raise IsodistillError(
            f"{_place(member)}: the stored distributions are for other tokens than the training's (token {place} is"
            f" {theirs} there and {ours} here); {mend}"
        )
    if int(signal.top_ids.max(initial=0)) >= width:
        raise IsodistillError(
            f"{_place(member)}: the stored distributions name the token {int(signal.top_ids.max())} and the student"
            f" has {width}; {mend}"
        )


def _place(member: MemberRow) -> str:
    return f"set {member.set_id}, domain {member.domain!r}"


def signal_columns(packed: list[bytes], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Unpacks a batch's distributions.

    Args:
        packed: S packed signals.
        labels: The batch's labels, (S, length), int64.

    Returns:
        The `TEACHER_COLUMNS`; places beyond a sequence's labels are empty (-inf).
    """
    signals = [TokenSignal.from_bytes(data) for data in packed]
    counts = label_counts(labels).tolist()
    shape = len(signals), max(counts), max(signal.k for signal in signals)
    ids, logprobs = np.zeros(shape, np.int64), np.full(shape, -np.inf, np.float32)
    for row, (signal, count) in enumerate(zip(signals, counts, strict=True)):
        ids[row, :count, : signal.k] = signal.top_ids[:count]
        logprobs[row, :count, : signal.k] = signal.top_logprobs[:count]
    return dict(zip(TEACHER_COLUMNS, (torch.from_numpy(ids), torch.from_numpy(logprobs)), strict=True))


def label_counts(labels: torch.Tensor) -> torch.Tensor:
    """Counts each sequence's labels that a position predicts.

    Args:
        labels: (S, length), -100 where there is none.

    Returns:
        (S,), int64.
    """
    return labels[:, 1:].ne(-100).sum(1)


@torch.no_grad()
def score_batch(network: Any, batch: dict[str, torch.Tensor], k: int) -> dict[str, torch.Tensor]:
    """Has a local teacher look at a batch.

    Args:
        network: A causal language model in evaluation mode, with the student's tokenizer.
        batch: input_ids, attention_mask and labels, each (S, length), padded on the right.
        k: How many tokens are kept at each place; the vocabulary's size keeps all.

    Returns:
        The `TEACHER_COLUMNS`, on the batch's device.
    """
    device, home = network.device, batch["labels"].device
    mask = (batch["labels"][:, 1:] != -100).to(device)
    inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
    hidden = network.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1][mask]
    rows = mask.sum(1)
    places = torch.arange(int(rows.max()), device=device) < rows.unsqueeze(1)  # (S, C)
    ids = torch.zeros(*places.shape, k, dtype=torch.int64, device=device)
    logprobs = torch.full(ids.shape, -torch.inf, device=device)
    # The head sees what predicts a label, a piece at a time: whole logits would not fit beside the student.
    pieces = [torch.log_softmax(_head(network, part), dim=-1).topk(k, dim=-1) for part in hidden.split(512)]
    ids[places] = torch.cat([piece.indices for piece in pieces])
    logprobs[places] = torch.cat([piece.values for piece in pieces])
    return {"teacher_ids": ids.to(home), "teacher_logprobs": logprobs.to(home)}


def _head(network: Any, states: torch.Tensor) -> torch.Tensor:
    """The logits of hidden states (N, H), in float32."""
    logits: torch.Tensor = network.get_output_embeddings()(states)
    return logits.float()
