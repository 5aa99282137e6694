"""docs/performance.md is what the raw results in docs/performance say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import write_performance

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_written_from_the_raw_results(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "performance", tmp_path / "performance")
    page = (ROOT / "docs" / "performance.md").read_text()
    (tmp_path / "performance.md").write_text(page)
    write_performance.main(tmp_path)
    assert (tmp_path / "performance.md").read_text() == page, "run make performance"
    figure = "performance/costs.svg"
    assert (tmp_path / figure).read_text() == (ROOT / "docs" / figure).read_text(), "run make performance"


def test_a_missing_benchmark_is_named_and_a_missed_target_said(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "performance", tmp_path / "performance")
    (tmp_path / "performance.md").write_text("<!-- timings step-7 -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="step-7"):
        write_performance.main(tmp_path)
    table = write_performance.BenchTable.model_validate_json((tmp_path / "performance" / "step-512.json").read_text())
    slow = [
        timing.model_copy(update={"ratio": 1.36 if timing.case == "iga (weight)" else timing.ratio})
        for timing in table.timings
    ]
    lines = write_performance.targets({"step-512": table.model_copy(update={"timings": slow})})
    assert any("iga (weight) /" in line and "1.36" in line and "**missed**" in line for line in lines)
    assert any("iga (weight, rank 8)" in line and "met" in line for line in lines)
