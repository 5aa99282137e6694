"""`isodistill distill` and `isodistill traces` against a server on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from teacher_server import FaultServer, make_sets, serving, write_data

from isodistill.cli.main import run
from isodistill.cli.progress import console
from isodistill.isomers import generate, make_config, read_split
from isodistill.traces import TraceStore


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
    # The console keeps the width that COLUMNS had when an earlier test made it, and a narrow table breaks its cells.
    monkeypatch.setattr(console(), "_width", 200)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", {"train": make_sets(8), "validation": make_sets(2), "iid": make_sets(3)})


def test_a_server_from_plan_to_prune(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(FaultServer(wrong_rate=0.3)) as server:
        command = ("distill", data, "--teacher", "openai:m", "--base-url", server.url, "--price", "1,2")
        assert isodistill(monkeypatch, *command, "--out", "out", "--dry-run") == 0
        plan = capsys.readouterr().out
        assert "32 problems (32 in train, 8 in validation), 0 settled" in plan
        assert "at least 32 requests" in plan
        assert "at most 128 requests" in plan
        assert "cost about" in plan
        assert server.requests == 0
        assert not (tmp_path / "traces.sqlite").exists()
        assert not (tmp_path / "out").exists()

        assert isodistill(monkeypatch, *command, "--out", "out", "--max-requests", "20") == 2
        error = capsys.readouterr().err
        assert "the budget of 20 requests is spent" in error
        assert server.requests == 20
        assert not (tmp_path / "out").exists()

        assert isodistill(monkeypatch, *command, "--out", "out") == 0
        told = capsys.readouterr().out
        assert "20 settled" in told or "settled by the store" in told
        assert "wrong answer" in told
        assert "cost 0." in told
        sent = server.requests
        assert isodistill(monkeypatch, *command, "--out", "again") == 0
        assert server.requests == sent
        assert "nothing to send" in capsys.readouterr().out
    assert read_split(tmp_path / "out", "train") == read_split(tmp_path / "again", "train")
    assert all(member.completion for row in read_split(tmp_path / "out", "validation") for member in row.members)
    assert not any(member.completion for row in read_split(tmp_path / "out", "iid") for member in row.members)

    assert isodistill(monkeypatch, "traces", "list", "--rows", "3") == 0
    told = capsys.readouterr().out
    assert "openai:m" in told
    assert "wrong answer" in told
    with TraceStore(tmp_path / "traces.sqlite", create=False) as store:
        count, rejected = store.count(), [record.key for record in store.select() if not record.accepted]
    assert isodistill(monkeypatch, "traces", "show", rejected[0][:16]) == 0
    told = capsys.readouterr().out
    assert "verdict: wrong answer" in told
    assert "--- reply\nFirst I look at" in told
    assert isodistill(monkeypatch, "traces", "export", "all.jsonl", "--verdict", "accepted") == 0
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(rows) == count - len(rejected)
    capsys.readouterr()
    assert isodistill(monkeypatch, "traces", "prune", "--verdict", "rejected") == 0
    assert f"{len(rejected)} replies and 0 token distributions would be deleted" in capsys.readouterr().out
    assert isodistill(monkeypatch, "traces", "prune", "--verdict", "rejected", "--yes") == 0
    with TraceStore(tmp_path / "traces.sqlite", create=False) as store:
        assert store.count() == count - len(rejected)


def test_hostile_replies_reach_the_terminal_as_text(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Hostile(FaultServer):
        def text(self, body: dict[str, object]) -> str:
            return "\x1b[2J[red]Look[/red] \u202e\nAnswer: [bold]\x07True[/bold]"

    with serving(Hostile()) as server:
        command = ("distill", data, "--teacher", "openai:[b]m", "--base-url", server.url, "--retries", "0")
        assert isodistill(monkeypatch, *command, "--out", "out", "--fill-from", "symbolic") == 2
        assert isodistill(monkeypatch, "traces", "list", "--rows", "5") == 0
        with TraceStore(tmp_path / "traces.sqlite", create=False) as store:
            key = next(store.select()).key
        assert isodistill(monkeypatch, "traces", "show", key) == 0
    told = "".join(capsys.readouterr())
    assert "\x1b[2J" not in told
    assert "\x07" not in told
    assert "\u202e" not in told
    assert "\\x1b[2J[red]Look[/red] \\u202e" in told
    assert "[bold]" in told


def test_symbolic_needs_no_store_and_takes_a_step_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(sets=4, validation_sets=0, test_sets=2, unseen_domains=(), audit=False)
    generate(config, tmp_path / "made")
    assert isodistill(monkeypatch, "distill", "made", "--out", "told", "--style", "short", "--check-steps") == 0
    assert "traces by the symbolic (short) teacher" in capsys.readouterr().out
    assert not (tmp_path / "traces.sqlite").exists()
    assert all(member.completion for row in read_split(tmp_path / "told", "iid") for member in row.members)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--teacher", "oracle"), "There is no teacher 'oracle'"),
        (("--teacher", "openai"), "needs a model: write openai:MODEL"),
        (("--teacher", "openai:m"), "OPENAI_API_KEY is not set"),
        (("--teacher", "openai:m", "--base-url", "ftp://x"), "is not one; write it like"),
        (("--teacher", "hf:gpt-9"), "is not known"),
        (("--samples", "0", "--teacher", "openai:m", "--base-url", "http://127.0.0.1:9/v1"), "samples"),
        (("--incomplete", "maybe"), "neither drop nor fail"),
        (("--price", "cheap"), "is not two numbers"),
        (("--extra-body", "[1]"), "must be a JSON object"),
        (("--extra-body", '{"seed": 1}'), "without model, messages, temperature, seed"),
        (("--top-k", "8"), "needs a local model as scorer"),
        (("--scorer", "hf:m"), "--scorer needs --top-k"),
        (("--max-requests", "0"), "allows nothing"),
        (("--concurrency", "0", "--teacher", "openai:m", "--base-url", "http://127.0.0.1:9/v1"), "at least 1"),
        (("--instruction", "none.txt"), "the instruction none.txt cannot be read"),
        (("--shots", "bad.jsonl"), "bad.jsonl, line 2: give a JSON object"),
        (("--split", "testing"), "no split 'testing'"),
    ],
)
def test_mistakes_are_told_before_any_work(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "p", "completion": "c"}\n{"prompt": "p"}\n')
    assert isodistill(monkeypatch, "distill", data, "--out", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("isodistill: error: ")
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list",), "there is no trace store traces.sqlite"),
        (("prune",), "needs to know what to delete"),
        (("list", "--before", "yesterday"), "is not a date"),
    ],
)
def test_mistakes_with_traces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert isodistill(monkeypatch, "traces", *arguments) == 2
    assert words in capsys.readouterr().err


def test_ctrl_c_leaves_a_clean_state(data: Path, tmp_path: Path) -> None:
    with serving(FaultServer(delay=0.3)) as server:
        command = [sys.executable, "-c", "from isodistill.cli.main import run; run()", "distill", str(data)]
        command += ["--teacher", "openai:m", "--base-url", server.url, "--out", "out", "--concurrency", "2"]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        while server.requests < 3 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert process.returncode == 130, error
        assert "waiting for the replies in flight" in error
        assert "Traceback" not in error
        answered = sum(server.answered.values())
    with TraceStore(tmp_path / "traces.sqlite", create=False) as store:
        assert 2 <= store.count() == answered < 32
    assert not (tmp_path / "out").exists()
