"""Counts what a teacher costs, and keeps it within a budget."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from isodistill.errors import IsodistillError


class BudgetSpent(IsodistillError):
    """The budget does not allow another request."""


@dataclass(frozen=True)
class Prices:
    """What a server charges.

    Args:
        prompt: For a million tokens read.
        completion: For a million tokens written.
    """

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Adds up tokens.

        Args:
            prompt_tokens: Tokens read.
            completion_tokens: Tokens written.

        Returns:
            The cost in the currency of the prices.
        """
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class Meter:
    """Requests and tokens of one run; threads may share it.

    A request is let through only if even its longest reply would stay within the budget, so that the budget is never
    exceeded; what it did not use is given back.

    Args:
        max_requests: The most requests, or ``None``.
        max_tokens: The most tokens, read and written, or ``None``.

    Attributes:
        requests: Requests sent.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    def __init__(self, max_requests: int | None = None, max_tokens: int | None = None) -> None:
        for name, value in (("requests", max_requests), ("tokens", max_tokens)):
            if value is not None and value < 1:
                raise IsodistillError(f"the budget of {value} {name} allows nothing; give at least 1")
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self._reserved = 0
        self._changed = threading.Condition()

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def reserve(self, tokens: int, requests: int = 1) -> None:
        """Lets requests through, or waits for other threads to give back what they do not use.

        Args:
            tokens: The most tokens that they may take together.
            requests: How many they are.

        Raises:
            BudgetSpent: If they do not fit whatever the others give back.
        """
        mend = "raise it and run the same command again"
        with self._changed:
            while True:
                if self.max_requests is not None and self.requests + requests > self.max_requests:
                    left = self.max_requests - self.requests
                    state = f"has {left} left, too few for a batch of {requests}" if left else "is spent"
                    raise BudgetSpent(f"the budget of {self.max_requests} requests {state}; {mend}")
                if self.max_tokens is None or self.tokens + self._reserved + tokens <= self.max_tokens:
                    break
                if not self._reserved:
                    raise BudgetSpent(
                        f"the budget of {self.max_tokens} tokens has {self.max_tokens - self.tokens} left, and what is"
                        f" next may take {tokens}; {mend}"
                    )
                self._changed.wait()
            self._reserved += tokens
            self.requests += requests

    def settle(self, reserved: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Books what a request has taken.

        Args:
            reserved: What `reserve` was called with, 0 where it was not.
            prompt_tokens: Tokens read.
            completion_tokens: Tokens written.
        """
        with self._changed:
            self._reserved -= reserved
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens
            self._changed.notify_all()


def estimate_tokens(text: str) -> int:
    """Estimates a text's tokens without a tokenizer.

    Args:
        text: Any text.

    Returns:
        A number that English text rarely exceeds: a token for every three characters.
    """
    return len(text) // 3 + 1
