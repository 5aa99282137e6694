"""Who is asking for what: claims keep two processes that share a store from paying for the same reply."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
from typing import Literal

Claim = Literal["mine", "taken", "done"]


class Claims:
    """The claims of one process; every call stands inside a transaction of the store.

    A claim ends with its reply, with its time, or with its process: one of a process that was killed on this machine
    is taken over at once.

    Args:
        connection: The store's connection.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"

    def claim(self, key: str, seconds: float) -> Claim:
        """Claims a key unless another living process holds it.

        Args:
            key: The recipe's digest.
            seconds: How long the claim holds.

        Returns:
            ``"mine"`` or ``"taken"``.
        """
        now = time.time()
        row = self._connection.execute("SELECT owner, expires FROM claims WHERE key = ?", (key,)).fetchone()
        if row is not None and row[0] != self._owner and row[1] > now and self._lives(row[0]):
            return "taken"
        self._connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, self._owner, now + seconds))
        return "mine"

    def release(self, key: str) -> None:
        """Gives a key back.

        Args:
            key: The recipe's digest.
        """
        self._connection.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))

    def release_all(self) -> None:
        """Gives every key of this process back."""
        self._connection.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def _lives(self, owner: str) -> bool:
        """Tells whether the owner may still be at work; of another machine only the clock can tell."""
        host, process, _ = owner.rsplit("/", 2)
        if host != socket.gethostname() or int(process) == os.getpid() or os.name == "nt":
            return True  # on Windows signal 0 would end the process instead of asking after it
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
