"""Attempts, filters, policies, statistics and the plan, with a teacher that follows a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teacher_server import DOMAINS, expected_answer, make_problems, make_sets, write_data

from isodistill.errors import IsodistillError
from isodistill.isomers import read_split
from isodistill.isomers.card import read_card
from isodistill.isomers.store import ROW_SCHEMA
from isodistill.teachers.base import Failure, Reply, Request
from isodistill.teachers.collect import Collector
from isodistill.teachers.distil import STATISTICS_FILE, DistilOptions, distil, select_sets
from isodistill.teachers.plan import make_plan
from isodistill.teachers.sampling import Sampling, make_sampling
from isodistill.traces import TraceStore

Script = Callable[[Request], Reply | Failure]


class Scripted:
    """Says what its script says, and remembers what it was asked."""

    kind = "scripted"
    model = "m"
    prompt_version = "v"
    varies = True
    patience = 60.0

    def __init__(self, script: Script, name: str = "scripted:m") -> None:
        self.name = name
        self.asked: list[Request] = []
        self._script = script

    def parameters(self, request: Request) -> Mapping[str, Any]:
        return {"temperature": request.temperature}

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        for request in requests:
            self.asked.append(request)
            yield request, self._script(request)


def right(request: Request, words: str = "It follows.") -> Reply:
    return Reply(f"{words}\nAnswer: {expected_answer(request.member.prompt)}", completion_tokens=10)


def wrong(request: Request) -> Reply:
    return Reply("I guess.\nAnswer: Perhaps", completion_tokens=10)


def test_rejected_attempts_are_repeated_with_growing_temperature() -> None:
    teacher = Scripted(lambda request: right(request) if request.attempt == 2 else wrong(request))
    calls: list[tuple[int, int]] = []
    sampling = Sampling(retries=4, temperature=0.1, temperature_step=0.4, max_temperature=0.8)
    outcomes = Collector(teacher, sampling).collect(make_problems(2), lambda *call: calls.append(call))
    assert [outcome.chosen for outcome in outcomes] == [2] * 8
    assert [request.temperature for request in teacher.asked] == [0.1] * 8 + [0.5] * 8 + [0.8] * 8
    assert len({request.seed for request in teacher.asked}) == 24
    assert calls == [(done, 8) for done in range(9)]


def test_attempts_end() -> None:
    teacher = Scripted(wrong)
    (outcome,) = Collector(teacher, Sampling(retries=2)).collect(make_problems(1, ("law",)))
    assert outcome.completion is None
    assert sorted(outcome.attempts) == [0, 1, 2]


def test_equal_texts_are_asked_once() -> None:
    problems = make_problems(3)
    teacher = Scripted(right)
    outcomes = Collector(teacher, Sampling()).collect([*problems, *problems])
    assert len(outcomes) == 24
    assert len(teacher.asked) == 12
    assert all(outcome.completion for outcome in outcomes)


def test_best_of_n_takes_the_shortest_and_agreement_refuses_luck() -> None:
    lengths = {0: "It follows from all that was said.", 1: "It follows.", 2: "So it follows."}
    sampling = Sampling(samples=3, retries=2, temperature=0.7, choose="shortest")
    teacher = Scripted(lambda request: right(request, lengths[request.attempt]))
    (outcome,) = Collector(teacher, sampling).collect(make_problems(1, ("law",)))
    assert outcome.chosen == 1
    assert len(teacher.asked) == 3

    lucky = Scripted(lambda request: right(request) if request.attempt == 1 else wrong(request))
    (outcome,) = Collector(lucky, sampling).collect(make_problems(1, ("law",)))
    assert outcome.chosen == 1
    strict = sampling.model_copy(update={"min_agreement": 0.5})
    (outcome,) = Collector(lucky, strict).collect(make_problems(1, ("law",)))
    assert outcome.lacks_agreement
    assert outcome.completion is None
    assert sorted(outcome.attempts) == [0, 1, 2]  # luck is not tried again


def test_a_rerun_asks_for_what_is_missing_and_judges_anew(tmp_path: Path) -> None:
    problems = make_problems(4)
    with TraceStore(tmp_path / "t.sqlite") as store:
        teacher = Scripted(lambda request: wrong(request) if request.attempt == 0 else right(request))
        first = Collector(teacher, Sampling(retries=1), store).collect(problems[:6])
        assert len(teacher.asked) == 12
        again = Collector(teacher, Sampling(retries=1), store).collect(problems)
        assert len(teacher.asked) == 12 + 20
        assert [outcome.completion for outcome in again[:6]] == [outcome.completion for outcome in first]
        # Another instruction, model or temperature is another recipe.
        other = Scripted(right)
        other.prompt_version = "w"  # type: ignore[misc]
        Collector(other, Sampling(), store).collect(problems)
        assert len(other.asked) == 16

        def no_rationale(*_: object) -> str:
            return "not to my taste"

        judged = Collector(teacher, Sampling(retries=1), store, (no_rationale,)).collect(problems)
        assert len(teacher.asked) == 32
        assert all(outcome.completion is None for outcome in judged)
        assert {outcome.attempts[1][1].verdict for outcome in judged} == {"not to my taste"}


def test_replies_come_back_from_the_store_in_any_state(tmp_path: Path) -> None:
    """Attempts may have gaps: attempt 1 is there and attempt 0 failed."""
    sampling = Sampling(samples=2, retries=0, temperature=1.0)
    problems = make_problems(1, ("law",))
    with TraceStore(tmp_path / "t.sqlite") as store:
        broken = Scripted(lambda request: Failure("connection", "gone") if request.attempt == 0 else right(request))
        (outcome,) = Collector(broken, sampling, store).collect(problems)
        assert outcome.failure is not None
        assert outcome.completion is None
        whole = Scripted(right)
        (outcome,) = Collector(whole, sampling, store).collect(problems)
        assert [request.attempt for request in whole.asked] == [0]
        assert outcome.chosen == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", {"train": make_sets(6), "iid": make_sets(2)})


def only_law_fails(request: Request) -> Reply:
    return wrong(request) if request.member.domain == "law" and "Problem 2" in request.member.prompt else right(request)


def test_a_set_with_a_gap_is_dropped_whole_or_filled_or_an_error(data: Path, tmp_path: Path) -> None:
    options = DistilOptions(sampling=Sampling(retries=1), splits=("train",), incomplete="drop")
    teacher = Scripted(only_law_fails)
    report = distil(data, teacher, tmp_path / "dropped", options=options)
    assert (report.dropped, report.filled, report.splits) == (1, 0, {"train": 5, "iid": 2})
    kept = read_split(tmp_path / "dropped", "train")
    assert [row.set_id for row in kept] == ["s0", "s1", "s3", "s4", "s5"]
    assert all(row.domains == DOMAINS for row in kept)
    assert all(not member.completion for row in read_split(tmp_path / "dropped", "iid") for member in row.members)

    helper = Scripted(lambda request: right(request, "Helped."), name="scripted:helper")
    helper.model = "helper"  # type: ignore[misc]
    report = distil(data, teacher, tmp_path / "filled", options=replace(options, fill_from=helper))
    assert (report.dropped, report.filled, report.members) == (0, 1, 24)
    assert read_split(tmp_path / "filled", "train")[2].members[0].completion == "Helped.\nAnswer: Unknown"
    info, _ = read_card(tmp_path / "filled" / "README.md")
    assert info is not None
    assert info.teacher == "scripted:m; gaps by scripted:helper"

    with pytest.raises(IsodistillError, match="set 's2', domain 'law', the teacher 'scripted:m' answers 'Perhaps'"):
        distil(data, teacher, tmp_path / "failed", options=replace(options, incomplete="fail"))
    assert not (tmp_path / "failed").exists()


def test_an_outage_never_shapes_the_data(data: Path, tmp_path: Path) -> None:
    """Sets are dropped because a teacher cannot, never because a server was away."""
    teacher = Scripted(lambda r: Failure("connection", "gone") if r.member.domain == "law" else right(r))
    options = DistilOptions(splits=("train",), incomplete="drop")
    with (
        TraceStore(tmp_path / "t.sqlite") as store,
        pytest.raises(IsodistillError, match=r"6 of 24 problems got no reply .* connection: gone; .* kept in"),
    ):
        distil(data, teacher, tmp_path / "out", options=options, store=store)
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="no set has a trace for every member"):
        distil(data, Scripted(wrong), tmp_path / "out", options=DistilOptions(incomplete="drop"))
    assert not (tmp_path / "out").exists()


def test_a_limit_picks_the_same_sets_and_leaves_the_others_out(data: Path, tmp_path: Path) -> None:
    names = []
    for limit in (2, 3):
        options = DistilOptions(limit_sets=limit, splits=("train",))
        distil(data, Scripted(right), tmp_path / str(limit), options=options)
        names.append({row.set_id for row in read_split(tmp_path / str(limit), "train")})
    assert [len(each) for each in names] == [2, 3]
    assert names[0] < names[1]


def test_a_limit_counts_the_pairs_of_flat_rows(tmp_path: Path) -> None:
    texts = [{"set_id": f"pair{n // 2}", "domain": "ab"[n % 2], "prompt": f"{n}?", "answer": str(n)} for n in range(10)]
    rows = [dict.fromkeys(ROW_SCHEMA.names, "") | {"choices": []} | text for text in texts]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), tmp_path / "data" / "train.parquet")
    kept = select_sets(tmp_path, DistilOptions(limit_sets=3))["train"]
    assert len(kept) == 6
    assert len({one.set_id for one in kept}) == 3


def test_statistics_tell_the_weaker_domain(data: Path, tmp_path: Path) -> None:
    def script(request: Request) -> Reply:
        law = request.member.domain == "law"
        return wrong(request) if law and request.attempt < 1 else right(request, "It is so because it follows.")

    options = DistilOptions(sampling=Sampling(retries=1), splits=("train",))
    report = distil(data, Scripted(script), tmp_path / "out", options=options)
    law, math = report.statistics["deduction", "law"], report.statistics["deduction", "math"]
    assert (law.problems, law.accepted, law.first_try, law.attempts) == (6, 6, 0, 12)
    assert (math.problems, math.accepted, math.first_try, math.attempts) == (6, 6, 6, 6)
    assert law.reasons == {"wrong answer": 6}
    written = json.loads((tmp_path / "out" / STATISTICS_FILE).read_text())
    rows = {row["domain"]: row for row in written["groups"]}
    assert rows["law"]["first_try_rate"] == 0
    assert rows["law"]["mean_attempts"] == 2
    assert rows["math"]["mean_words"] == 8
    assert rows["math"]["pass_rate"] == 1


def test_the_plan_counts_what_the_store_lacks(tmp_path: Path) -> None:
    problems = make_problems(5)
    with TraceStore(tmp_path / "t.sqlite") as store:
        teacher = Scripted(lambda request: right(request) if request.member.domain != "law" else wrong(request))
        sampling = Sampling(retries=2)
        collector = Collector(teacher, sampling, store)
        plan = make_plan(collector, {"train": problems, "iid": problems[:4]}, "Think.", 100)
        assert (plan.problems, plan.settled, plan.least_requests, plan.most_requests) == (20, 0, 20, 60)
        assert (plan.completion_tokens, plan.measured) == (100, False)
        assert teacher.asked == []
        Collector(teacher, Sampling(retries=0), store).collect(problems)
        plan = make_plan(collector, {"train": problems}, "Think.", 100)
        assert (plan.settled, plan.least_requests, plan.most_requests) == (15, 5, 10)
        assert (plan.completion_tokens, plan.measured) == (10, True)
        assert plan.tokens(10)[1] == 100
        collector.collect(problems)
        assert make_plan(collector, {"train": problems}, "Think.", 100).least_requests == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"samples": 0}, "samples: must be 1 or more, not 0"),
        ({"samples": 3}, "several samples at temperature 0"),
        ({"choose": "longest"}, "choose: must be "),
        ({"min_agreement": 1.5}, "min_agreement"),
        ({"warmth": 1}, "warmth: there is no such field, only "),
    ],
)
def test_wrong_sampling_options(values: dict[str, object], words: str) -> None:
    with pytest.raises(IsodistillError, match=words):
        make_sampling(**values)
