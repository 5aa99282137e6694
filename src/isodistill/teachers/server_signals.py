"""Token distributions that a server returned with a reply, laid over the tokens of the student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from isodistill.errors import IsodistillError
from isodistill.students import resolve_student
from isodistill.teachers.base import Reply
from isodistill.teachers.scored_tokens import ScoredToken
from isodistill.teachers.scoring import encode_pair, signal_key
from isodistill.teachers.token_bytes import spans, token_bytes
from isodistill.traces.signals import TokenSignal, vocabulary_digest
from isodistill.traces.store import TraceStore

_LEAST_SHARE = 0.9
"""Fewer tokens in common than this: another tokenizer. A sampled text can split a word in an unusual way, rarely."""

_SAMPLE = 200
"""Tokens seen before that is judged in the middle of a run."""


@dataclass
class SignalKeeper:
    """Keeps what a server says of its tokens, in the student's tokens.

    A place has a distribution where a token of the server and one of the student cover the same bytes. Elsewhere (a
    line that was written anew, the end of the text on servers that leave it out) it is empty, and the trace alone
    teaches. Of the alternatives those that are no token of the student count among the others.

    Args:
        tokenizer: The student's tokenizer.
        name: The name that the distributions are kept under.
        k: How many tokens were asked for at each place.
        store: Where they are kept.
        system_prompt: The system message that the student is trained with.
    """

    tokenizer: Any
    name: str
    k: int
    store: TraceStore
    system_prompt: str | None = None
    tokens: int = field(default=0, init=False)
    """The student's tokens in the server's texts so far."""
    shared: int = field(default=0, init=False)
    """Those that are the server's too."""

    def __post_init__(self) -> None:
        """Spells out the student's vocabulary."""
        self._bytes = token_bytes(self.tokenizer)
        self._ids: dict[bytes, int] = {}
        for index, spelt in sorted(self._bytes.items()):
            self._ids.setdefault(spelt, index)
        self._vocabulary = vocabulary_digest(self.tokenizer)
        self._alternatives = self._known_alternatives = 0

    @classmethod
    def load(cls, student: str, name: str, k: int, store: TraceStore, system_prompt: str | None = None) -> SignalKeeper:
        """Makes a keeper for a student's tokens; its weights are not loaded.

        Args:
            student: See `isodistill.students.resolve_student`.
            name: See `SignalKeeper`.
            k: See `SignalKeeper`.
            store: See `SignalKeeper`.
            system_prompt: See `SignalKeeper`.

        Returns:
            The keeper.

        Raises:
            IsodistillError: If the student or its tokenizer cannot be found.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(resolve_student(student))
        except (OSError, ValueError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise IsodistillError(f"student {student} cannot be loaded: {first_line}") from error
        return cls(tokenizer, name, k, store, system_prompt)

    def keep(self, prompt: str, completion: str, rationale: str, reply: Reply) -> None:
        """Keeps the distributions of one reply.

        Args:
            prompt: The problem's text.
            completion: What the student is trained to write.
            rationale: The part of it that stands in the reply as it is.
            reply: The reply; untrusted.

        Raises:
            IsodistillError: If there are no distributions, or so far the server's tokens are not the student's.
        """
        if reply.tokens is None:
            raise IsodistillError(
                f"the server of {self.name} returned no log-probabilities, which --top-k asks for; take a server that"
                " returns them, a local --scorer hf:PATH instead, or leave --top-k out"
            )
        signal = self._align(prompt, completion, rationale, reply)
        key = signal_key(self.tokenizer, prompt, completion, self.system_prompt)
        self.store.add_signal(*key, self.name, self._vocabulary, self.k, signal)
        if self.tokens >= _SAMPLE:
            self.check()

    def check(self) -> None:
        """Judges whether the server has the student's tokenizer.

        Raises:
            IsodistillError: If too few of the tokens are the same.
        """
        share = self.shared / max(self.tokens, 1)
        alternatives = self._known_alternatives / max(self._alternatives, 1)
        if self.tokens and min(share, alternatives) < _LEAST_SHARE:
            raise IsodistillError(
                f"the server's tokens are not the student's: {share:.0%} of {self.tokens} tokens and"
                f" {alternatives:.0%} of the alternatives are the same, so its distributions cannot be compared; take"
                " a teacher of the student's own model family, or leave --top-k out and train on the traces alone"
            )

    def _align(self, prompt: str, completion: str, rationale: str, reply: Reply) -> TokenSignal:
        _, ids = encode_pair(self.tokenizer, prompt, completion, self.system_prompt)
        wanted, written = (text.encode("utf-8", "replace") for text in (completion, reply.text))
        scored = reply.tokens or ()
        start = max(written.find(rationale.encode("utf-8", "replace") if rationale else wanted), 0)
        pairs = zip(wanted, written[start:], strict=False)
        common = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(written) - start))
        places = spans(written, [token.text for token in scored])
        there = {(a - start, b - start, token.text): token for (a, b), token in zip(places, scored, strict=True)}
        top_ids = np.zeros((len(ids), self.k), np.int64)
        logprobs = np.full((len(ids), self.k), -np.inf, np.float32)
        mine = [self._bytes.get(index, b"") for index in ids]
        for row, ((a, b), spelt) in enumerate(zip(spans(wanted, mine), mine, strict=True)):
            if b > common:
                break
            # A special token takes no room in the text; its name must be the same.
            token = there.get((a, b, spelt)) or there.get((a, b, spelt.lstrip(b" ")))
            self.tokens += b > a
            self.shared += b > a and token is not None
            if token is not None:
                self._fill(top_ids[row], logprobs[row], token)
        return TokenSignal(np.asarray(ids, np.int64), top_ids, logprobs)

    def _fill(self, ids: Any, logprobs: Any, token: ScoredToken) -> None:
        """Writes one place's alternatives, likeliest first, each token once."""
        known: dict[int, float] = {}
        for spelt, logprob in sorted(token.top, key=lambda entry: -entry[1])[: self.k]:
            index = self._ids.get(spelt)
            self._alternatives += 1
            self._known_alternatives += index is not None
            if index is not None:
                known.setdefault(index, logprob)
        for slot, (index, logprob) in enumerate(known.items()):
            ids[slot], logprobs[slot] = index, logprob
