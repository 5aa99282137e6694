"""The most memory that a stretch of work held: of the accelerator where there is one, else of the process."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


class PeakMemory:
    """Notes the most memory held from here on: of the current CUDA device's allocator, else the process's resident set.

    Args:
        process: Linux's folder on the process; where it is missing or closed, nothing is measured.
    """

    def __init__(self, process: Path = _PROCESS) -> None:
        self._process = process
        gc.collect()
        self._measured = True
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            # What earlier runs freed goes back first: else it counts as held.
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)
            (process / "clear_refs").write_text("5", encoding="ascii")  # the peak begins anew, see proc(5)
        except (OSError, TypeError):  # not Linux, or a sandbox: CDLL(None) is a TypeError on Windows
            self._measured = False

    def read(self) -> int | None:
        """Returns the peak so far.

        Returns:
            The peak in bytes; ``None`` where it can't be measured.
        """
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() or None  # nothing was held there: the work ran on the CPU
        if not self._measured:
            return None
        status = (self._process / "status").read_text(encoding="utf-8")
        kibi = status.partition("VmHWM:")[2].split()
        return int(kibi[0]) * 1024 if kibi else None  # some sandboxes leave the line out
