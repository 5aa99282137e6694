"""Ctrl-C without loss: the first one stops the asking, the second one the waiting."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Holds the first Ctrl-C back while the block runs, so that replies in flight are still kept.

    Outside the main thread signals are left alone.

    Attributes:
        pressed: Whether the user has asked to stop.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._previous: Any = None
        self._active = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._active = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Ends the block if the user has asked to stop.

        Raises:
            KeyboardInterrupt: If so.
        """
        if self.pressed:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        sys.stderr.write("\nisodistill: waiting for the replies in flight; press Ctrl-C again to drop them\n")
