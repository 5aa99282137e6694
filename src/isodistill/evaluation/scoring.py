"""The distribution over the choices and the hidden state at the answer position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isodistill.answers import ANSWER_PREFIX, split_completion
from isodistill.errors import IsodistillError
from isodistill.evaluation.encoding import (
    base_model,
    batches_by_length,
    check_lengths,
    choice_ids,
    encode,
    evaluation_mode,
    mixed_precision,
    pad_batch,
    pad_id,
)
from isodistill.evaluation.generation import Progress
from isodistill.prompting import render_prompt


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """What the student holds at the answer position of one item.

    Attributes:
        state: The final hidden state at the last token of ``"Answer:"``, after the final norm: what
            feeds the language-model head. Shape (hidden,), float32 (float64 for a float64 model).
        log_likelihood: log p of each choice given the text before it, in nats, summed over its
            tokens. Shape (choices,), float64; ``None`` without choices.
        probabilities: The same, normalised over the choices. Shape (choices,), float64, sums to 1.
    """

    state: NDArray[np.floating[Any]]
    log_likelihood: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence to run: the text up to the answer position and, for a long choice, the choice too."""

    item: int
    choice: int | None  # None: every choice is one token and is read from this row
    ids: list[int]
    start: int  # position of the last token of "Answer:"
    targets: list[int]  # every choice's token (choice is None), else the tokens of this choice

    @property
    def width(self) -> int:
        """The number of positions read, from `start` on."""
        return 1 if self.choice is None else len(self.targets)


def answer_text(prompt_text: str, completion: str | None) -> str:
    """Builds the text that ends right at the answer position.

    Args:
        prompt_text: The rendered prompt.
        completion: The student's completion, whose rationale is kept and whose answer line is cut
            off; ``None`` puts the answer position directly after the prompt.

    Returns:
        The text, ending in ``"Answer:"``, joined as `isodistill.answers.format_completion` joins it.
    """
    rationale = split_completion(completion)[0] if completion is not None else ""
    separator = "\n" if rationale.strip() else ""
    return f"{prompt_text}{rationale if separator else ''}{separator}{ANSWER_PREFIX}"


def score_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    completions: Sequence[str] | None,
    *,
    system_prompt: str | None = None,
    batch_size: int = 16,
    bf16: bool = False,
    progress: Progress | None = None,
    stage: str = "score",
) -> list[AnswerScore]:
    """Reads the student's belief and state at the answer position of each problem.

    Where every choice of an item is one token, one forward pass over the text serves them all;
    otherwise each choice is run as a continuation. Logits are formed at the wanted positions only,
    by the model's own head, so scaling and soft caps that the model applies are kept.

    Args:
        model: A transformers causal language model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        prompts: N problems, without a chat template.
        choices: N closed answer sets; an empty one yields the state alone.
        completions: N completions by the student, whose rationales stand before the answer
            position; ``None`` scores directly after the prompt.
        system_prompt: An instruction put before each problem, or ``None``.
        batch_size: Sequences in a batch.
        bf16: See `EvaluationConfig`.
        progress: Called after each batch with the number of finished sequences.
        stage: The first argument of `progress`.

    Returns:
        N scores in the order of the prompts.

    Raises:
        IsodistillError: If a text does not fit into the context or a choice has no token.
    """
    network = base_model(model)
    rows = _rows(tokenizer, prompts, choices, completions, system_prompt)
    check_lengths(network, [len(row.ids) for row in rows], 0, "score the answers")
    states: list[NDArray[np.floating[Any]] | None] = [None] * len(prompts)
    likelihoods = [np.zeros(len(entries)) for entries in choices]
    done = 0
    with evaluation_mode(model), mixed_precision(network, bf16):
        for batch in batches_by_length([len(row.ids) for row in rows], batch_size):
            chunk = [rows[index] for index in batch]
            hidden, log_probs = _forward(network, chunk, pad_id(tokenizer))
            for line, row in enumerate(chunk):
                if states[row.item] is None:
                    states[row.item] = hidden[line].cpu().numpy()
                targets = torch.tensor(row.targets, dtype=torch.long, device=log_probs.device)
                if row.choice is None:
                    likelihoods[row.item][:] = log_probs[line, 0, targets].double().cpu().numpy()
                else:
                    picked = log_probs[line, : row.width].gather(1, targets.unsqueeze(1))  # (P, 1)
                    likelihoods[row.item][row.choice] = float(picked.double().sum())
            done += len(batch)
            if progress is not None:
                progress(stage, done, len(rows))
    return [_score(state, likelihood) for state, likelihood in zip(states, likelihoods, strict=True)]


def _rows(
    tokenizer: Any,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    completions: Sequence[str] | None,
    system_prompt: str | None,
) -> list[_Row]:
    if len(prompts) != len(choices) or (completions is not None and len(completions) != len(prompts)):
        raise ValueError("prompts, choices and completions must have the same length")
    texts = [
        answer_text(
            render_prompt(tokenizer, prompt, system_prompt), None if completions is None else completions[index]
        )
        for index, prompt in enumerate(prompts)
    ]
    known: dict[str, list[int]] = {}
    rows: list[_Row] = []
    for item, prefix in enumerate(encode(tokenizer, texts)):
        if not prefix:
            raise IsodistillError(f"Prompt {item} turns into no token with the student's tokenizer; it needs text.")
        for choice in choices[item]:
            if choice not in known:
                known[choice] = choice_ids(tokenizer, choice)
        if all(len(known[choice]) == 1 for choice in choices[item]):
            targets = [known[choice][0] for choice in choices[item]]
            rows.append(_Row(item, None, prefix, len(prefix) - 1, targets))
            continue
        for number, choice in enumerate(choices[item]):
            ids = known[choice]
            rows.append(_Row(item, number, [*prefix, *ids[:-1]], len(prefix) - 1, ids))
    return rows


def _forward(model: Any, rows: Sequence[_Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs a batch; returns the state at the answer position (B, H) and log-probabilities (B, P, V)."""
    device = model.get_input_embeddings().weight.device
    # Right padding keeps positions 0, 1, 2, ...; a causal model never looks at what follows.
    ids, mask = pad_batch([row.ids for row in rows], pad, "right", device)  # (B, T)
    width = max(row.width for row in rows)
    positions = torch.tensor(
        [[min(row.start + offset, len(row.ids) - 1) for offset in range(width)] for row in rows], device=device
    )  # (B, P); rows with fewer positions repeat their last one
    with _only_positions(model, positions) as seen:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, P, V)
    state = _full_precision(seen[0][:, 0])  # (B, H)
    return state, torch.log_softmax(_full_precision(logits), dim=-1)


@contextmanager
def _only_positions(model: Any, positions: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Slices the hidden states at the door of the language-model head, so full logits never exist."""
    seen: list[torch.Tensor] = []

    def slice_input(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = args[0]  # (B, T, H)
        index = positions.to(hidden.device).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        seen.append(hidden.gather(1, index))  # (B, P, H)
        return (seen[-1], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(slice_input)
    try:
        yield seen
    finally:
        handle.remove()


def _full_precision(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _score(state: NDArray[np.floating[Any]] | None, likelihood: NDArray[np.float64]) -> AnswerScore:
    assert state is not None  # every item has at least one row
    if not len(likelihood):
        return AnswerScore(state, None, None)
    shifted = np.exp(likelihood - likelihood.max())
    return AnswerScore(state, likelihood, shifted / shifted.sum())
