"""From sources to a data set: what is kept, counted, read by the rest, and never asked for twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from public_data import public_data
from writing_helpers import (
    CHOICES,
    Perfect,
    Scripted,
    cat_source,
    folio_row,
    good,
    good_reading,
    sources_of,
    text_of,
    write_rows,
)

from isodistill.errors import IsodistillError
from isodistill.evaluation.items import read_items
from isodistill.isomers import available_splits, generate, make_config, read_split
from isodistill.isomers.card import read_card
from isodistill.isomers.compare import compare_members
from isodistill.logic import canonical_form, parse_formula
from isodistill.teachers import Failure, Request
from isodistill.teachers.distil import DistilOptions, distil
from isodistill.teachers.sampling import Sampling
from isodistill.traces import TraceStore
from isodistill.trainer.data import is_paired, member_rows
from isodistill.writing import Sources, WritingOptions, read_sources, write_isomers
from isodistill.writing.write import plan_requests

ONCE = Sampling(retries=0)


def options(*domains: str, **others: Any) -> WritingOptions:
    return WritingOptions(domains=domains or ("law",), sampling=others.pop("sampling", ONCE), **others)


def task(request: Request) -> str:
    return request.member.prompt.split("\n")[0].removeprefix("Task: ")


def flawless(request: Request) -> str:
    return text_of(good() if task(request) == "write" else good_reading())


def account(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(out.with_name(f"{out.name}.writing.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    out = tmp_path / "generated"
    generate(make_config(sets=4, validation_sets=2, test_sets=0, domains=("law", "math"), audit=False), out)
    return out


def perfect(sources: Sources) -> Scripted:
    rows = [source.isomer_set for split in sources.splits.values() for source in split]
    return Scripted(Perfect({row.set_id: row.logic for row in rows}))


def test_a_row_of_folio_becomes_a_set(tmp_path: Path) -> None:
    rows = [folio_row(), folio_row("True"), folio_row(**{"conclusion-FOL": None})]
    sources = read_sources(f"folio:{write_rows(tmp_path / 'folio-validation.jsonl', rows)}")
    assert len(sources.splits["validation"]) == 1
    assert sum(sources.dropped["validation"].values()) == 2
    writer = Scripted(flawless)
    report = write_isomers(sources, writer, tmp_path / "out", options())
    assert (writer.count("write"), writer.count("read")) == (1, 1)
    assert report.sets == {"validation": 1}
    (row,) = read_split(tmp_path / "out", "validation")
    assert row.domains == ("folio", "law")
    assert (row.set_id, row.answer, row.choices) == ("folio-validation-0", "Unknown", CHOICES)
    assert row.members[1].prompt.endswith("Conclusion: The Farley deed is not void.\nTrue, False or Unknown?")
    formal = json.loads(row.members[1].formal)
    formulas = [parse_formula(text) for text in formal["premises"]]
    assert canonical_form(formulas, parse_formula(formal["question"])) == row.canonical
    assert formal["symbols"]["Amends"] == "amends"
    info, _ = read_card(tmp_path / "out" / "README.md")
    assert info is not None
    assert info.license == "cc-by-sa-4.0"
    assert info.config["members"] == {"kept": 1, "repaired": 0, "dropped": 0}
    told = account(tmp_path / "out")
    assert told["members"] == {"law": {"kept": 1, "repaired": 0, "dropped": 0, "reasons": {}}}
    assert told["problems_dropped"]["validation"]
    assert told["prompt_version"] == writer.prompt_version
    # What a reader is shown has no formula in it.
    assert "∀" not in next(text for text in writer.asked if text.startswith("Task: read"))


def test_generated_sets_get_members_that_the_rest_can_use(generated: Path, tmp_path: Path) -> None:
    sources = read_sources(str(generated), ("train", "validation"))
    out = tmp_path / "out"
    report = write_isomers(sources, perfect(sources), out, options("sport", "music"))
    assert report.account.fates() == {"kept": 12}
    assert report.sets == {"train": 4, "validation": 2}
    for split in ("train", "validation"):
        for before, after in zip(read_split(generated, split), read_split(out, split), strict=True):
            assert after.members[:2] == before.members
            assert after.domains == ("law", "math", "sport", "music")
            assert (after.set_id, after.answer) == (before.set_id, before.answer)
            assert [row.place for row in compare_members(after)] == ["text"]
    told = Scripted(lambda request: f"It follows.\nAnswer: {request.isomer_set.answer}")
    distil(out, told, tmp_path / "traces", options=DistilOptions(sampling=ONCE, incomplete="drop"))
    rows = pq.read_table(tmp_path / "traces" / "data" / "train.parquet").to_pylist()
    assert is_paired(rows[0])
    assert Counter(row.domain for row in member_rows(rows, rows[0])) == dict.fromkeys(
        ("law", "math", "sport", "music"), 4
    )
    assert len(read_items(out, "validation")) == 8
    # What was written is a source in its turn.
    again = read_sources(str(out), ("train",))
    assert [source.canonical for source in again.splits["train"]] == [
        source.canonical for source in sources.splits["train"]
    ]


def test_every_member_is_counted_once_with_its_reason(tmp_path: Path) -> None:
    replies = {
        "law": text_of(good()),
        "sport": f"```json\n{text_of(good())}\n```".replace("lease", "match").replace("deed", "game"),
        "music": text_of(good()).replace("¬Void", "Void"),
        "art": text_of(good()).replace("lease", "print").replace("deed", "canvas"),
        "food": text_of(good()).replace("lease", "stew").replace("deed", "broth"),
        "copy": text_of(good()),
    }

    def reply(request: Request) -> str | Failure:
        if request.member.domain == "none":
            return Failure("refused by the server", "HTTP 400", permanent=True)
        if task(request) == "write":
            return replies[request.member.domain]
        if request.member.domain == "food":
            return "I cannot."
        read = good_reading()
        if request.member.domain == "art":
            read["premises"][0] = "∀x (Lease(x) ↔ Contract(x))"
        return text_of(read)

    domains = (*replies, "none")
    out = tmp_path / "out"
    report = write_isomers(sources_of(cat_source()), Scripted(reply), out, options(*domains, incomplete="keep"))
    assert report.account.fates() == {"kept": 1, "repaired": 1, "dropped": 5}
    assert report.account.reasons() == {
        "another structure": 1,
        "the back-translation differs": 1,
        "no back-translation: no JSON object": 1,
        "a text that is there already": 1,
        "no reply": 1,
    }
    assert report.account.mends() == {"took the object out of a code fence": 1}
    assert report.sets == {"train__without_music_art_food_copy_none": 1}
    told = account(out)
    assert told["members"]["art"]["reasons"] == {"the back-translation differs": 1}
    assert told["replies"]["write"] == {"accepted": 5, "another structure": 1}
    assert told["replies"]["read"] == {"accepted": 4, "no JSON object": 1}
    assert len(told["items"]) == 7
    assert (
        sum(sum(member[fate] for fate in ("kept", "repaired", "dropped")) for member in told["members"].values()) == 7
    )


def test_partial_sets_are_dropped_or_kept_apart(generated: Path, tmp_path: Path) -> None:
    sources = read_sources(str(generated))
    writer = perfect(sources)
    failing = sources.splits["train"][0].isomer_set.set_id
    clever = writer._reply

    def reply(request: Request) -> str | Failure:
        bad = (request.isomer_set.set_id, request.member.domain, task(request)) == (failing, "music", "write")
        return "no" if bad else clever(request)

    dropped = write_isomers(sources, Scripted(reply), tmp_path / "drop", options("sport", "music"))
    assert (dropped.sets, dropped.dropped_sets) == ({"train": 3}, 1)
    kept = write_isomers(sources, Scripted(reply), tmp_path / "keep", options("sport", "music", incomplete="keep"))
    assert (kept.sets, kept.dropped_sets) == ({"train": 3, "train__without_music": 1}, 0)
    assert available_splits(tmp_path / "keep") == ("train", "train__without_music")
    (row,) = read_split(tmp_path / "keep", "train__without_music")
    assert (row.set_id, row.domains) == (failing, ("law", "math", "sport"))


def test_a_rerun_asks_for_nothing_and_gives_the_same(generated: Path, tmp_path: Path) -> None:
    sources = read_sources(str(generated))
    clever = perfect(sources)._reply

    def reply(request: Request) -> str | Failure:
        # The first attempt at every proposal and every reading fails.
        return "no" if request.attempt == 0 else clever(request)

    twice = options("sport", sampling=Sampling(retries=1))
    with TraceStore(tmp_path / "traces.sqlite") as store:
        writer = Scripted(reply)
        plan, readings = plan_requests(sources, writer, twice, None, store, 100)
        assert (plan.least_requests, plan.most_requests, readings.problems, len(writer.asked)) == (4, 8, 0, 0)
        first = write_isomers(sources, writer, tmp_path / "first", twice, store=store)
        assert (writer.count("write"), writer.count("read")) == (8, 8)
        assert first.account.fates() == {"kept": 4}
        silent = Scripted(lambda request: pytest.fail("asked again"))
        assert [each.least_requests for each in plan_requests(sources, silent, twice, None, store, 100)] == [0, 0]
        write_isomers(sources, silent, tmp_path / "second", twice, store=store)
    assert read_split(tmp_path / "second", "train") == read_split(tmp_path / "first", "train")
    assert account(tmp_path / "second") == account(tmp_path / "first")


def test_a_readable_reading_is_never_asked_for_again(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        wrong = {**good_reading(), "conclusion": "Void(farley_deed)"}
        return text_of(good() if task(request) == "write" else wrong if request.attempt == 0 else good_reading())

    writer = Scripted(reply)
    report = write_isomers(sources_of(cat_source()), writer, tmp_path / "out", options(sampling=Sampling(retries=3)))
    assert writer.count("read") == 1
    assert report.account.reasons() == {"the back-translation differs": 1}
    assert (report.sets, report.dropped_sets) == ({}, 1)
    assert not (tmp_path / "out").exists()
    assert account(tmp_path / "out")["sets_dropped"] == 1


def test_a_reader_of_its_own_reads(tmp_path: Path) -> None:
    writer, reader = Scripted(flawless), Scripted(flawless)
    write_isomers(sources_of(cat_source()), writer, tmp_path / "out", options(), reader)
    assert (writer.count("write"), writer.count("read")) == (1, 0)
    assert (reader.count("write"), reader.count("read")) == (0, 1)


def test_an_outage_ends_the_run_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    def reply(request: Request) -> str | Failure:
        return Failure("connection", "refused") if task(request) == "read" else flawless(request)

    with TraceStore(tmp_path / "traces.sqlite") as store:
        with pytest.raises(IsodistillError, match=r"1 of 1 requests got no reply .*connection: refused.*kept in"):
            write_isomers(sources_of(cat_source()), Scripted(reply), tmp_path / "out", options(), store=store)
        assert not (tmp_path / "out").exists()
        writer = Scripted(flawless)
        report = write_isomers(sources_of(cat_source()), writer, tmp_path / "out", options(), store=store)
        assert (writer.count("write"), writer.count("read"), report.sets) == (0, 1, {"train": 1})


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ((), "No domain is named"),
        (("Law",), "'Law' is no name"),
        (("sports law",), "write it like sports_law"),
        (("law", "law"), "named twice"),
        (("folio",), "already has a member in the domain 'folio'"),
    ],
)
def test_domains_are_checked_before_anything_is_asked(domains: tuple[str, ...], words: str, tmp_path: Path) -> None:
    writer = Scripted(flawless)
    with pytest.raises(IsodistillError, match=words):
        write_isomers(sources_of(cat_source()), writer, tmp_path / "out", WritingOptions(domains))
    assert not writer.asked


def test_sources_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for family, reason in (("ordering", "no form in the notation"), ("quantity", "its answer is a number")):
        generate(make_config(family=family, sets=2, validation_sets=0, test_sets=0, audit=False), tmp_path / family)
        with pytest.raises(IsodistillError, match=f"2 because .*{reason}"):
            read_sources(str(tmp_path / family))
    generate(
        make_config(sets=2, validation_sets=0, test_sets=0, audit=False, shortcut={"rate": 1.0}), tmp_path / "cued"
    )
    with pytest.raises(IsodistillError, match="has a planted cue"):
        read_sources(str(tmp_path / "cued"))
    with pytest.raises(IsodistillError, match="no split 'test'"):
        read_sources(f"folio:{write_rows(tmp_path / 'folio-train.jsonl', [folio_row()])}", ("test",))


def test_a_limit_picks_the_same_problems_in_every_run(generated: Path) -> None:
    names = [[s.isomer_set.set_id for s in read_sources(str(generated), (), limit).splits["train"]] for limit in (2, 3)]
    assert len(names[0]) == 2
    assert set(names[0]) < set(names[1])


@pytest.mark.data
def test_the_verified_rows_of_folio_are_sources() -> None:
    sources = read_sources(f"folio:{public_data('folio') / 'folio-validation.jsonl'}")
    assert len(sources.splits["validation"]) == 195
    assert sources.dropped["validation"] == {"z3 does not reproduce its label": 9}
