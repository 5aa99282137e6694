"""A server's own token distributions: laid over the student's tokens, kept in the store, refused where they differ."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teacher_server import FaultServer, expected_answer, make_problems, make_sets, serving, write_data
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from isodistill.cli.main import run
from isodistill.errors import IsodistillError
from isodistill.teachers.base import Reply
from isodistill.teachers.collect import Collector
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.scored_tokens import ScoredToken
from isodistill.teachers.scoring import signal_key
from isodistill.teachers.server import ServerLimits, ServerTeacher
from isodistill.teachers.server_signals import SignalKeeper
from isodistill.teachers.token_bytes import spans, token_bytes
from isodistill.traces import TokenSignal, TraceStore
from isodistill.traces.signals import vocabulary_digest

K = 5
QUICK = ServerLimits(concurrency=4, timeout=5, base_delay=0.01, max_delay=0.05)
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(size: int = 330) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, as of a real model; another size gives other tokens."""
    texts = [problem.member.prompt for problem in make_problems(40)]
    texts += ["First I look at it. So it follows.\nAnswer: True False Unknown"] * 30
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    made.chat_template = TEMPLATE
    return made


class Scored:
    """What a server says of its tokens: numbers that depend on the text before each one."""

    def __init__(self, tokenizer: Any, end: bool = True) -> None:
        self.spelt = token_bytes(tokenizer)
        self.tokenizer = tokenizer
        self.end = end

    def place(self, before: list[int], token: int, k: int) -> list[tuple[int, float]]:
        chance = random.Random(hashlib.sha256(str((before, token)).encode()).hexdigest())
        others = [other for other in chance.sample(sorted(self.spelt), k) if other != token][: k - 1]
        weights = sorted((chance.random() for _ in range(k + 1)), reverse=True)
        return [(index, float(np.log(w / sum(weights)))) for index, w in zip([token, *others], weights, strict=False)]

    def __call__(self, text: str, k: int) -> list[dict[str, Any]]:
        ids = self.tokenizer(text)["input_ids"] + ([1] if self.end else [])
        content = []
        for place, token in enumerate(ids):
            top = [
                {"token": self.spelt[index].decode("utf-8", "replace"), "bytes": list(self.spelt[index]), "logprob": p}
                for index, p in self.place(ids[:place], token, k)
            ]
            content.append({**top[0], "top_logprobs": top})
        return content


def collect(state: FaultServer, store: TraceStore, problems: list[Any], tokenizer: Any, **more: Any) -> list[Any]:
    teacher = ServerTeacher("m", state.url, limits=QUICK, top_logprobs=K)
    keeper = SignalKeeper(tokenizer, "openai:m", K, store, "Think.")
    return Collector(teacher, Sampling(retries=6), store, keeper=keeper).collect(problems)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_distributions_come_with_the_replies_through_every_fault(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    scored = Scored(tokenizer)
    problems = make_problems(10)
    state = FaultServer(fault_rate=0.3, wrong_rate=0.2, stall=0.1, scored=scored)
    with serving(state), TraceStore(tmp_path / "t.sqlite") as store:
        outcomes = collect(state, store, problems, tokenizer)
        for outcome in outcomes:
            completion = outcome.completion
            assert completion is not None
            key = signal_key(tokenizer, outcome.problem.member.prompt, completion, "Think.")
            signal = store.find_signal(*key, "openai:m", vocabulary_digest(tokenizer), K)
            assert signal is not None
            ids = tokenizer(completion)["input_ids"] + [1]
            # The template's line break comes after the end token, and the server says nothing of it.
            assert signal.token_ids.tolist() == [*ids, *tokenizer("\n")["input_ids"]]
            assert np.isneginf(signal.top_logprobs[-1]).all()
            for place, token in enumerate(ids):
                expected = scored.place(ids[:place], token, K)
                assert signal.top_ids[place].tolist() == [index for index, _ in expected]
                np.testing.assert_allclose(signal.top_logprobs[place], [p for _, p in expected], rtol=2e-3)
        completions, tokens, size = store.signal_sizes()
        assert completions >= len(problems)
        assert size / tokens < 60
        before = state.requests
        collect(state, store, problems, tokenizer)
        assert state.requests == before  # nothing is paid for twice
        plain = Collector(ServerTeacher("m", state.url, limits=QUICK), Sampling(), store).collect(problems[:4])
        assert all(outcome.completion for outcome in plain)
        assert state.requests >= before + 4  # another request than one without the distributions


def test_another_tokenizer_is_refused_and_what_was_paid_for_is_kept(tmp_path: Path) -> None:
    state = FaultServer(scored=Scored(make_tokenizer(290)), delay=0.02)
    with serving(state), TraceStore(tmp_path / "t.sqlite") as store:
        with pytest.raises(IsodistillError, match=r"the server's tokens are not the student's: \d\d% of \d+ tokens"):
            collect(state, store, make_problems(40), make_tokenizer())
        assert store.count() == state.requests < 60  # all replies, and the run ended early


def test_a_server_without_log_probabilities_is_refused(tmp_path: Path) -> None:
    with serving(FaultServer()) as state, TraceStore(tmp_path / "t.sqlite") as store:
        with pytest.raises(IsodistillError, match="the server of openai:m returned no log-probabilities"):
            collect(state, store, make_problems(10), make_tokenizer())
        assert store.count() == state.requests <= 8


@pytest.mark.parametrize("wrong", [{"bytes": [300]}, {"logprob": 3.0}, {"logprob": float("nan")}])
def test_numbers_that_are_none_are_a_broken_answer(tmp_path: Path, wrong: dict[str, Any]) -> None:
    scored = Scored(make_tokenizer())

    def broken(text: str, k: int) -> list[dict[str, Any]]:
        content = scored(text, k)
        content[2]["top_logprobs"][1].update(wrong)
        return content

    with serving(FaultServer(scored=broken)) as state, TraceStore(tmp_path / "t.sqlite") as store:
        (outcome,) = collect(state, store, make_problems(1, ("law",)), make_tokenizer())
    assert outcome.failure is not None
    assert outcome.failure.reason == "broken answer"


def keep(
    tmp_path: Path, text: str, rationale: str, completion: str, content: list[ScoredToken], tokenizer: Any = None
) -> TokenSignal:
    tokenizer = tokenizer or make_tokenizer()
    with TraceStore(tmp_path / "t.sqlite") as store:
        keeper = SignalKeeper(tokenizer, "openai:m", 3, store)
        keeper.keep("Why?", completion, rationale, Reply(text, tokens=tuple(content)))
        key = signal_key(tokenizer, "Why?", completion)
        found = store.find_signal(*key, "openai:m", vocabulary_digest(tokenizer), 3)
    assert found is not None
    return found


def said(tokenizer: Any, text: str) -> list[ScoredToken]:
    spelt = token_bytes(tokenizer)
    return [ScoredToken(spelt[i], ((spelt[i], -0.25), (b"no token of it", -2.0))) for i in tokenizer(text)["input_ids"]]


def test_only_what_stands_in_the_reply_as_it_is_has_distributions(tmp_path: Path) -> None:
    """A thought before it is passed over; from where the answer line was written anew, nothing is known."""
    tokenizer = make_tokenizer()
    rationale = "So it follows. Ümläute ✓"
    text = f"<think>hm</think>\n{rationale}\n**Answer**: True"
    signal = keep(tmp_path, text, rationale, f"{rationale}\nAnswer: True", said(tokenizer, text))
    known = (signal.top_logprobs > -np.inf).any(axis=1)
    count = len(tokenizer(rationale)["input_ids"])
    assert known[:count].all()
    assert known.sum() <= count + 1  # the line break is one token of both, or not
    # The alternative that is no token of the student is left to the others.
    assert (signal.top_ids[known, 0] == signal.token_ids[known]).all()
    assert (signal.top_logprobs[known, 1:] == -np.inf).all()


def test_an_unusual_split_leaves_a_gap_and_no_more(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    completion = "So it follows.\nAnswer: True"
    content = said(tokenizer, completion)
    wide = next(place for place, token in enumerate(content) if len(token.text) > 4)
    first = content[wide]
    content[wide : wide + 1] = [ScoredToken(first.text[:2], first.top), ScoredToken(first.text[2:], first.top)]
    signal = keep(tmp_path, completion, "So it follows.", completion, content)
    known = (signal.top_logprobs > -np.inf).any(axis=1)
    assert not known[wide]
    assert known[: len(content) - 1].sum() == len(content) - 2


def test_bytes_of_every_kind_of_tokenizer() -> None:
    tokenizer = make_tokenizer()
    text = "Ümläute ✓ and so\n on"
    spelt = token_bytes(tokenizer)
    assert b"".join(spelt[index] for index in tokenizer(text)["input_ids"]) == text.encode()
    assert spelt[1] == b"<eos>"
    inner = Tokenizer(models.BPE({"▁So": 0, "▁it": 1, "<0xE2>": 2, "s": 3}, []))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    assert token_bytes(PreTrainedTokenizerFast(tokenizer_object=inner)) == {0: b" So", 1: b" it", 2: b"\xe2", 3: b"s"}
    assert spans(b"So it", [b" So", b" it", b"<eos>"]) == [(0, 2), (2, 5), (5, 5)]


def test_the_command_line_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained("student")
    LlamaConfig(vocab_size=len(tokenizer)).save_pretrained("student")
    write_data(tmp_path / "data", {"train": make_sets(3)})

    def isodistill(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["isodistill", "distill", "data", *arguments])
        try:
            run()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    with serving(FaultServer(scored=Scored(tokenizer))) as state:
        server = ["--teacher", "openai:m", "--base-url", state.url, "--top-k", "4", "--out", "out"]
        assert isodistill(*server) == 2
        assert "--top-k of a server needs --student" in capsys.readouterr().err
        assert isodistill(*server, "--student", "student", "--fill-from", "symbolic") == 2
        assert "--fill-from writes completions that the server has no distributions for" in capsys.readouterr().err
        assert isodistill("--teacher", "symbolic", "--student", "student", "--out", "out") == 2
        assert "--student is for --top-k" in capsys.readouterr().err
        assert state.requests == 0
        assert isodistill(*server, "--student", "student") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "top-4 distributions by openai:m" in printed, printed
    assert all(body["logprobs"] is True and body["top_logprobs"] == 4 for body in state.bodies)
    rows = json.loads((tmp_path / "out" / "distillation.json").read_text())
    assert rows["completions"] == 12
    with TraceStore("traces.sqlite") as store:
        assert store.signal_sizes()[0] == 12
        assert store.signal_sources() == [("openai:m", vocabulary_digest(tokenizer), 4)]
    assert expected_answer("Problem 1 of law") == "False"
