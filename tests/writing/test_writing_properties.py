"""A teacher without mistakes is always believed, and one planted change is always found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from public_data import public_data
from writing_helpers import Perfect, Scripted, planted, refused, sources_of, text_of

from isodistill.isomers import IsomerSet, Member, Skeleton
from isodistill.isomers.families import make_family
from isodistill.isomers.packs import load_pack
from isodistill.isomers.render import draw_wording, render
from isodistill.logic import (
    Forall,
    Formula,
    Not,
    canonical_form,
    format_notation,
    parse_formula,
)
from isodistill.logic.formula import constants, predicates, rename
from isodistill.teachers import Request
from isodistill.teachers.collect import Problem
from isodistill.teachers.sampling import Sampling
from isodistill.writing import (
    Source,
    WritingOptions,
    examine_proposal,
    examine_reading,
    read_sources,
    require_agreement,
    write_isomers,
)
from isodistill.writing.collecting import Order

FAMILIES = ("deduction", "syllogism", "statute")


def drawn(family: str, depth: int, seed: int) -> tuple[Skeleton, Source]:
    made = make_family(family, {})
    skeleton = made.sample(Random(seed), depth, seed % len(made.classes))
    pack = load_pack("science")
    wording = draw_wording(Random(seed), skeleton, pack)
    row = IsomerSet(
        set_id=f"{family}-{depth}-{seed}",
        family=family,
        depth=depth,
        skeleton=skeleton.to_json(),
        canonical=skeleton.canonical,
        answer=skeleton.answer,
        choices=skeleton.choices,
        members=(Member(domain="science", prompt=render(skeleton, pack, wording), formal=""),),
    )
    premises = tuple(parse_formula(format_notation(premise)) for premise in skeleton.premises)
    symbols = {name: word.replace("-", " ") for name, word in wording.lexicon.items()}
    return skeleton, Source(row, row.members[0], premises, parse_formula(format_notation(skeleton.question)), symbols)


problems = st.tuples(st.sampled_from(FAMILIES), st.integers(1, 4), st.integers(0, 10**9))


@settings(max_examples=40, deadline=None)
@given(problems, st.sampled_from(("law", "medicine", "math", "finance", "cooking", "sport", "nonce:5")))
def test_a_perfect_writer_and_reader_are_always_believed(problem: tuple[str, int, int], domain: str) -> None:
    skeleton, source = drawn(*problem)
    teacher = Scripted(Perfect({source.isomer_set.set_id: skeleton}))
    order = Order(source, domain, 2000)
    ((_, written),) = teacher.write(iter([_request(order.writing())]))
    proposal = order.examined(written.text, "stop")  # type: ignore[union-attr]
    assert proposal.mends == ()
    ((_, read),) = teacher.write(iter([_request(order.reading(proposal))]))
    reading = examine_reading(read.text, "stop")  # type: ignore[union-attr]
    require_agreement(proposal, reading)
    assert canonical_form(reading.premises, reading.question) == source.canonical == skeleton.canonical


@settings(max_examples=12, deadline=None)
@given(problems)
def test_one_planted_change_of_the_formulas_is_found(problem: tuple[str, int, int]) -> None:
    skeleton, source = drawn(*problem)
    reply = Perfect({}).written(skeleton, "law", 1)
    formulas = [parse_formula(entry["formula"]) for entry in (*reply["premises"], reply["conclusion"])]
    read = {"premises": [format_notation(f) for f in formulas[:-1]], "conclusion": format_notation(formulas[-1])}
    proposal = examine_proposal(text_of(reply), "stop", source)
    require_agreement(proposal, examine_reading(text_of(read), "stop"))
    phrases = {**reply["symbols"], "n_another": "another thing"}
    phrases |= {f"{name}_other": f"{phrase} else" for name, phrase in reply["symbols"].items()}
    every = list(planted(formulas))
    assert len(every) >= 5
    for other in Random(problem[2]).sample(every, min(len(every), 25)):
        *premises, question = [format_notation(formula) for formula in other]
        # As a proposal, whose sentences stay as they were ...
        if len(other) == len(formulas):
            texts = [entry["text"] for entry in reply["premises"]]
            entries = [{"text": text, "formula": formula} for text, formula in zip(texts, premises, strict=True)]
            changed = {
                "premises": entries,
                "conclusion": {"text": reply["conclusion"]["text"], "formula": question},
                "symbols": phrases,
            }
            assert refused(lambda: examine_proposal(text_of(changed), "stop", source)), other  # noqa: B023
        # ... and as what a reader finds in the text.
        reading = examine_reading(text_of({"premises": premises, "conclusion": question}), "stop")
        assert refused(lambda: require_agreement(proposal, reading)), other  # noqa: B023


class Sloppy(Perfect):
    """Its text says the opposite of its formula at one place: the conclusion, or the first fact."""

    def written(self, skeleton: Skeleton, pack_name: str, seed: int) -> dict[str, Any]:
        def opposite(formula: Formula) -> Formula:
            return formula.body if isinstance(formula, Not) else Not(formula)

        reply = super().written(skeleton, pack_name, seed)
        fact = next((place for place, each in enumerate(skeleton.premises) if not isinstance(each, Forall)), None)
        if seed % 2 or fact is None:
            wrong = replace(skeleton, question=opposite(skeleton.question))
            reply["conclusion"]["text"] = super().written(wrong, pack_name, seed)["conclusion"]["text"]
        else:
            changed = tuple(opposite(each) if place == fact else each for place, each in enumerate(skeleton.premises))
            other = super().written(replace(skeleton, premises=changed), pack_name, seed)
            reply["premises"][fact]["text"] = other["premises"][fact]["text"]
        return reply


def test_a_sentence_that_says_the_opposite_is_found_by_reading(tmp_path: Path) -> None:
    found = [drawn("deduction", 1 + seed % 3, seed) for seed in range(20)]
    skeletons = {source.isomer_set.set_id: skeleton for skeleton, source in found}
    sources = sources_of(*(source for _, source in found))
    options = WritingOptions(("law", "music"), Sampling(retries=0))
    report = write_isomers(sources, Scripted(Sloppy(skeletons)), tmp_path / "out", options)
    assert report.account.reasons() == {"the back-translation differs": 40}
    assert report.account.replies["write"] == {"accepted": 40}


def _request(problem: Problem) -> Request:
    return Request(problem.isomer_set, problem.member, seed=Sampling().seed_of(problem.digest, 0))


@pytest.mark.data
def test_every_verified_row_of_folio_is_recognised_under_other_names_and_no_changed_one(tmp_path: Path) -> None:
    sources = read_sources(f"folio:{public_data('folio') / 'folio-validation.jsonl'}").splits["validation"]
    rng = Random(0)
    moved = changed = 0
    for source in sources:
        formulas = [*source.premises, source.question]
        proposal = examine_proposal(renamed_reply(source, formulas, rng), "stop", source)
        assert proposal.mends == ()
        order = rng.sample(range(len(formulas) - 1), len(formulas) - 1)
        shuffled = examine_proposal(
            renamed_reply(source, [*(formulas[i] for i in order), formulas[-1]], rng), "stop", source
        )
        assert canonical_form(shuffled.premises, shuffled.question) == source.canonical
        moved += bool(shuffled.mends)
        every = list(planted(formulas))
        for other in rng.sample(every, min(2, len(every))):
            changed += 1
            assert refused(lambda: examine_proposal(renamed_reply(source, other, rng), "stop", source))  # noqa: B023
    assert len(sources) == 195
    assert moved > 150
    assert changed > 380


def renamed_reply(source: Source, formulas: list[Formula], rng: Random) -> str:
    """A reply with new names, and filler of the right length for texts."""
    symbols = list(dict.fromkeys(name for f in formulas for name in (*predicates(f), *constants(f))))
    names = {name: f"n_{place}" for place, name in enumerate(rng.sample(symbols, len(symbols)))}
    words = " ".join(["word"] * max(1, len(source.text.split()) // len(formulas)))
    entries = [
        {"text": f"Sentence {place} {words}.", "formula": format_notation(rename(formula, names))}
        for place, formula in enumerate(formulas)
    ]
    phrases = {name: f"phrase {name}" for name in names.values()}
    return text_of({"premises": entries[:-1], "conclusion": entries[-1], "symbols": phrases})
