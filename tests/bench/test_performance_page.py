"""docs/performance.md is what the raw results in docs/performance say."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_performance", ROOT / "studies" / "write_performance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_written_from_the_raw_results(script: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "performance", tmp_path / "performance")
    page = (ROOT / "docs" / "performance.md").read_text()
    (tmp_path / "performance.md").write_text(page)
    script.main(tmp_path)
    assert (tmp_path / "performance.md").read_text() == page, "run make performance"
    figure = "performance/costs.svg"
    assert (tmp_path / figure).read_text() == (ROOT / "docs" / figure).read_text(), "run make performance"


def test_a_missing_benchmark_is_named_and_a_missed_target_said(script: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "performance", tmp_path / "performance")
    (tmp_path / "performance.md").write_text("<!-- timings step-7 -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="step-7"):
        script.main(tmp_path)
    table = script.BenchTable.model_validate_json((tmp_path / "performance" / "step-512.json").read_text())
    slow = [
        timing.model_copy(update={"ratio": 1.36 if timing.case == "iga (weight)" else timing.ratio})
        for timing in table.timings
    ]
    lines = script.targets({"step-512": table.model_copy(update={"timings": slow})})
    assert any("iga (weight) /" in line and "1.36" in line and "**missed**" in line for line in lines)
    assert any("iga (weight, rank 8)" in line and "met" in line for line in lines)
