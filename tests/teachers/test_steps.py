"""Step checks: what follows passes, what does not is found, what is not in the language is left alone."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from isodistill.isomers import IsomerSet, generate, make_config, read_split
from isodistill.isomers.families import FAMILIES
from isodistill.teachers import SymbolicTeacher
from isodistill.teachers.steps import check_steps


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[IsomerSet]]:
    made = {}
    for family in FAMILIES:
        out = tmp_path_factory.mktemp("steps") / family
        config = make_config(family=family, sets=10, validation_sets=0, test_sets=0, unseen_domains=(), audit=False)
        generate(config, out)
        made[family] = read_split(out, "train")
    return made


@pytest.mark.parametrize("style", ["full", "short"])
def test_the_proofs_own_telling_passes(sets: dict[str, list[IsomerSet]], style: str) -> None:
    teacher = SymbolicTeacher(style)  # type: ignore[arg-type]
    for rows in sets.values():
        for row in rows:
            for member in row.members[:2]:
                rationale = teacher.explain(row, member).rationale
                assert check_steps(row, member, rationale) is None, (row.family, member.prompt, rationale)


@pytest.mark.parametrize("family", ["deduction", "ordering"])
def test_the_statement_itself_passes_only_if_it_is_true(sets: dict[str, list[IsomerSet]], family: str) -> None:
    seen = set()
    for row in sets[family]:
        for member in row.members:
            statement = re.sub(r"^[^:]*: ", "", member.prompt.split("\n")[1])
            for words in (f"Therefore, {statement}", f"Let me see.\n- {statement} That settles it."):
                flaw = check_steps(row, member, words)
                assert (flaw is None) == (row.answer == "True"), (member.prompt, words)
            seen.add(row.answer)
    assert len(seen) >= 2


def test_the_telling_of_another_problem_is_found(sets: dict[str, list[IsomerSet]]) -> None:
    teacher = SymbolicTeacher("full")
    rows = [row for row in sets["deduction"] if row.answer != "Unknown"]
    found = [
        check_steps(row, member, teacher.explain(other, other.members[place]).rationale)
        for row, other in pairwise(rows)
        for place, member in enumerate(row.members)
    ]
    assert found.count("unsupported step") > 0.9 * len(found) > 10


def test_free_words_and_foreign_problems_are_left_alone(sets: dict[str, list[IsomerSet]]) -> None:
    row = sets["deduction"][0]
    member = row.members[0]
    for words in ("I feel that it is so.", "", "...", "x" * 5000, "Answer\nthe\n\nquestion!"):
        assert check_steps(row, member, words) is None
    foreign = member.model_copy(update={"prompt": "How many eggs?", "domain": "real", "formal": ""})
    assert check_steps(row, foreign, "Two eggs.") is None
