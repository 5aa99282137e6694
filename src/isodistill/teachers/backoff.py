"""When to send again: exponential backoff with jitter, and the server's own word on it."""

from __future__ import annotations

import email.utils
import math
import random
import threading
import time
from collections.abc import Mapping


def delay_before(number: int, base: float, longest: float) -> float:
    """Draws a delay: each range is twice the one before, and half of it is chance, so that clients drift apart.

    Args:
        number: Which repetition it is, from 1.
        base: The range of the first, in seconds.
        longest: The widest range, in seconds.

    Returns:
        Seconds in [range / 2, range].
    """
    span = min(longest, base * 2.0 ** min(number - 1, 32))
    return span * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Reads how long a server asks to be left alone.

    Args:
        headers: The answer's headers.
        now: The time in seconds since 1970; the clock's by default.

    Returns:
        Seconds, at least 0, or ``None`` where it does not ask: ``retry-after-ms``, else ``Retry-After`` as a number
        or as a date (RFC 9110, section 10.2.3).
    """
    for header, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(header, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


class Pause:
    """Lets threads wait together, and be woken together."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def reset(self) -> None:
        """Forgets all pauses."""
        self._until = 0.0
        self._cancelled.clear()

    def cancel(self) -> None:
        """Wakes everybody for good."""
        self._cancelled.set()

    def for_all(self, seconds: float) -> None:
        """Keeps every thread from sending for a while.

        Args:
            seconds: How long from now.
        """
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Keeps this thread alone from sending for a while.

        Args:
            seconds: How long.
        """
        self._cancelled.wait(seconds)

    def wait(self) -> bool:
        """Waits until sending is allowed.

        Returns:
            Whether it is; ``False`` once cancelled.
        """
        while not self._cancelled.is_set():
            left = self._until - time.monotonic()
            if left <= 0:
                return True
            self._cancelled.wait(left)
        return False
