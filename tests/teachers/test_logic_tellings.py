"""The tellings of syllogism, statute, allocation and counting, judged from the text alone."""

from __future__ import annotations

import re

import pytest

from isodistill.isomers import IsomerSet, generate, make_config, read_split
from isodistill.isomers.packs import Pack, load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.logic import Formula, entails, status, unique_value
from isodistill.logic.formula import Const
from isodistill.teachers import SymbolicTeacher

DOMAINS = ("law", "sport", "nonce:4")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[IsomerSet]]:
    made = {}
    for family in ("syllogism", "statute", "allocation", "counting"):
        out = tmp_path_factory.mktemp("tellings") / family
        config = make_config(family=family, sets=18, validation_sets=0, test_sets=0, domains=DOMAINS, unseen_domains=())
        generate(config, out)
        made[family] = read_split(out, "train")
    return made


def read_clause(clause: str, pack: Pack) -> Formula:
    fact = pack.templates["fact"][0].format(i=pack.individuals[0], A=pack.properties[0])
    text = f"{clause[0].upper()}{clause[1:]}.\n{pack.leads[0]} {fact[0].upper()}{fact[1:]}.\nTrue or False?"
    return parse_prompt(text, pack).premises[0]


@pytest.mark.parametrize("family", ["syllogism", "statute", "allocation"])
def test_every_clause_of_a_proof_follows(sets: dict[str, list[IsomerSet]], family: str) -> None:
    judged = 0
    for row in sets[family]:
        if row.answer == "Unknown":
            continue
        for member in row.members:
            pack, premises = load_pack(member.domain), parse_prompt(member.prompt, load_pack(member.domain)).premises
            *steps, verdict = SymbolicTeacher("full").explain(row, member).rationale.split(". ")
            assert verdict.startswith("The statement says")
            for step in steps:
                for clause in re.split(r", and |, so ", step.partition(", so whether ")[0]):
                    if clause.startswith("only one of the other places"):
                        continue
                    formula = read_clause(clause, pack)
                    assert entails(premises, formula), (member.prompt, clause)
                    judged += 1
            question = parse_prompt(member.prompt, pack).question
            assert status([formula], question) == row.answer
    assert judged > 50


def test_an_open_statute_names_what_is_not_known(sets: dict[str, list[IsomerSet]]) -> None:
    reasons = 0
    for row in sets["statute"]:
        if row.answer != "Unknown":
            continue
        for member in row.members:
            pack = load_pack(member.domain)
            premises = parse_prompt(member.prompt, pack).premises
            told = SymbolicTeacher("full").explain(row, member).rationale
            for clause in re.findall(r"(?:nothing shows that|[Nn]othing settles whether) ([^.]*)\.", told):
                assert status(premises, read_clause(clause, pack)) != "True"
                reasons += 1
    assert reasons >= 6


def value(terms: str) -> int:
    first, *rest = re.findall(r"[+-]? ?\d+", terms)
    return int(first) + sum(int(part.replace(" ", "")) for part in rest)


@pytest.mark.parametrize("style", ["full", "short"])
def test_counts_are_right_and_end_in_the_answer(sets: dict[str, list[IsomerSet]], style: str) -> None:
    for row in sets["counting"]:
        for member in row.members:
            pack = load_pack(member.domain)
            reading = parse_prompt(member.prompt, pack)
            told = SymbolicTeacher(style).explain(row, member).rationale  # type: ignore[arg-type]
            sums = re.findall(r"[Ee]xactly (\d[\d+= -]*=[\d+= -]*) \w+ are ([a-z-]+)", told)
            assert len(sums) == row.depth
            for chain, name in sums:
                *terms, result = chain.split(" = ")
                assert all(value(part) == int(result) for part in terms)
                assert unique_value(reading.premises, Const(name)) == int(result)
            assert sums[-1][0].split(" = ")[-1] == row.answer
