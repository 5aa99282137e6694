"""The teacher behind a server that speaks the OpenAI protocol: hosted, vLLM, llama.cpp, `transformers serve`, ..."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from isodistill.errors import IsodistillError
from isodistill.teachers.backoff import Pause, delay_before, retry_after
from isodistill.teachers.base import Failure, Reply, Request
from isodistill.teachers.instruction import Instruction
from isodistill.teachers.meter import Meter, estimate_tokens
from isodistill.teachers.scored_tokens import read_scored_tokens

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable that the key is read from unless another is named."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A longer answer is cut off: no chain of thought takes it."""

_FATAL = {401: "the key is not accepted", 403: "access is denied", 404: "the model or the address is not known"}
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}


@dataclass(frozen=True)
class ServerLimits:
    """How the server is treated.

    Args:
        concurrency: Requests in flight at the same time.
        timeout: The longest time from sending a request to the end of its answer, in seconds.
        max_tries: How often a request is sent before it is given up, rate limits aside.
        max_wait: How long a request waits in all for a rate limit to pass, in seconds.
        base_delay: The first delay before sending again, doubled with each try, in seconds.
        max_delay: The longest such delay, in seconds.
    """

    concurrency: int = 8
    timeout: float = 300.0
    max_tries: int = 6
    max_wait: float = 900.0
    base_delay: float = 0.5
    max_delay: float = 30.0

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.concurrency < 1 or self.max_tries < 1 or self.timeout <= 0:
            raise IsodistillError("concurrency and tries must be at least 1 and the time limit above 0; raise them")


@dataclass(frozen=True)
class _Miss:
    """Why one try brought no reply, how long the server asks to be left alone, and whether it may charge for it."""

    failure: Failure
    retry_after: float | None = None
    charged: bool = False


class _Broken(Exception):
    """The answer is no answer: cut, too large, too slow, or not what the protocol says."""


class ServerTeacher:
    """Asks a server for chat completions, several at a time.

    Args:
        model: The model's name as the server knows it.
        base_url: The address up to ``/v1``; the default is the `openai` client's own.
        key_variable: The environment variable with the key. A server at a `base_url` may need none.
        instruction: What comes before each problem.
        max_tokens: The most tokens of a reply.
        top_p: Nucleus sampling.
        send_seed: Whether the seed of each attempt is sent; a few servers refuse the field.
        extra: Further fields of the request's body, for example ``{"chat_template_kwargs": {...}}``. With
            ``max_completion_tokens`` in it, ``max_tokens`` is not sent.
        limits: How the server is treated.
        meter: Counts requests and tokens, and may set a budget.
        top_logprobs: How many of the likeliest tokens to ask for at each place, or ``None``. A reply that was asked
            for with them has another key in the store than one without.

    Raises:
        IsodistillError: If the `openai` package or the key is missing, or the address is not one.
    """

    kind = "openai"
    varies = True

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        instruction: Instruction | None = None,
        max_tokens: int = 512,
        top_p: float = 1.0,
        send_seed: bool = True,
        extra: Mapping[str, Any] | None = None,
        limits: ServerLimits | None = None,
        meter: Meter | None = None,
        top_logprobs: int | None = None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise IsodistillError(
                "the openai teacher needs the package openai; run `pip install 'isodistill[openai]'`"
            ) from None
        self.model = model
        self.limits = limits or ServerLimits()
        self.meter = meter or Meter()
        self.instruction = instruction or Instruction()
        self._fields: dict[str, Any] = {"top_p": top_p, **(extra or {})}
        if top_logprobs is not None:
            self._fields |= {"logprobs": True, "top_logprobs": top_logprobs}
        if "max_completion_tokens" not in self._fields:
            self._fields["max_tokens"] = max_tokens
        self.max_tokens = int(self._fields.get("max_completion_tokens", max_tokens))
        self._send_seed = send_seed
        self._key = _read_key(key_variable, base_url)
        self._pause = Pause()
        # The client's own retries are off: ours are counted by the meter and also cover broken answers.
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=_checked_url(base_url),
            max_retries=0,
            timeout=self.limits.timeout,
        )

    @property
    def name(self) -> str:
        """The kind and the model."""
        return f"openai:{self.model}"

    @property
    def prompt_version(self) -> str:
        """The instruction's version."""
        return self.instruction.version

    @property
    def patience(self) -> float:
        """Every try at its longest, and every wait."""
        limits = self.limits
        return limits.max_tries * (limits.timeout + limits.max_delay) + limits.max_wait

    def parameters(self, request: Request) -> Mapping[str, Any]:
        """Everything of the request's body but the messages and the model; see `Teacher.parameters`."""
        fields = {**self._fields, "temperature": request.temperature}
        return {**fields, "seed": request.seed} if self._send_seed else fields

    def prompt_tokens(self, request: Request) -> int:
        """Estimates what a request has the server read.

        Args:
            request: The request.

        Returns:
            A number of tokens, on the high side.
        """
        return estimate_tokens(self.instruction.text + request.member.prompt) + 16

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Sends requests, `ServerLimits.concurrency` at a time; see `Teacher.write`.

        Yields:
            Each request with its reply or failure, in the order in which they come.

        Raises:
            IsodistillError: If the key or the model is refused, the budget is spent, or as many requests in a row as
                may be in flight (at least 4) were given up. What was in flight is yielded first.
        """
        tasks: SimpleQueue[Request | None] = SimpleQueue()
        results: SimpleQueue[tuple[Request, Reply | Failure | IsodistillError]] = SimpleQueue()
        workers: list[threading.Thread] = []
        in_flight = given_up = 0
        stop: IsodistillError | None = None
        self._pause.reset()
        try:
            while True:
                while stop is None and in_flight < self.limits.concurrency:
                    request = next(requests, None)
                    if request is None:
                        break
                    if in_flight == len(workers):
                        # Daemons: a second Ctrl-C ends the process without waiting for a stalled server.
                        worker = threading.Thread(target=self._work, args=(tasks, results), daemon=True)
                        worker.start()
                        workers.append(worker)
                    tasks.put(request)
                    in_flight += 1
                if not in_flight:
                    break
                request, result = results.get()
                in_flight -= 1
                if isinstance(result, IsodistillError):
                    stop = stop or result
                    self._pause.cancel()
                    continue
                yield request, result
                given_up = given_up + 1 if isinstance(result, Failure) else 0
                if isinstance(result, Failure) and given_up >= max(4, self.limits.concurrency) and stop is None:
                    stop = IsodistillError(
                        f"the server gave no usable answer to {given_up} requests in a row, the last because of"
                        f" {result.reason}: {result.detail}; mend that and run the same command again"
                    )
                    self._pause.cancel()
        finally:
            self._pause.cancel()
            for _ in workers:
                tasks.put(None)
        if stop is not None:
            raise stop

    def _work(
        self,
        tasks: SimpleQueue[Request | None],
        results: SimpleQueue[tuple[Request, Reply | Failure | IsodistillError]],
    ) -> None:
        while (request := tasks.get()) is not None:
            try:
                results.put((request, self._persist(request)))
            except IsodistillError as error:
                results.put((request, error))
            except Exception as error:  # whatever it is, the main thread must hear of it
                results.put((request, Failure("unexpected error", self._clean(f"{type(error).__name__}: {error}"))))

    def _persist(self, request: Request) -> Reply | Failure:
        """Sends one request until it is answered or given up; a rate limit costs waiting time and no try."""
        limits = self.limits
        failure = Failure("interrupted", "the run was stopped before the request was sent")
        tries = limited = 0
        waited = 0.0
        while self._pause.wait():
            answer = self._metered(request)
            if isinstance(answer, Reply):
                return answer
            failure = answer.failure
            if failure.reason == "rate limit":
                limited += 1
            else:
                tries += 1
            delay = (answer.retry_after or 0.0) + delay_before(tries + limited, limits.base_delay, limits.max_delay)
            waited += delay
            if failure.permanent or tries >= limits.max_tries or waited > limits.max_wait:
                break
            if answer.retry_after:
                self._pause.for_all(answer.retry_after)
            self._pause.sleep(delay)
        return failure

    def _metered(self, request: Request) -> Reply | _Miss:
        """Sends once within the budget."""
        prompt_tokens = self.prompt_tokens(request)
        reserved = prompt_tokens + self.max_tokens
        self.meter.reserve(reserved)
        used = (0, 0)
        try:
            answer = self._once(request)
            if isinstance(answer, Reply):
                used = (answer.prompt_tokens, answer.completion_tokens)
            elif answer.charged:
                used = (prompt_tokens, self.max_tokens)
        finally:
            self.meter.settle(reserved, *used)
        return answer

    def _once(self, request: Request) -> Reply | _Miss:
        """Sends once; tells apart what may be sent again, what may not, and what ends the run."""
        import openai

        try:
            return self._send(request, time.monotonic())
        except openai.APIStatusError as error:
            status, detail = error.status_code, f"HTTP {error.status_code}: {self._clean(_reason(error))}"
            fatal = _FATAL.get(status) or ("the account is empty" if error.code == "insufficient_quota" else None)
            if fatal:
                raise IsodistillError(
                    f"the server refuses the work, {fatal} ({detail}); mend that and run the same command again"
                ) from None
            if status not in _TRANSIENT:
                return _Miss(Failure("refused by the server", detail, permanent=True))
            reason = "rate limit" if status == 429 else "server error"
            return _Miss(Failure(reason, detail), retry_after(error.response.headers))
        except openai.APITimeoutError:
            return _Miss(Failure("time limit", f"no answer within {self.limits.timeout:g} s"), charged=True)
        except openai.APIConnectionError as error:
            return _Miss(Failure("connection", self._clean(_cause(error))))
        except _Broken as error:
            return _Miss(Failure("broken answer", self._clean(str(error))), charged=True)

    def _send(self, request: Request, started: float) -> Reply:
        """Sends once and reads the answer within the limits of time and size."""
        import httpx2
        from openai.types.chat import ChatCompletion
        from pydantic import ValidationError

        messages: Any = self.instruction.messages(request.member.prompt)
        body = dict(self.parameters(request))
        data = bytearray()
        try:
            with self._client.chat.completions.with_streaming_response.create(
                model=self.model, messages=messages, extra_body=body
            ) as response:
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MAX_BODY_BYTES:
                        raise _Broken(f"the answer is longer than {MAX_BODY_BYTES} bytes")
                    if time.monotonic() - started > self.limits.timeout:
                        raise _Broken(f"the answer was not complete within {self.limits.timeout:g} s")
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _Broken(f"the answer broke off ({type(error).__name__})") from None
        try:
            completion = ChatCompletion.model_validate_json(self._clean_bytes(bytes(data)))
            choice = completion.choices[0]
            content = choice.logprobs.content if choice.logprobs and "top_logprobs" in self._fields else None
            tokens = None if content is None else read_scored_tokens(content)
        except (ValidationError, IndexError, ValueError):
            kind = response.headers.get("content-type", "none")
            raise _Broken(f"the answer of type {kind[:60]!r} is not a chat completion") from None
        text, usage = choice.message.content or "", completion.usage
        return Reply(
            text=text,
            finish=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else self.prompt_tokens(request),
            completion_tokens=usage.completion_tokens if usage else estimate_tokens(text),
            seconds=time.monotonic() - started,
            tokens=tokens,
        )

    def _clean(self, text: str) -> str:
        """Takes the key out of a text of the server, and makes it one short line."""
        line = " ".join(text.split())
        return (line.replace(self._key, "[key]") if self._key else line)[:300]

    def _clean_bytes(self, data: bytes) -> bytes:
        return data.replace(self._key.encode(), b"[key]") if self._key else data


def _read_key(variable: str, base_url: str | None) -> str:
    key = os.environ.get(variable, "").strip()
    if not key and base_url is None:
        raise IsodistillError(
            f"the environment variable {variable} is not set, and the server needs a key; set it, or give the"
            " --base-url of a server that needs none"
        )
    if key and len(key) < 8:
        raise IsodistillError(f"the key in {variable} is shorter than 8 characters, so it cannot be one; set it anew")
    return key


def _checked_url(base_url: str | None) -> str | None:
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise IsodistillError(f"the base URL {base_url[:80]!r} is not one; write it like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise IsodistillError(
            "the base URL holds a name, a password or a query; give the bare address and put the key in the environment"
        )
    return base_url


def _reason(error: Any) -> str:
    """The server's own words, where it gives them in the usual form."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(body if isinstance(body, str) and body.strip() else error.message)


def _cause(error: Exception) -> str:
    cause = error.__cause__
    return str(error) if cause is None else f"{type(cause).__name__}: {cause}"
