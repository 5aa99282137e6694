"""Problems without a generator, and a server on loopback that misbehaves on purpose."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from isodistill.isomers import IsomerSet, Member
from isodistill.isomers.card import CardInfo
from isodistill.isomers.store import write_dataset
from isodistill.teachers.collect import Problem
from isodistill.teachers.distil import problems_of

DOMAINS = ("law", "math", "medicine", "science")
ANSWERS = ("True", "False", "Unknown")


def make_sets(count: int, domains: tuple[str, ...] = DOMAINS, family: str = "deduction") -> list[IsomerSet]:
    return [
        IsomerSet(
            set_id=f"s{i}",
            family=family,
            depth=1,
            skeleton="",
            canonical="",
            answer=ANSWERS[i % 3],
            choices=ANSWERS,
            members=tuple(
                Member(domain=domain, prompt=f"Problem {i} of {domain}. True, False or Unknown?", formal="")
                for domain in domains
            ),
        )
        for i in range(count)
    ]


def make_problems(count: int, domains: tuple[str, ...] = DOMAINS) -> list[Problem]:
    return problems_of(make_sets(count, domains))


def write_data(folder: Path, splits: Mapping[str, list[IsomerSet]]) -> Path:
    info = CardInfo(title="T", family="deduction", domains=DOMAINS, unseen_domains=(), config={})
    write_dataset(folder, splits, info)
    return folder


def expected_answer(prompt: str) -> str:
    return ANSWERS[int(prompt.split()[1]) % 3]


FAULTS = (
    "500",
    "503 retry-after",
    "429 retry-after",
    "429",
    "stall",
    "cut before the answer",
    "cut in the answer",
    "broken json",
    "half an answer",
    "wrong content type",
    "huge",
    "no choices",
    "not an object",
)


@dataclass
class FaultServer:
    """Speaks the OpenAI protocol; what it says depends on the request alone, how it fails on the request and the try.

    Args:
        fault_rate: The share of tries that fail.
        most_faults: No request fails more often than this.
        wrong_rate: The share of attempts that are answered wrong.
        faults: Which faults.
        stall: Seconds that a stall takes.
        delay: Seconds before each good answer.
        crowd: Every request waits until so many were in flight at once, for ten seconds at most.
        status: Every request gets this status and `error_body`.
        refused: A problem with this text gets a 400.
        scored: Gives the log-probabilities of a text's tokens, where a request asks for them; ``None`` ignores that.
    """

    fault_rate: float = 0.0
    most_faults: int = 3
    wrong_rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    stall: float = 1.0
    delay: float = 0.0
    crowd: int = 0
    status: int | None = None
    error_body: str = ""
    refused: str = "no prompt has this"
    scored: Callable[[str, int], list[dict[str, Any]]] | None = None
    tries: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    crowded: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def requests(self) -> int:
        return sum(self.tries.values())

    def text(self, body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        chance = random.Random(_digest(body)).random()
        right = expected_answer(prompt)
        answer = right if chance >= self.wrong_rate else ANSWERS[(ANSWERS.index(right) + 1) % 3]
        return f"First I look at {prompt.split('.')[0]}. So it follows.\nAnswer: {answer}"

    def fault(self, digest: str, number: int) -> str | None:
        if number > self.most_faults:
            return None
        chance = random.Random(f"{digest}/{number}")
        return chance.choice(self.faults) if chance.random() < self.fault_rate else None


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        state: FaultServer = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        digest = _digest(body)
        with state.lock:
            state.tries[digest] += 1
            number = state.tries[digest]
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.bodies.append(body)
            state.in_flight += 1
            state.most_in_flight = max(state.most_in_flight, state.in_flight)
            if state.most_in_flight >= state.crowd:
                state.crowded.set()
        state.crowded.wait(10)
        try:
            self._answer(state, body, digest, number)
        except OSError:
            self.close_connection = True
        finally:
            with state.lock:
                state.in_flight -= 1

    def _answer(self, state: FaultServer, body: dict[str, Any], digest: str, number: int) -> None:
        if state.status is not None:
            return self._send(state.status, state.error_body.encode(), "application/json")
        if state.refused in body["messages"][-1]["content"]:
            return self._send(400, b'{"error": {"message": "context too long"}}', "application/json")
        text = state.text(body)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        if body.get("logprobs") and state.scored is not None:
            choice["logprobs"] = {"content": state.scored(text, body["top_logprobs"])}
        good = json.dumps(
            {
                "id": digest[:8],
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [choice],
                "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
            }
        ).encode()
        fault = state.fault(digest, number)
        error = json.dumps({"error": {"message": f"fault {fault}", "type": "fault", "code": None}}).encode()
        match fault:
            case "500":
                self._send(500, error, "application/json")
            case "503 retry-after":
                self._send(503, b"<html>busy</html>", "text/html", {"Retry-After": "0.05"})
            case "429 retry-after":
                self._send(429, error, "application/json", {"Retry-After": "0.1"})
            case "429":
                self._send(429, error, "application/json")
            case "stall":
                self._head(200, len(good), "application/json")
                self.wfile.write(good[:10])
                self.wfile.flush()
                time.sleep(state.stall)
                self.close_connection = True
            case "cut before the answer":
                self.close_connection = True
            case "cut in the answer":
                self._head(200, len(good), "application/json")
                self.wfile.write(good[: len(good) // 2])
                self.close_connection = True
            case "broken json":
                self._send(200, good.replace(b'"choices":', b'"choices"'), "application/json")
            case "half an answer":
                self._send(200, good[: len(good) // 2], "application/json")
            case "wrong content type":
                self._send(200, b"<html>Please log in</html>", "text/html")
            case "huge":
                self._head(200, 1 << 34, "application/json")
                for _ in range(1 << 14):
                    self.wfile.write(b" " * (1 << 16))
            case "no choices":
                self._send(200, json.dumps({**json.loads(good), "choices": []}).encode(), "application/json")
            case "not an object":
                self._send(200, b"[1, 2, 3]", "application/json")
            case _:
                time.sleep(state.delay)
                self._send(200, good, "application/json")
                with state.lock:
                    state.answered[digest] += 1

    def _head(self, status: int, length: int, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, len(data), kind, headers)
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@contextmanager
def serving(state: FaultServer) -> Iterator[FaultServer]:
    """Runs a server on a free loopback port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
