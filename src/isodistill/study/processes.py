"""Worker processes: started together, watched, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

WORKER = "isodistill.study.worker"
"""The module that a worker process runs."""


def run_workers(commands: Mapping[Path, Sequence[str]], threads: int, watch: Callable[[], None]) -> list[int]:
    """Starts worker processes and waits for them; whatever ends this process ends them too.

    Args:
        commands: The arguments of each worker, by the file that takes what it prints.
        threads: The threads of each.
        watch: Called about twice a second, and once when all have ended.

    Returns:
        Their exit codes.
    """
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for log, arguments in commands.items():
            command = [sys.executable, "-m", WORKER, *arguments, "--threads", str(threads)]
            with log.open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment
                    )
                )
        while any(process.poll() is None for process in processes):
            watch()
            time.sleep(0.5)
        watch()
    finally:
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()  # a worker ends when this pipe does
            process.wait()
    return [process.returncode for process in processes]


def threads_of(workers: int) -> int:
    """Shares the cores out.

    Args:
        workers: The number of worker processes.

    Returns:
        The threads of each; not more than the environment's ``OMP_NUM_THREADS``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores // workers, int(limit) if limit.isdigit() else cores))
