from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from isodistill.errors import IsodistillError
from isodistill.traces import Recipe, TraceFilter, TraceRecord, TraceStore, problem_digest
from isodistill.traces.export import export_records


def record(number: int = 0, **changes: object) -> TraceRecord:
    prompt = f"Problem {number}?"
    made = TraceRecord(
        recipe=Recipe(problem_digest(prompt, "True"), "openai", "m", '{"attempt":0}', "v1"),
        set_id=f"s{number}",
        family="deduction",
        domain=("law", "math")[number % 2],
        prompt=prompt,
        expected="True",
        attempt=0,
        text="So it is.\nAnswer: True",
        answer="True",
        verdict="accepted",
        finish="stop",
        prompt_tokens=20,
        completion_tokens=number,
        seconds=0.5,
        created=1000.0 + number,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "traces.sqlite"


def test_what_goes_in_comes_out(path: Path) -> None:
    records = [record(n) for n in range(1200)]
    with TraceStore(path) as store:
        assert all(store.add(each) for each in records[:5])
        assert not store.add(replace(records[3], text="another reply"))  # the first reply stays
        assert list(store.select()) == records[:5]
    with TraceStore(path, create=False) as store:
        for each in records[5:]:
            store.add(each)
        found = store.find([each.key for each in records] + ["nothing"])
        assert found == {each.key: each for each in records}
        assert store.count() == 1200
        assert store.mean_tokens("openai", "m", "v1") == pytest.approx(599.5)
        assert store.mean_tokens("openai", "other", "v1") is None


def test_hostile_text_is_text(path: Path) -> None:
    text = "a\x00b\x1b[31m'); DROP TABLE traces; -- \u202e \U0001f600 <script>"
    with TraceStore(path) as store:
        store.add(record(1, text=text, answer=text))
        store.add(record(2, text="lone \ud800 surrogate"))
        first, second = store.select()
        assert first.text == first.answer == text
        assert second.text == "lone ? surrogate"


def test_a_recipe_depends_on_each_of_its_parts() -> None:
    recipe = Recipe("p", "t", "m", "{}", "v")
    parts = ("problem", "teacher", "model", "parameters", "prompt_version")
    assert len({recipe.key, *(replace(recipe, **{name: "other"}).key for name in parts)}) == 6
    assert replace(recipe, problem="pt", teacher="").key != replace(recipe, problem="p", teacher="t").key
    assert problem_digest("a", "True") != problem_digest("a", "False")


def test_filters(path: Path) -> None:
    with TraceStore(path) as store:
        for n in range(6):
            store.add(record(n, verdict="accepted" if n < 4 else "wrong answer"))
        assert store.count(TraceFilter(domain="law")) == 3
        assert store.count(TraceFilter(verdict="rejected")) == 2
        assert store.count(TraceFilter(verdict="wrong answer", domain="math")) == 1
        assert store.count(TraceFilter(before=1002.0)) == 2
        assert store.count(TraceFilter(model="m", teacher="openai", prompt_version="v1", family="deduction")) == 6
        assert store.count(TraceFilter(model="m2")) == 0
        key = record(2).key
        assert [each.key for each in store.select(key=key[:10])] == [key]
        assert list(store.select(key="%")) == []


def test_nothing_can_be_changed_or_deleted_but_by_pruning(path: Path) -> None:
    with TraceStore(path) as store:
        for n in range(4):
            store.add(record(n, verdict="wrong answer" if n == 1 else "accepted"))
        other = sqlite3.connect(path)
        for statement in ("UPDATE traces SET text = ''", "DELETE FROM traces"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
        other.close()
        assert store.prune(TraceFilter(verdict="rejected")) == 1
        assert store.count() == 3
        other = sqlite3.connect(path)
        assert other.execute("SELECT count(*) FROM problems").fetchone() == (3,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute("DELETE FROM traces")
        other.close()


def test_claims(path: Path) -> None:
    with TraceStore(path) as ours, TraceStore(path) as theirs:
        assert ours.claim("a", 60) == "mine"
        assert ours.claim("a", 60) == "mine"
        assert theirs.claim("a", 60) == "taken"
        ours.release_claims()
        assert theirs.claim("a", 60) == "mine"
        assert theirs.claim("b", -1) == "mine"
        assert ours.claim("b", 60) == "mine"  # theirs has run out
        each = record(1)
        assert ours.claim(each.key, 60) == "mine"
        ours.add(each)
        assert theirs.claim(each.key, 60) == "done"


def test_a_dead_process_holds_no_claim(path: Path) -> None:
    code = (
        "import os, sys; from isodistill.traces import TraceStore; s = TraceStore(sys.argv[1]); s.claim('a', 600);"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM claims").fetchone() == (1,)
    connection.close()
    with TraceStore(path) as store:
        assert store.claim("a", 60) == "mine"


def test_failures_are_noted_and_not_replies(path: Path) -> None:
    with TraceStore(path) as store:
        for reason in ("server error", "rate limit", "server error"):
            store.add_failure(record(1).recipe, reason, "x" * 10_000)
        assert store.failures() == {"server error": 2, "rate limit": 1}
        assert store.find([record(1).key]) == {}


def test_files_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="there is no trace store"):
        TraceStore(tmp_path / "none.sqlite", create=False)
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, but long enough to have a header of its own" * 10)
    with pytest.raises(IsodistillError, match="cannot be read"):
        TraceStore(text)
    assert text.read_text().startswith("not a database")
    foreign = tmp_path / "foreign.sqlite"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(IsodistillError, match="is a database but no trace store"):
        TraceStore(foreign)
    TraceStore(tmp_path / "new.sqlite").close()
    connection = sqlite3.connect(tmp_path / "new.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IsodistillError, match="format 99"):
        TraceStore(tmp_path / "new.sqlite")
    with pytest.raises(IsodistillError, match="cannot be opened"):
        TraceStore(text / "below.sqlite")


def test_export_writes_everything_or_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert export_records((record(n) for n in range(3)), out) == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["set_id"] for row in rows] == ["s0", "s1", "s2"]
    assert rows[1]["parameters"] == {"attempt": 0}
    assert rows[1]["key"] == record(1).key

    def broken() -> object:
        yield record(0)
        raise OSError(28, "No space left on device")

    with pytest.raises(IsodistillError, match="No space left"):
        export_records(broken(), out)  # type: ignore[arg-type]
    assert len(out.read_text().splitlines()) == 3
    assert list(tmp_path.iterdir()) == [out]
