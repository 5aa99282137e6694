"""Unfinished data sets: written piece by piece beside their place, so that a killed generation goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.isomers.sets import IsomerSet
from isodistill.isomers.store import SCHEMA, to_table

_STATE = "draft.json"


@dataclass(frozen=True)
class Piece:
    """What is remembered of a finished piece beside its sets.

    Args:
        problems: How many problems it has.
        state: What the generator needs to go on after it; plain data.
    """

    problems: int
    state: Mapping[str, Any]


class Draft:
    """A folder of finished pieces. A piece counts once its note is there, and the note is written last.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pieces(self, group: str) -> list[Piece]:
        """Lists the finished pieces of a group of problems.

        Args:
            group: The group.

        Returns:
            The pieces in order; what stands after a gap is not counted.

        Raises:
            IsodistillError: If a note is damaged.
        """
        found: list[Piece] = []
        while (note := self._note(group, len(found))).is_file():
            try:
                data = json.loads(note.read_text(encoding="utf-8"))
                found.append(Piece(int(data["problems"]), dict(data["state"])))
            except (ValueError, KeyError, TypeError):
                raise IsodistillError(f"The note {note} is damaged; delete the folder {self.folder}.") from None
        return found

    def add(self, group: str, number: int, splits: Mapping[str, Sequence[IsomerSet]], piece: Piece) -> None:
        """Writes a piece.

        Args:
            group: The group of problems.
            number: The piece's number in the group, from 0.
            splits: The sets of each split.
            piece: What is remembered of it.
        """
        for split, sets in splits.items():
            pq.write_table(to_table(sets), self._part(group, number, split))
        note = json.dumps({"problems": piece.problems, "state": piece.state}, separators=(",", ":"))
        write_text_atomically(self._note(group, number), note)

    def join(self, group: str, split: str, target: Path) -> None:
        """Puts the pieces of a split together in one file, a piece at a time.

        Args:
            group: The group of problems that the split shows.
            split: The split.
            target: The file to write.
        """
        with pq.ParquetWriter(target, SCHEMA) as writer:
            for number in range(len(self.pieces(group))):
                writer.write_table(pq.read_table(self._part(group, number, split), schema=SCHEMA))

    def discard(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, group: str, number: int) -> Path:
        return self.folder / f"{group}-{number:05d}.json"

    def _part(self, group: str, number: int, split: str) -> Path:
        return self.folder / f"{group}-{number:05d}.{split}.parquet"


@contextmanager
def open_draft(out: Path, source: str) -> Iterator[Draft]:
    """Opens the draft of a data set: the one that an earlier run of the same source left, or a new one.

    Args:
        out: The data set's place.
        source: Everything that determines the data; a draft of another source is removed.

    Yields:
        The draft. It stays where it is when the block raises.

    Raises:
        IsodistillError: If another process is writing it, or it cannot be written.
    """
    out = out.absolute()
    folder = out.parent / f".{out.name}.draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w", encoding="utf-8") as lock:
            _lock(lock, folder)
            state = folder / _STATE
            if not state.is_file() or state.read_text(encoding="utf-8") != source:
                for path in folder.iterdir():
                    if path.name != "lock":
                        path.unlink()
                write_text_atomically(state, source)
            yield Draft(folder)
    except OSError as error:
        raise IsodistillError(
            f"The data set {out} could not be written: {error}; mend that and run again to go on from {folder}."
        ) from error


def _lock(file: Any, folder: Path) -> None:
    """Keeps other processes out of a draft; the lock ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise IsodistillError(
            f"Another process is writing {folder}; wait for it, or name another place for the data set."
        ) from None
