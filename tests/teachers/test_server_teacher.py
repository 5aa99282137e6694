from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from teacher_server import FAULTS, FaultServer, expected_answer, make_problems, serving

from isodistill.errors import IsodistillError
from isodistill.teachers.collect import Collector
from isodistill.teachers.meter import BudgetSpent, Meter
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.server import ServerLimits, ServerTeacher
from isodistill.traces import TraceStore

KEY = "sk-very-secret-key-0123456789"
QUICK = ServerLimits(concurrency=16, timeout=0.6, max_tries=6, max_wait=60, base_delay=0.01, max_delay=0.05)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_500_requests_through_every_fault(tmp_path: Path) -> None:
    """Nothing is lost, nothing is paid for twice, and the tries are bounded."""
    problems = make_problems(125)
    # A busy machine may hold a good answer up; it must not look like a stall, or it is asked for again.
    state = FaultServer(fault_rate=0.3, most_faults=4, wrong_rate=0.2, stall=4.0)
    limits = replace(QUICK, timeout=3.0)
    with serving(state) as server, TraceStore(tmp_path / "traces.sqlite") as store:
        teacher = ServerTeacher("m", server.url, limits=limits)
        outcomes = Collector(teacher, Sampling(retries=8), store).collect(problems)
        assert [outcome.problem for outcome in outcomes] == problems
        assert all(outcome.failure is None for outcome in outcomes)
        for outcome in outcomes:
            completion = outcome.completion
            assert completion is not None
            assert completion.endswith(f"Answer: {expected_answer(outcome.problem.member.prompt)}")
        records = list(store.select())
        assert len(records) == len({record.key for record in records}) == len(state.answered)
        assert set(state.answered.values()) == {1}  # each good answer was asked for once
        assert len(records) > 550  # 500 problems, and the wrong ones again
        assert max(state.tries.values()) <= state.most_faults + 1
        assert teacher.meter.requests == state.requests
        faults = {state.fault(digest, n) for digest, tries in state.tries.items() for n in range(1, tries + 1)}
        assert faults >= set(FAULTS)
        assert not store.failures()
        again = ServerTeacher("m", server.url, limits=limits)
        before = state.requests
        rerun = Collector(again, Sampling(retries=8), store).collect(problems)
        assert [outcome.completion for outcome in rerun] == [outcome.completion for outcome in outcomes]
        assert state.requests == before
        assert again.meter.requests == 0


def test_a_request_that_always_fails_is_given_up_and_asked_again_on_the_next_run(tmp_path: Path) -> None:
    problems = make_problems(1, ("law",))
    state = FaultServer(fault_rate=1.0, most_faults=4, faults=("500",))
    limits = ServerLimits(concurrency=2, timeout=1, max_tries=3, base_delay=0.001, max_delay=0.01)
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        (outcome,) = Collector(ServerTeacher("m", server.url, limits=limits), Sampling(), store).collect(problems)
        assert outcome.failure is not None
        assert outcome.failure.reason == "server error"
        assert "HTTP 500: fault 500" in outcome.failure.detail
        assert state.requests == 3
        assert store.failures() == {"server error": 1}
        assert store.count() == 0
        (outcome,) = Collector(ServerTeacher("m", server.url, limits=limits), Sampling(), store).collect(problems)
        assert outcome.completion is not None
        assert state.requests == 5


def test_retry_after_is_honoured_by_everybody() -> None:
    """One 429 keeps all workers from sending until its time is over."""

    class Limited(FaultServer):
        def fault(self, digest: str, number: int) -> str | None:
            times.append(time.monotonic())
            return "429 retry-after" if len(times) == 1 else None

    times: list[float] = []
    limits = ServerLimits(concurrency=1, timeout=5, base_delay=0.001, max_delay=0.01)
    with serving(Limited()) as server:
        outcomes = Collector(ServerTeacher("m", server.url, limits=limits), Sampling()).collect(make_problems(1))
        assert all(outcome.completion for outcome in outcomes)
    assert len(times) == 5
    assert times[1] - times[0] >= 0.1


def test_rate_limits_cost_no_try_but_end(tmp_path: Path) -> None:
    state = FaultServer(fault_rate=1.0, most_faults=10**6, faults=("429",))
    limits = ServerLimits(concurrency=1, timeout=5, max_tries=2, max_wait=0.3, base_delay=0.01, max_delay=0.02)
    with serving(state) as server:
        (outcome,) = Collector(ServerTeacher("m", server.url, limits=limits), Sampling()).collect(
            make_problems(1, ("law",))
        )
    assert outcome.failure is not None
    assert outcome.failure.reason == "rate limit"
    assert 10 < state.requests < 60


def test_concurrency_is_used_and_bounded() -> None:
    limits = ServerLimits(concurrency=16, timeout=30)
    state = FaultServer(crowd=16, delay=0.05)
    with serving(state) as server:
        Collector(ServerTeacher("m", server.url, limits=limits), Sampling()).collect(make_problems(12))
    assert state.most_in_flight == 16


@pytest.mark.parametrize(("status", "words"), [(401, "the key is not accepted"), (404, "is not known")])
def test_a_refused_key_or_model_stops_the_run_at_once(tmp_path: Path, status: int, words: str) -> None:
    state = FaultServer(status=status, error_body=json.dumps({"error": {"message": f"You sent {KEY}, go away"}}))
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        with pytest.raises(IsodistillError, match=words) as caught:
            Collector(ServerTeacher("m", server.url, limits=QUICK), Sampling(), store).collect(make_problems(100))
        assert KEY not in str(caught.value)
        assert "[key]" in str(caught.value)
    assert state.requests <= 16


def test_a_dead_server_is_told_in_one_sentence() -> None:
    with serving(FaultServer()) as server:
        url = server.url
    with pytest.raises(IsodistillError, match="no usable answer to 16 requests in a row, the last because of connect"):
        Collector(ServerTeacher("m", url, limits=QUICK), Sampling()).collect(make_problems(20))


def test_a_problem_that_the_server_refuses_is_a_failure_of_its_own(tmp_path: Path) -> None:
    state = FaultServer(refused="Problem 3 of law")
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        teacher = ServerTeacher("m", server.url, limits=QUICK)
        outcomes = Collector(teacher, Sampling(retries=0), store).collect(make_problems(5))
        failed = [outcome for outcome in outcomes if outcome.failure is not None]
        assert len(failed) == 1
        assert failed[0].failure is not None
        assert failed[0].failure.permanent
        assert store.failures() == {"refused by the server": 1}
        assert sum(outcome.completion is not None for outcome in outcomes) == 19


def test_the_token_budget_is_never_exceeded(tmp_path: Path) -> None:
    state = FaultServer()
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        meter = Meter(max_tokens=4000)
        teacher = ServerTeacher("m", server.url, max_tokens=100, limits=QUICK, meter=meter)
        with pytest.raises(BudgetSpent, match="budget of 4000 tokens"):
            Collector(teacher, Sampling(), store).collect(make_problems(125))
        assert 3000 < meter.tokens <= 4000
        assert store.count() == state.requests == meter.requests == meter.tokens // 30


def test_the_request_budget_stops_and_a_rerun_goes_on(tmp_path: Path) -> None:
    state = FaultServer()
    problems = make_problems(10)
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        for run in range(3):
            teacher = ServerTeacher("m", server.url, limits=QUICK, meter=Meter(max_requests=15))
            if run < 2:
                with pytest.raises(BudgetSpent, match="budget of 15 requests is spent; raise it"):
                    Collector(teacher, Sampling(), store).collect(problems)
                assert store.count() == 15 * (run + 1)
            else:
                assert all(o.completion for o in Collector(teacher, Sampling(), store).collect(problems))
                assert teacher.meter.requests == 10
    assert state.requests == 40


def test_the_body_says_what_the_recipe_says(tmp_path: Path) -> None:
    state = FaultServer(wrong_rate=1.0)
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        teacher = ServerTeacher("m", server.url, top_p=0.9, max_tokens=77, extra={"min_p": 0.1}, limits=QUICK)
        sampling = Sampling(retries=4, temperature=0.2, temperature_step=0.4, max_temperature=1.1)
        (outcome,) = Collector(teacher, sampling, store).collect(make_problems(1, ("law",)))
        assert outcome.completion is None
        assert [body["temperature"] for body in state.bodies] == [0.2, 0.6, 1.0, 1.1, 1.1]
        assert len({body["seed"] for body in state.bodies}) == 5
        for body, record in zip(state.bodies, store.select(), strict=True):
            sent = {name: value for name, value in body.items() if name not in ("messages", "model")}
            assert {**sent, "attempt": record.attempt} == json.loads(record.recipe.parameters)
            assert body["min_p"] == 0.1
            assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert {record.verdict for record in store.select()} == {"wrong answer"}


def test_the_key_is_sent_and_appears_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Parrot(FaultServer):
        def text(self, body: dict[str, object]) -> str:
            return f"Your key is {KEY}.\n" + super().text(body)  # type: ignore[arg-type]

    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    state = Parrot(fault_rate=0.4)
    with serving(state) as server, TraceStore(tmp_path / "t.sqlite") as store:
        teacher = ServerTeacher("m", server.url, limits=QUICK)
        outcomes = Collector(teacher, Sampling(), store).collect(make_problems(10))
        assert KEY not in repr(outcomes)
        assert "Your key is [key]." in repr(outcomes)
        assert KEY not in repr(teacher)
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in state.headers)
    assert KEY not in caplog.text
    assert len(caplog.records) > 40  # the client did log
    assert KEY not in "".join(capfd.readouterr())
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": None}, "OPENAI_API_KEY is not set"),
        ({"base_url": "127.0.0.1:80"}, "is not one"),
        ({"base_url": "http://me:pass@127.0.0.1/v1"}, "holds a name, a password or a query"),
        ({"base_url": "http://127.0.0.1/v1?key=1"}, "holds a name, a password or a query"),
    ],
)
def test_wrong_addresses_and_missing_keys(monkeypatch: pytest.MonkeyPatch, options: dict[str, str], words: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(IsodistillError, match=words):
        ServerTeacher("m", **options)
    monkeypatch.setenv("MY_KEY", "short")
    with pytest.raises(IsodistillError, match="shorter than 8"):
        ServerTeacher("m", "http://127.0.0.1/v1", key_variable="MY_KEY")


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving(FaultServer()) as server:
        (outcome,) = Collector(ServerTeacher("m", server.url), Sampling()).collect(make_problems(1, ("law",)))
    assert outcome.completion is not None
