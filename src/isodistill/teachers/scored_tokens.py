"""A server's tokens with what else it could have written, as they come with a chat completion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ScoredToken:
    """A token that a server wrote, with what else it could have written.

    Args:
        text: Its bytes.
        top: The likeliest tokens at its place, each with its natural log-probability.
    """

    text: bytes
    top: tuple[tuple[bytes, float], ...]


def read_scored_tokens(content: Any) -> tuple[ScoredToken, ...]:
    """Reads the log-probabilities of a chat completion.

    Args:
        content: The list ``choices[0].logprobs.content`` of the `openai` client; untrusted.

    Returns:
        The tokens with their alternatives. Those that a server calls impossible are left out.

    Raises:
        ValueError: If a number or a byte is none.
    """

    def spelt(entry: Any) -> bytes:
        return bytes(entry.bytes) if entry.bytes is not None else str(entry.token).encode("utf-8", "replace")

    tokens = []
    for entry in content:
        top = [(spelt(each), float(each.logprob)) for each in entry.top_logprobs]
        if any(math.isnan(logprob) or logprob > 0.01 for _, logprob in top):
            raise ValueError("a log-probability is not one")
        tokens.append(ScoredToken(spelt(entry), tuple((b, min(p, 0.0)) for b, p in top if p > -1000)))
    return tuple(tokens)
