"""What a kill costs, and two processes on one store."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from teacher_server import FaultServer, serving

from isodistill.traces import TraceStore

SCRIPT = Path(__file__).with_name("collecting_process.py")


def start(store: Path, url: str, problems: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(store), url, str(problems // 4)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def contents(path: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that a store holds but the clock."""
    with TraceStore(path, create=False) as store:
        return {
            record.key: (record.recipe, record.text, record.answer, record.verdict, record.attempt, record.prompt)
            for record in store.select()
        }


def kill_and_resume(folder: Path, kills: int, problems: int, most_requests: int) -> None:
    chance = random.Random(0)
    # The undisturbed run and the others see the same server: what it says depends on the request alone.
    state = FaultServer(delay=0.01, wrong_rate=0.2, fault_rate=0.1, faults=("500", "cut in the answer"))
    with serving(state) as server:
        finish(start(folder / "calm.sqlite", server.url, problems))
        undisturbed = contents(folder / "calm.sqlite")
    state = FaultServer(delay=0.01, wrong_rate=0.2, fault_rate=0.1, faults=("500", "cut in the answer"))
    shaken = folder / "shaken.sqlite"
    with serving(state) as server:
        seen = 0
        for _ in range(kills):
            process = start(shaken, server.url, problems)
            # A moment counted in requests, so that a slow machine is killed at random moments too.
            moment = state.requests + chance.randrange(most_requests)
            while state.requests < moment and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.02))
            assert process.poll() is None, "it was done before it could be killed: give it more problems"
            process.kill()
            process.communicate()
            kept = len(contents(shaken))
            assert kept >= seen  # nothing that was there is lost
            seen = kept
        assert 0 < seen < len(undisturbed)
        finish(start(shaken, server.url, problems))
        assert contents(shaken) == undisturbed
        # What was answered and is not in the store was in flight at a kill: at most 4 each time.
        answered = sum(state.answered.values())
        assert answered - len(undisturbed) <= 4 * kills
        assert finish(start(shaken, server.url, problems)).strip() == "sent 0"


def test_a_killed_run_resumes_to_the_same_store(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=2, problems=160, most_requests=60)


@pytest.mark.slow
def test_50_kills_at_random_moments(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=50, problems=2400, most_requests=60)


def test_two_processes_share_a_store_and_pay_once(tmp_path: Path) -> None:
    state = FaultServer(delay=0.02, wrong_rate=0.2)
    store = tmp_path / "traces.sqlite"
    with serving(state) as server:
        both = [start(store, server.url, 200) for _ in range(2)]
        sent = [int(finish(process).split()[-1]) for process in both]
    assert set(state.answered.values()) == {1}
    assert sum(sent) == len(state.answered) == len(contents(store))
    assert min(sent) > 20  # both did work


def test_ctrl_c_keeps_what_is_in_flight(tmp_path: Path) -> None:
    state = FaultServer(delay=0.3)
    store = tmp_path / "traces.sqlite"
    with serving(state) as server:
        process = start(store, server.url, 100)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "waiting for the replies in flight" in err
        assert "Traceback" not in err
        assert 4 <= len(contents(store)) == sum(state.answered.values()) < 100
    connection = sqlite3.connect(store)
    assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    connection.close()
