"""The most memory that a training held."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from isodistill.study.memory import PeakMemory

MEBI = 2**20


def measured(memory: PeakMemory) -> int:
    peak = memory.read()
    if peak is None:
        pytest.skip("this system does not tell a process's peak memory")
    return peak


@pytest.mark.skipif(torch.cuda.is_available(), reason="the process is measured where there is no accelerator")
def test_the_peak_is_of_the_stretch_alone_and_outlives_what_was_freed() -> None:
    before = torch.ones(64 * MEBI)  # 256 MiB that an earlier run held
    del before
    memory = PeakMemory()
    base = measured(memory)
    held = torch.ones(32 * MEBI)  # 128 MiB
    with_it = measured(memory)
    del held
    assert 120 * MEBI <= with_it - base <= 160 * MEBI
    assert abs(measured(memory) - with_it) < 4 * MEBI  # the kernel counts in batches
    assert measured(PeakMemory()) < with_it - 100 * MEBI


@pytest.mark.skipif(torch.cuda.is_available(), reason="the process is measured where there is no accelerator")
def test_where_the_system_does_not_tell_nothing_is_measured(tmp_path: Path) -> None:
    assert PeakMemory(process=tmp_path / "missing").read() is None
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t 1000 kB\n")
    assert PeakMemory(process=tmp_path).read() is None
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t 2000 kB\nVmRSS:\t 1000 kB\n")
    assert PeakMemory(process=tmp_path).read() == 2000 * 1024
