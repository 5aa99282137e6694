"""A real model behind a real server: SmolLM2-135M is too small to write isomers, and everything must end as a count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from served_model import missing, served

from isodistill.isomers import generate, make_config
from isodistill.students import resolve_student
from isodistill.teachers import make_teacher
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.server import ServerLimits
from isodistill.traces import TraceStore
from isodistill.writing import WritingOptions, read_sources, write_isomers, writing_instruction

pytestmark = [
    pytest.mark.student,
    pytest.mark.slow,
    pytest.mark.xdist_group("student"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


def test_a_small_model_ends_in_counted_drops_and_a_rerun_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = make_config(sets=2, validation_sets=0, test_sets=0, depth=(1, 1), deeper=(2, 2), audit=False)
    generate(config, tmp_path / "data")
    sources = read_sources(str(tmp_path / "data"))
    options = WritingOptions(("sport", "music"), Sampling(retries=0), incomplete="keep")
    settings = {"instruction": writing_instruction(), "max_tokens": 160}
    settings["limits"] = ServerLimits(concurrency=2, timeout=300)  # type: ignore[assignment]
    model = resolve_student("smollm2-135m")
    with TraceStore(tmp_path / "traces.sqlite") as store:
        with served(model) as url:
            writer = make_teacher(f"openai:{model}", base_url=url, **settings)
            report = write_isomers(sources, writer, tmp_path / "out", options, store=store)
            replies = store.count()
        assert not store.failures()
        assert sum(report.account.fates().values()) == 4
        # Every request was answered, every answer has a verdict, and every member that failed has a reason.
        assert replies == writer.meter.requests == sum(sum(each.values()) for each in report.account.replies.values())  # type: ignore[attr-defined]
        assert replies >= 4
        assert sum(report.account.reasons().values()) == report.account.fates()["dropped"]
        assert "no reply" not in report.account.reasons()
        assert report.account.fates()["dropped"] >= 3, "so small a model is not expected to write isomers"
        # The server is gone: a rerun that sent one request would fail.
        again = make_teacher(f"openai:{model}", base_url=url, **settings)
        second = write_isomers(sources, again, tmp_path / "again", options, store=store)
        assert again.meter.requests == 0  # type: ignore[attr-defined]
        assert store.count() == replies
    assert second.account == report.account
    told = json.loads(report.record.read_text())
    assert told == json.loads(second.record.read_text())
    with capsys.disabled():
        sys.stdout.write(f"\n{told['members']}\nreplies {told['replies']}, {writer.meter.tokens} tokens\n")  # type: ignore[attr-defined]
