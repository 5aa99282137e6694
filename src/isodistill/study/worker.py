"""Works through the cells of a stage, or makes what they need; several workers and machines may share a folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

from filelock import FileLock, Timeout

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.study.cells import Cell
from isodistill.study.execute import Students, clear, run_cell
from isodistill.study.folder import ERROR_FILE, StudyFolder
from isodistill.study.provide import KINDS, make_some

LOG_FILE = "log.txt"


def work(folder: StudyFolder, cells: Sequence[Cell], students: Students | None = None, capture: bool = False) -> None:
    """Runs every cell that is open and that nobody else works on.

    A cell that fails is recorded and does not stop the others.

    Args:
        folder: The study.
        cells: The cells, in the order in which they are tried.
        students: Gives the students.
        capture: Whether what is printed meanwhile goes to the cell's log.
    """
    students = students or Students()
    for cell in cells:
        if folder.state(cell.slug) != "open":
            continue
        try:
            with FileLock(folder.lock_file(cell.slug), timeout=0):
                if folder.state(cell.slug) == "open":
                    _attempt(folder, cell, students, capture)
        except Timeout:
            continue


def _attempt(folder: StudyFolder, cell: Cell, students: Students, capture: bool) -> None:
    place = folder.cell_folder(cell.slug)
    clear(place)
    with ExitStack() as stack:
        log = stack.enter_context((place / LOG_FILE).open("a", encoding="utf-8", errors="replace"))
        if capture:
            stack.enter_context(redirect_stdout(log))
            stack.enter_context(redirect_stderr(log))
        try:
            run_cell(folder, cell, students)
        except Exception as error:
            traceback.print_exc(file=log)
            told = str(error).strip().splitlines()
            reason = told[0] if told else "no reason was told"
            if not isinstance(error, IsodistillError):
                reason = f"{type(error).__name__}: {reason}"
            write_text_atomically(place / ERROR_FILE, json.dumps({"reason": reason}, indent=1) + "\n")


def take_shard(cells: Sequence[Cell], shard: tuple[int, int]) -> list[Cell]:
    """Picks the cells of one shard.

    Args:
        cells: The cells of a stage.
        shard: (i, n) with 0 <= i < n.

    Returns:
        Every n-th cell, beginning with the i-th.
    """
    return list(cells[shard[0] :: shard[1]])


def main() -> None:
    """Runs a worker process: it ends when its cells are done, or at once when its parent has ended."""
    parser = argparse.ArgumentParser(prog="python -m isodistill.study.worker")
    parser.add_argument("folder", type=Path)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--stage", choices=("trial", "final"))
    task.add_argument("--make", choices=KINDS, help="Make these, and run no cells.")
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--place", type=int, default=0, help="This worker's number.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("names", nargs="*", help="What to make.")
    arguments = parser.parse_args()
    threading.Thread(target=_follow_parent, daemon=True).start()

    import torch

    torch.set_num_threads(arguments.threads)
    quiet_libraries()
    folder = StudyFolder.open(arguments.folder)
    if arguments.make:
        make_some(folder, arguments.make, arguments.names)
        return
    cells = take_shard(folder.load_plan().cells[arguments.stage], tuple(arguments.shard))
    # Each begins at a place of its own, so that two workers seldom want the same cell or wait for each other's student.
    work(folder, [*cells[arguments.place :], *cells[: arguments.place]], capture=True)


def quiet_libraries() -> None:
    """Keeps the bars of other libraries out of the logs."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def _follow_parent() -> None:
    """Ends this process when the pipe from its parent breaks: no orphan goes on after a kill -9."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
