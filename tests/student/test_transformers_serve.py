"""Distillation over a real server: `transformers serve` on loopback, with the built-in student as the teacher."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from served_model import missing, served

from isodistill.isomers import generate, make_config, read_split
from isodistill.students import resolve_student
from isodistill.teachers import SymbolicTeacher, make_teacher
from isodistill.teachers.distil import STATISTICS_FILE, DistilOptions, distil
from isodistill.teachers.instruction import Instruction
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.server import ServerLimits
from isodistill.traces import TraceStore

pytestmark = [
    pytest.mark.student,
    pytest.mark.slow,
    pytest.mark.xdist_group("student"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


def test_40_problems_over_a_real_server_and_a_rerun_that_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = make_config(sets=13, validation_sets=0, test_sets=0, depth=(1, 1), deeper=(2, 2), audit=False)
    generate(config, tmp_path / "data")
    # Solved problems are the only instruction that so small a model takes in.
    rows = read_split(tmp_path / "data", "train")
    examples = list({row.answer: row for row in rows}.values())[:2]
    shots = tuple(
        (row.members[place].prompt, SymbolicTeacher("short").explain(row, row.members[place]).completion)
        for place, row in enumerate(examples)
    )
    options = DistilOptions(
        sampling=Sampling(retries=0),
        splits=("train",),
        limit_sets=10,
        incomplete="drop",
        fill_from=SymbolicTeacher("short"),
    )
    settings = {"instruction": Instruction("Answer by logic.", shots), "max_tokens": 48}
    settings["limits"] = ServerLimits(concurrency=2, timeout=120)
    model = resolve_student("smollm2-135m")
    with TraceStore(tmp_path / "traces.sqlite") as store:
        with served(model) as url:
            teacher = make_teacher(f"openai:{model}", base_url=url, **settings)
            report = distil(tmp_path / "data", teacher, tmp_path / "out", options=options, store=store)
            replies = store.count()
        assert report.members == 40
        passed = sum(group.accepted for group in report.statistics.values())
        assert replies == 40
        assert passed > 0
        assert report.filled == 40 - passed
        assert not store.failures()
        # The server is gone: a rerun that sent one request would fail.
        again = make_teacher(f"openai:{model}", base_url=url, **settings)
        second = distil(tmp_path / "data", again, tmp_path / "again", options=options, store=store)
        assert again.meter.requests == 0  # type: ignore[attr-defined]
        assert store.count() == replies
    assert second.statistics == report.statistics
    assert read_split(tmp_path / "again", "train") == read_split(tmp_path / "out", "train")
    written = json.loads((tmp_path / "out" / STATISTICS_FILE).read_text())
    with capsys.disabled():
        rates = ", ".join(f"{row['domain']} {row['pass_rate']:.0%}" for row in written["groups"])
        sys.stdout.write(f"\npassed {passed} of 40 at the first attempt ({rates}); {teacher.meter.tokens} tokens\n")  # type: ignore[attr-defined]
