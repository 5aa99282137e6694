"""`isodistill write` against a server on loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from teacher_server import FaultServer, serving
from writing_helpers import folio_row, good, good_reading, text_of, write_rows

from isodistill.cli.main import run
from isodistill.cli.progress import console
from isodistill.isomers import read_split


def isodistill(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["isodistill", *map(str, arguments)])
    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console(), "_width", 200)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_rows(tmp_path / "folio-train.jsonl", [folio_row()])


class Author(FaultServer):
    """Writes law well, music with a wrong sign, and reads what it wrote."""

    def text(self, body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        assert len(body["messages"]) == 6  # the system message and two worked examples
        if asked.startswith("Task: read\n"):
            return text_of(good_reading())
        return text_of(good()).replace("¬Void(f", "Void(f") if "Domain: music" in asked else text_of(good())


def test_from_the_plan_to_a_rerun_that_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Author(fault_rate=0.4, stall=0.05)) as server:
        command = [
            "write",
            "folio:folio-train.jsonl",
            "--teacher",
            "openai:m",
            "--base-url",
            server.url,
            "--retries",
            "1",
        ]
        both = [*command, "--domains", "law,music", "--price", "1,2"]
        assert isodistill(monkeypatch, *both, "--out", "out", "--dry-run") == 0
        told = capsys.readouterr().out
        assert "plan: 2 members of the problems (1 in train) by openai:m, read back by openai:m; 0 proposals" in told
        assert "at least 4 requests" in told
        assert "at most 8 requests" in told
        assert "cost about" in told
        assert (server.requests, list(tmp_path.iterdir())) == (0, [tmp_path / "folio-train.jsonl"])

        assert isodistill(monkeypatch, *both, "--out", "out", "--max-requests", "1", "--concurrency", "1") == 2
        assert "the budget of 1 requests is spent" in capsys.readouterr().err
        assert isodistill(monkeypatch, *both, "--out", "out", "--incomplete", "keep") == 0
        told = capsys.readouterr().out
        assert "another structure 1" in told
        assert "train__without_music: 1 isomer sets" in told
        (row,) = read_split(tmp_path / "out", "train__without_music")
        assert row.domains == ("folio", "law")
        sent = server.requests
        assert isodistill(monkeypatch, *both, "--out", "again") == 1
        assert "no set is complete, so no data set was written" in capsys.readouterr().out
        assert json.loads((tmp_path / "again.writing.json").read_text())["members"]["music"]["dropped"] == 1
        assert isodistill(monkeypatch, *command, "--domains", "law", "--out", "law") == 0
        assert server.requests == sent
        assert isodistill(monkeypatch, "show", "law") == 0
        assert "Farley deed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--teacher", "symbolic", "--domains", "law"), "symbolic tells proofs and writes no problems"),
        (("--teacher", "openai:m", "--domains", "law", "--incomplete", "fail"), "neither drop nor keep"),
        (("--teacher", "openai:m", "--domains", ""), "No domain is named"),
        (("--teacher", "openai:m", "--domains", "law"), "OPENAI_API_KEY is not set"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isodistill(monkeypatch, "write", "folio:folio-train.jsonl", *arguments, "--out", "out") == 2
    assert words in capsys.readouterr().err
