from __future__ import annotations

import re

import pytest

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, generate, make_config, read_split
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import Pack, load_pack
from isodistill.isomers.parse import Reading, parse_prompt
from isodistill.logic import Formula, entails
from isodistill.teachers import TEACHERS, SymbolicTeacher, make_teacher
from isodistill.teachers.tellings import TELLINGS

Sets = dict[str, list[IsomerSet]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    made = {}
    for family in FAMILIES:
        out = tmp_path_factory.mktemp("teachers") / family
        generate(make_config(family=family, sets=36, validation_sets=0, test_sets=0, unseen_domains=()), out)
        made[family] = read_split(out, "train")
    return made


def read_clause(clause: str, pack: Pack, reading: Reading) -> Formula:
    """Reads a clause of a rationale with the parser that reads problems: the question's text is only a companion."""
    text = f"{clause[0].upper()}{clause[1:]}.\n{pack.leads[0]} {_companion(pack, reading)}\nTrue or False?"
    return parse_prompt(text, pack).premises[0]


def _companion(pack: Pack, reading: Reading) -> str:
    if reading.theme is None:
        return f"{pack.individuals[0][0].upper()}{pack.individuals[0][1:]} is {pack.properties[0]}."
    relation = pack.words["relation"][reading.theme]
    first, second = pack.individuals[:2]
    return f"{first[0].upper()}{first[1:]} {getattr(relation, 'less', '')} {second}."


@pytest.mark.parametrize("style", ["full", "short"])
@pytest.mark.parametrize("family", ["deduction", "ordering"])
def test_every_clause_of_a_proof_reads_as_something_that_follows(sets: Sets, family: str, style: str) -> None:
    """The rationale is judged like a stranger's: each clause is parsed and proved from the text alone."""
    teacher = make_teacher("symbolic", style=style)
    judged = 0
    for row in sets[family]:
        if row.answer == "Unknown":
            continue
        for member in row.members[:2]:
            pack = load_pack(member.domain)
            reading = parse_prompt(member.prompt, pack)
            trace = teacher.explain(row, member)
            *steps, verdict = trace.rationale.split(". ")
            says = {"True": "says the same", "False": "says the opposite"}[row.answer]
            assert verdict.startswith(f"The statement {says}")
            for step in steps:
                if step.startswith("Nothing shows"):
                    continue
                for clause in re.split(r", and |, so ", step):
                    formula = read_clause(clause, pack, reading)
                    assert entails(reading.premises, formula), (member.prompt, clause)
                    judged += 1
            # The last clause settles the statement.
            assert entails([formula], reading.question) == (row.answer == "True")
            assert trace.answer == row.answer
    assert judged > 50


def test_reasons_for_unknown_are_true(sets: Sets) -> None:
    reasons = 0
    for row in sets["deduction"]:
        if row.answer != "Unknown":
            continue
        for member in row.members[:2]:
            pack = load_pack(member.domain)
            reading = parse_prompt(member.prompt, pack)
            *told, last = SymbolicTeacher("full").explain(row, member).rationale.split(". ")
            assert last.startswith("So it cannot be concluded whether")
            for sentence in told:
                if sentence.startswith("Nothing shows that "):
                    claim = read_clause(sentence.removeprefix("Nothing shows that "), pack, reading)
                    assert not entails(reading.premises, claim)
                    reasons += 1
                else:
                    assert read_clause(sentence, pack, reading) in reading.premises
    assert reasons > 15


@pytest.mark.parametrize("style", ["full", "short"])
def test_sums_are_right_and_end_in_the_answer(sets: Sets, style: str) -> None:
    teacher = make_teacher("symbolic", style=style)
    for row in sets["quantity"]:
        for member in row.members:
            trace = teacher.explain(row, member)
            sums = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)", trace.rationale)
            assert len(sums) == row.depth
            given = set(re.findall(r"\d+", member.prompt))
            for left, operation, right, result in sums:
                value = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
                assert value[operation] == int(result)
                assert {left, right} <= given
                given.add(result)
            assert sums[-1][3] == row.answer == trace.answer


def test_members_of_a_set_get_the_same_steps_in_other_words(sets: Sets) -> None:
    teacher = SymbolicTeacher()
    for rows in sets.values():
        for row in rows:
            rationales = [teacher.explain(row, member).rationale for member in row.members]
            assert len(set(rationales)) == len(rationales)
            assert len({rationale.count(". ") for rationale in rationales}) == 1


def test_short_is_shorter_and_english_is_clean(sets: Sets) -> None:
    for rows in sets.values():
        for row in rows:
            for member in row.members:
                full = SymbolicTeacher("full").explain(row, member)
                short = SymbolicTeacher("short").explain(row, member)
                assert len(short.rationale) <= len(full.rationale)
                for trace in (full, short):
                    assert trace.completion == f"{trace.rationale}\nAnswer: {row.answer}"
                    assert re.fullmatch(r"([A-Z][^.]*\.)( [A-Z][^.]*\.)*", trace.rationale)
                    assert "  " not in trace.rationale
                    assert "{" not in trace.rationale


def test_wrong_names_and_damaged_records_are_errors(sets: Sets) -> None:
    with pytest.raises(IsodistillError, match="no teacher 'oracle'; choose among symbolic"):
        make_teacher("oracle")
    with pytest.raises(IsodistillError, match="no style 'long'"):
        make_teacher("symbolic", style="long")
    with pytest.raises(IsodistillError, match="does not take"):
        make_teacher("symbolic", temperature=1)
    row = sets["deduction"][0]
    member = row.members[0].model_copy(update={"formal": row.members[0].formal.replace('"p0"', '"z9"')})
    with pytest.raises(IsodistillError, match="the lexicon has no word for 'p0'"):
        SymbolicTeacher().explain(row, member)
    stray = row.members[0].model_copy(update={"domain": "cooking"})
    with pytest.raises(IsodistillError, match="'cooking' has no"):
        SymbolicTeacher().explain(row, stray)
    with pytest.raises(IsodistillError, match="cannot tell the family 'riddle'"):
        SymbolicTeacher().explain(row.model_copy(update={"family": "riddle"}), row.members[0])


def test_every_family_can_be_told_and_every_teacher_named() -> None:
    assert set(TELLINGS) == set(FAMILIES)
    for kind in TEACHERS:
        if kind == "symbolic":
            assert make_teacher(kind).name.startswith(kind)
        else:
            with pytest.raises(IsodistillError, match=f"write {kind}:MODEL"):
                make_teacher(kind)
