from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, available_splits, generate, make_config, read_split, verify_set
from isodistill.isomers import generate as generate_function
from isodistill.isomers.card import read_card
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.generate import GenerationReport
from isodistill.isomers.packs import available_packs, load_pack
from isodistill.isomers.splits import SPLITS, group_of

generator = sys.modules[generate_function.__module__]
SMALL = {"sets": 30, "validation_sets": 6, "test_sets": 12, "domains": ["law", "math", "medicine"]}
Data = tuple[GenerationReport, dict[str, list[IsomerSet]]]


def made(out: Path, **values: Any) -> Data:
    report = generate(make_config(**values), out)
    return report, {split: read_split(out, split) for split in available_splits(out)}


@pytest.fixture(scope="module")
def cued(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return made(tmp_path_factory.mktemp("cued") / "data", **SMALL, shortcut={"rate": 0.9}, seed=5)


def test_every_split_is_there_in_order(cued: Data, tmp_path: Path) -> None:
    report, splits = cued
    assert list(splits) == [split.name for split in SPLITS] == list(report.splits)
    assert {name: len(sets) for name, sets in splits.items()} == report.splits
    assert report.duplicates == 0
    assert report.members == sum(len(row.members) for sets in splits.values() for row in sets)
    assert read_card(report.out / "README.md")[1] == tuple(splits)
    _, plain = made(tmp_path / "plain", **SMALL)
    assert list(plain) == ["train", "validation", "iid", "unseen_domain", "deeper"]
    assert not any(member.cue for sets in plain.values() for row in sets for member in row.members)


def test_every_written_set_verifies(cued: Data) -> None:
    for sets in cued[1].values():
        for row in sets:
            verify_set(row)


def test_answers_and_depths_take_turns(cued: Data) -> None:
    for name, sets in cued[1].items():
        counts = Counter(row.answer for row in sets)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert {row.depth for row in sets} <= ({4, 5} if name == "deeper" else {1, 2, 3})
    by_depth = Counter((row.answer, row.depth) for row in cued[1]["train"])
    assert max(by_depth.values()) - min(by_depth.values()) <= 1
    assert cued[0].answers == {"True": 10, "False": 10, "Unknown": 10}


def test_no_structure_stands_in_two_groups(cued: Data) -> None:
    groups = {split.name: "test" if split.group == "deeper" else split.group for split in SPLITS}
    for name, sets in cued[1].items():
        assert {group_of(row.logic.structure) for row in sets} == {groups[name]}
    structures = [{row.logic.structure for row in cued[1][name]} for name in ("train", "validation", "iid")]
    assert not structures[0] & structures[1]
    assert not structures[0] & structures[2]
    assert not structures[1] & structures[2]


def without_cue(row: IsomerSet, domain: str) -> str:
    member = next(member for member in row.members if member.domain == domain)
    formal = dataclasses.replace(member.load_formal(row.set_id), cue=None)
    return formal.render(row.logic, load_pack(domain))


def test_test_splits_show_the_same_problems_in_the_same_words(cued: Data) -> None:
    splits = cued[1]
    bare = {row.set_id: row for row in splits["cue_absent"]}
    for name in ("iid", "cue_reversed"):
        assert [row.set_id for row in splits[name]] == list(bare)
        for row in splits[name]:
            assert row.skeleton == bare[row.set_id].skeleton
            for member, other in zip(row.members, bare[row.set_id].members, strict=True):
                assert without_cue(row, member.domain) == other.prompt != member.prompt
    unseen = ["unseen_domain", "unseen_domain__cue_random", "unseen_domain__cue_reversed"]
    for name in unseen:
        assert [row.set_id for row in splits[name]] == list(bare)
        assert {row.domains for row in splits[name]} == {("finance", "cooking")}
    assert all(row.skeleton == bare[row.set_id].skeleton for row in splits["unseen_domain"])


def test_cues_point_where_the_split_says(cued: Data) -> None:
    splits = cued[1]
    for name, sets in splits.items():
        cues = [(member.cue, row.answer) for row in sets for member in row.members]
        if name in ("cue_absent", "unseen_domain", "deeper"):
            assert {cue for cue, _ in cues} == {""}
        elif name.endswith("reversed"):
            assert all(cue and cue != answer for cue, answer in cues)
        else:
            agreeing = sum(cue == answer for cue, answer in cues) / len(cues)
            assert agreeing < 0.7 if "random" in name else agreeing > 0.7
    # The same phrase in each version: only its key words change.
    for row, other in zip(splits["iid"], splits["cue_reversed"], strict=True):
        for member, twin in zip(row.members, other.members, strict=True):
            groups = load_pack(member.domain).cues
            texts = [json.loads(part.formal)["cue"]["text"] for part in (member, twin)]
            first, second = ([text in group and group.index(text) for group in groups] for text in texts)
            assert {place for place in first if place is not False} == {place for place in second if place is not False}


def test_equal_seeds_give_equal_data_and_a_small_set_begins_a_large_one(tmp_path: Path) -> None:
    base = {**SMALL, "validation_sets": 0, "test_sets": 0}
    _, one = made(tmp_path / "one", **base)
    _, two = made(tmp_path / "two", **base)
    _, more = made(tmp_path / "more", **{**base, "sets": 45})
    _, other = made(tmp_path / "other", **base, seed=1)
    assert one == two
    assert more["train"][:30] == one["train"]
    assert not {row.set_id for row in one["train"]} & {row.set_id for row in other["train"]}


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"deduction"}))
def test_the_other_families_generate(tmp_path: Path, family: str) -> None:
    small = {**SMALL, "sets": 12, "test_sets": 4, "validation_sets": 0, "domains": ["law", "math"]}
    report, splits = made(tmp_path / family, **small, family=family, shortcut={"rate": 0.8, "position": "end"})
    assert report.duplicates == 0
    for row in splits["train"]:
        for member in row.members:
            assert member.prompt.split("\n")[0].endswith(json.loads(member.formal)["cue"]["text"])
            if not row.choices:
                assert member.cue in ("even", "odd")
                numbers = Counter(re.findall(r"\d+", member.prompt))
                assert numbers == Counter(re.findall(r"\d+", row.members[0].prompt))
    if family in ("quantity", "counting"):
        assert report.answers == {"even": 6, "odd": 6}


NONCES = st.integers(0, 10**6).map("nonce:{}".format)
DOMAINS = st.lists(st.sampled_from(available_packs()) | NONCES, min_size=2, max_size=3, unique=True)


def verified(out: Path, depth: int, rate: float | None, sets: int = 2, **values: Any) -> list[IsomerSet]:
    sizes = {"unseen_domains": (), "sets": sets, "validation_sets": 0, "test_sets": 0}
    _, splits = made(out, **sizes, **values, depth=(depth, depth), shortcut=None if rate is None else {"rate": rate})
    assert len(splits["train"]) == sets
    for row in splits["train"]:
        verify_set(row)
        assert (row.family, row.depth, row.domains) == (values["family"], depth, tuple(values["domains"]))
    return splits["train"]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    family=st.sampled_from(sorted(FAMILIES)),
    domains=DOMAINS,
    depth=st.integers(1, 4),
    rate=st.none() | st.floats(0, 1),
)
def test_any_seed_family_pack_and_depth_give_a_set_that_verifies(
    tmp_path_factory: pytest.TempPathFactory, seed: int, family: str, domains: list[str], depth: int, rate: float | None
) -> None:
    verified(tmp_path_factory.mktemp("any") / "data", depth, rate, seed=seed, family=family, domains=domains)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("depth", range(1, 7))
@settings(max_examples=9, deadline=None)
@given(seed=st.integers(0, 10**6), domains=DOMAINS, rate=st.none() | st.floats(0, 1))
def test_every_depth_of_every_family_gives_sets_that_verify_in_every_pack(
    tmp_path_factory: pytest.TempPathFactory, family: str, depth: int, seed: int, domains: list[str], rate: float | None
) -> None:
    deepest = FAMILIES[family].max_depth
    if deepest is not None and depth > deepest:
        pytest.skip(f"{family} has a depth of {deepest} at most")
    # Each pack takes its turn, so that none is left to chance.
    pack = available_packs()[seed % len(available_packs())]
    told = [pack, *(name for name in domains if name != pack)]
    verified(tmp_path_factory.mktemp("many") / "data", depth, rate, seed=seed, family=family, domains=told)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_128_invented_domains_tell_one_set(tmp_path: Path, family: str) -> None:
    domains = [f"nonce:{7919 * number}" for number in range(128)]
    (row,) = verified(tmp_path / "data", 3, 0.9, sets=1, family=family, domains=domains)
    assert len({member.prompt for member in row.members}) == 128


def test_a_small_space_is_an_error_that_names_the_knobs(tmp_path: Path) -> None:
    options = {"distractors": (0, 0), "distractor_kinds": "neutral", "answers": ("True", "False")}
    short = {**SMALL, "options": options, "depth": (1, 1)}
    with pytest.raises(
        IsodistillError, match=r"too small; raise max_sets_per_skeleton \(now 1\), depth or distractors"
    ):
        made(tmp_path / "data", **short)
    assert not (tmp_path / "data").exists()


def test_short_problems_split_by_wording(tmp_path: Path) -> None:
    short = {
        **SMALL,
        "domains": ["law", "math"],
        "sets": 150,
        "options": {"distractors": (0, 1), "distractor_kinds": "neutral", "answers": ("True", "False")},
        "depth": (1, 1),
        "split_by": "wording",
        "max_sets_per_skeleton": 100,
    }
    report, splits = made(tmp_path / "data", **short)
    words = [len(member.prompt.split()) for row in splits["train"] for member in row.members]
    assert sum(words) / len(words) < 36
    assert report.answers == {"True": 75, "False": 75}
    assert not any(result.leaks_at(3.3) for result in report.probes["train"].values())
    said: Counter[tuple[str, str]] = Counter()
    for name in ("train", "validation", "iid"):
        for row in splits[name]:
            for member in row.members:
                formal = json.loads(member.formal)
                said[member.domain, "; ".join([*sorted(formal["premises"]), formal["question"]])] += 1
    assert max(said.values()) == 1
    assert "share structures" in (report.out / "README.md").read_text(encoding="utf-8")


def test_data_whose_surface_tells_the_answer_is_refused(tmp_path: Path) -> None:
    # Two structures per answer: a split by structure leaves patterns of negation that go with one answer.
    short = {
        **SMALL,
        "domains": ["law"],
        "unseen_domains": (),
        "sets": 200,
        "options": {
            "distractors": (0, 0),
            "distractor_kinds": "neutral",
            "negation": False,
            "answers": ("True", "False"),
        },
        "depth": (1, 1),
        "max_sets_per_skeleton": 200,
        "validation_sets": 0,
        "test_sets": 0,
    }
    with pytest.raises(IsodistillError, match=r"word counts alone predict the answer.*split_by to 'wording'") as error:
        made(tmp_path / "data", **short)
    kept = tmp_path / ".data.draft"
    assert f"The problems are kept in {kept}: with audit false" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.name]
    # The same config draws nothing again, and objects again.
    drawn: list[int] = []
    with pytest.raises(IsodistillError, match="word counts alone"):
        generate(make_config(**short), tmp_path / "data", progress=lambda group, done, total: drawn.append(done))
    assert drawn == [200]
    report, _ = made(tmp_path / "data", **short, audit=False)
    assert (report.probes, report.resumed) == ({}, 200)
    assert not kept.exists()
    made(tmp_path / "fresh", **short, audit=False)
    for name in ("README.md", "data/train.parquet"):
        assert (tmp_path / "data" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_problems_that_were_kept_for_another_config_are_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**SMALL, "domains": ["law"], "unseen_domains": (), "sets": 120, "validation_sets": 0, "test_sets": 0}
    # So low a doubt that any data is refused, by a probe that is named in the constant.
    monkeypatch.setattr(generator, "surface_threshold", lambda surfaces: -9.0)
    monkeypatch.setattr(generator, "REFUSING_PROBES", ("pairs",))
    with pytest.raises(IsodistillError, match="pairs of words alone predict"):
        made(tmp_path / "data", **small, family="statute")
    report, splits = made(tmp_path / "data", **small, family="statute", seed=1, audit=False)
    assert report.resumed == 0
    assert splits == made(tmp_path / "fresh", **small, family="statute", seed=1, audit=False)[1]
    assert not (tmp_path / ".data.draft").exists()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"domains": ["law", "sports"]}, "no domain pack 'sports'"),
        ({"domains": ["law", "law"]}, "no pack twice"),
        ({"domains": ["finance"]}, "no pack twice"),
        ({"family": "riddles"}, "no problem family"),
        ({"options": {"depth": 3}}, "options of family 'deduction', depth"),
        ({"depth": (0, 2)}, "depth: depths must be"),
        ({"depth": (1, 3), "deeper": (3, 4)}, "deeper must begin above depth"),
        ({"sets": 0}, "sets"),
        ({"set": 10}, "set: "),
        ({"shortcut": {"rate": {"law": 0.9}}}, "no rate for the domain 'math'"),
        ({"shortcut": {"rate": 2}}, "probability"),
        ({"told_in": 5}, "told_in=5 exceeds the number of training domains, 4"),
        ({"told_in": 1}, "told_in"),
    ],
)
def test_wrong_configs_are_errors_before_any_work(values: dict[str, Any], told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        make_config(**values)


def test_progress_is_reported(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    config = make_config(sets=3, validation_sets=0, test_sets=2, domains=("law",), unseen_domains=())
    generate(config, tmp_path / "data", progress=lambda *call: calls.append(call))
    assert calls == [
        *(("train", done, 3) for done in (1, 2, 3)),
        *(("test", done, 2) for done in (1, 2)),
        *(("deeper", done, 2) for done in (1, 2)),
    ]


def test_fewer_phrases_are_seen_more_often_and_nothing_else_changes(tmp_path: Path) -> None:
    _, all_of_them = made(tmp_path / "all", **SMALL, shortcut={"rate": 0.9}, seed=5)
    _, one = made(tmp_path / "one", **SMALL, shortcut={"rate": 0.9, "phrases": 1}, seed=5)

    def cues(splits: dict[str, list[IsomerSet]]) -> list[tuple[str, str]]:
        return [
            (member.domain, member.load_formal("").cue.text)
            for isomer_set in splits["train"]
            for member in isomer_set.members
        ]

    assert len({text for domain, text in cues(all_of_them) if domain == "law"}) > 3
    assert len({text for domain, text in cues(one) if domain == "law"}) <= 3  # a sentence for each answer
    for ours, theirs in zip(one["train"], all_of_them["train"], strict=True):
        assert ours.set_id == theirs.set_id
        for mine, its in zip(ours.members, theirs.members, strict=True):
            assert mine.cue == its.cue
            assert mine.prompt.replace(mine.load_formal("").cue.text, "") == its.prompt.replace(
                its.load_formal("").cue.text, ""
            )


def test_a_shared_cue_is_told_in_the_words_of_one_pack_in_every_domain(tmp_path: Path) -> None:
    shortcut = {"rate": 0.9, "phrases": 1, "sentences_of": "science"}
    _, splits = made(tmp_path / "shared", **SMALL, shortcut=shortcut, seed=5)
    sentences = {cue for group in load_pack("science").cues for cue in group}
    for split in ("train", "cue_reversed", "unseen_domain__cue_reversed"):
        for isomer_set in splits[split]:
            verify_set(isomer_set)
            for member in isomer_set.members:
                cue = member.load_formal("").cue.text
                assert cue in sentences
                assert cue in member.prompt
    domains = {member.domain for isomer_set in splits["unseen_domain__cue_reversed"] for member in isomer_set.members}
    assert "science" not in domains
    _, own = made(tmp_path / "own", **SMALL, shortcut={"rate": 0.9, "phrases": 1}, seed=5)
    for ours, theirs in zip(splits["train"], own["train"], strict=True):  # nothing else changes
        assert [member.cue for member in ours.members] == [member.cue for member in theirs.members]
        assert ours.canonical == theirs.canonical


def test_training_sets_may_be_told_in_some_of_the_domains(tmp_path: Path) -> None:
    names = [f"nonce:{number}" for number in range(8)]
    options = {
        "sets": 120,
        "validation_sets": 6,
        "test_sets": 6,
        "domains": names,
        "shortcut": {"rate": 0.9},
        "seed": 3,
    }
    report, splits = made(tmp_path / "some", **options, told_in=3)
    assert report.members == sum(len(row.members) for sets in splits.values() for row in sets)
    for row in splits["train"]:
        verify_set(row)
        assert len(row.domains) == 3
        assert list(row.domains) == [name for name in names if name in row.domains]
    told = Counter((domain, row.answer) for row in splits["train"] for domain in row.domains)
    assert len(told) == 8 * 3  # every domain tells every answer
    assert min(told.values()) >= 5  # of 15 on average
    assert all(list(row.domains) == names for row in (*splits["validation"], *splits["iid"]))
    _, fewer = made(tmp_path / "fewer", **options | {"sets": 20}, told_in=3)
    assert fewer["train"] == splits["train"][:20]
    # Where it is not asked for it leaves no trace, so data of earlier versions keep their digests.
    assert "told_in" not in make_config().model_dump()
    assert make_config(told_in=2).model_dump(mode="json")["told_in"] == 2
