"""Token-level teaching: a local model's distributions over completions, whoever wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from isodistill.errors import IsodistillError
from isodistill.prompting import prompt_messages, render_prompt
from isodistill.teachers.local import load_local
from isodistill.traces.signals import TokenSignal, check_same_vocabulary, vocabulary_digest
from isodistill.traces.store import TraceStore

Pair = tuple[str, str]
"""A problem's text and a completion of it."""


@dataclass
class Scorer:
    """Scores completions token by token; the student's own samples as well as a teacher's traces.

    Args:
        network: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        name: The name that its scores are kept under.
        k: How many of the likeliest tokens are kept at each place; with the vocabulary's size nothing is lost.
        system_prompt: The system message that the student is trained with: the teacher sees what the student sees.
        batch_size: Completions in a batch.
        store: Where scores are kept, so that a rerun computes only what is missing; or ``None``.
    """

    network: Any
    tokenizer: Any
    name: str
    k: int
    system_prompt: str | None = None
    batch_size: int = 16
    store: TraceStore | None = None

    def __post_init__(self) -> None:
        """Checks k against the vocabulary."""
        width = int(self.network.config.vocab_size)
        if not 1 <= self.k <= width:
            raise IsodistillError(f"top-k {self.k} is not between 1 and the vocabulary's {width} tokens; change it")
        self._vocabulary = vocabulary_digest(self.tokenizer)

    @staticmethod
    def load(name: str, k: int, device: str = "cpu", **options: Any) -> Scorer:
        """Loads a local model as a scorer.

        Args:
            name: See `LocalTeacher`.
            k: See `Scorer`.
            device: Where the model runs.
            **options: The other arguments of `Scorer`.

        Returns:
            The scorer.

        Raises:
            IsodistillError: If the model cannot be loaded, or k is larger than its vocabulary.
        """
        network, tokenizer = load_local(name, device)
        return Scorer(network, tokenizer, name, k, **options)

    def check_student(self, tokenizer: Any) -> None:
        """Makes sure that a student can learn from these scores.

        Args:
            tokenizer: The student's tokenizer.

        Raises:
            IsodistillError: If its vocabulary differs from the teacher's.
        """
        check_same_vocabulary(self.tokenizer, tokenizer)

    def score(self, pairs: Sequence[Pair], progress: Callable[[int, int], None] | None = None) -> list[TokenSignal]:
        """Gives the teacher's distributions at each token of each completion, its end token included.

        Args:
            pairs: Problems and completions; untrusted texts.
            progress: Told how many are done, and how many there are.

        Returns:
            One signal for each pair, in order. Row t is the distribution of token t given the prompt and the tokens
            before it.

        Raises:
            IsodistillError: If a text does not fit into the model's context.
        """
        encoded = [encode_pair(self.tokenizer, prompt, completion, self.system_prompt) for prompt, completion in pairs]
        self._check_lengths(encoded)
        names = [signal_key(self.tokenizer, *pair, self.system_prompt) for pair in pairs]
        signals: list[TokenSignal | None] = [self._find(*name) for name in names]
        missing = [place for place, signal in enumerate(signals) if signal is None]
        done = len(pairs) - len(missing)
        if progress is not None:
            progress(done, len(pairs))
        for batch in _by_length(missing, encoded, self.batch_size):
            for place, signal in zip(batch, self._forward([encoded[place] for place in batch]), strict=True):
                signals[place] = signal
                if self.store is not None:
                    self.store.add_signal(*names[place], self.name, self._vocabulary, self.k, signal)
            done += len(batch)
            if progress is not None:
                progress(done, len(pairs))
        return [signal for signal in signals if signal is not None]

    def _forward(self, batch: list[tuple[list[int], list[int]]]) -> Iterator[TokenSignal]:
        rows = [prompt + completion for prompt, completion in batch]
        length = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        device = self.network.device
        # Padded on the right: causal attention never looks there, so no row depends on its neighbours.
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=device)  # (B, T)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            logits = self.network(input_ids=ids, attention_mask=mask).logits  # (B, T, V)
        for row, (prompt, completion) in enumerate(batch):
            # The logits at a position are about the next token.
            about = logits[row, len(prompt) - 1 : len(prompt) + len(completion) - 1]  # (C, V)
            top = torch.log_softmax(about.float(), dim=-1).topk(self.k, dim=-1)  # (C, k)
            yield TokenSignal(
                np.asarray(completion, dtype=np.int64),
                top.indices.cpu().numpy().astype(np.int64),
                top.values.cpu().numpy().astype(np.float32),
            )

    def _find(self, prompt: str, completion: str) -> TokenSignal | None:
        if self.store is None:
            return None
        return self.store.find_signal(prompt, completion, self.name, self._vocabulary, self.k)

    def _check_lengths(self, encoded: list[tuple[list[int], list[int]]]) -> None:
        limit = getattr(self.network.config, "max_position_embeddings", None)
        longest = max((len(prompt) + len(completion) for prompt, completion in encoded), default=0)
        if limit is not None and longest > limit:
            raise IsodistillError(
                f"a completion with its problem takes {longest} tokens, more than the scorer's {limit} positions; drop"
                " long traces with a smaller --max-tokens or take a scorer with a longer context"
            )


def signal_key(tokenizer: Any, prompt: str, completion: str, system_prompt: str | None = None) -> tuple[str, str]:
    """Names a completion and what comes before it, as the store keeps token distributions.

    Args:
        tokenizer: A transformers tokenizer; its chat template renders the problem.
        prompt: The problem's text.
        completion: The completion.
        system_prompt: The system message, or ``None``.

    Returns:
        The digests of the rendered prompt and of the completion.
    """
    return _digest(render_prompt(tokenizer, prompt, system_prompt)), _digest(completion)


def encode_pair(
    tokenizer: Any, prompt: str, completion: str, system_prompt: str | None = None
) -> tuple[list[int], list[int]]:
    """Tokenises a problem and a completion as the trainer does.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: The problem's text.
        completion: The completion.
        system_prompt: The system message, or ``None``.

    Returns:
        The ids of the rendered prompt, and those of the completion with its end token.

    Raises:
        IsodistillError: If no token comes before the completion.
    """
    if getattr(tokenizer, "chat_template", None):
        messages = prompt_messages(prompt, system_prompt)
        start = _ids(tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True))
        turn = [*messages, {"role": "assistant", "content": completion}]
        whole = _ids(tokenizer.apply_chat_template(turn, tokenize=True))
    else:
        text, end = render_prompt(tokenizer, prompt, system_prompt), tokenizer.eos_token or ""
        start = tokenizer(text)["input_ids"]
        whole = tokenizer(text + completion.removesuffix(end) + end)["input_ids"]
    # As in TRL: the completion starts where the two part, which a token across the boundary can move.
    shared = next((place for place, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), len(start))
    if not shared:
        raise IsodistillError(f"the problem {prompt[:60]!r} turns into no token before its completion; it needs text")
    return whole[:shared], whole[shared:]


def _ids(encoded: Any) -> list[int]:
    return list(encoded["input_ids"] if hasattr(encoded, "keys") else encoded)


def _by_length(places: list[int], encoded: list[tuple[list[int], list[int]]], batch_size: int) -> Iterator[list[int]]:
    """Groups texts of similar length, longest first: what does not fit in memory fails at once."""
    order = sorted(places, key=lambda place: (-len(encoded[place][0]) - len(encoded[place][1]), place))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
