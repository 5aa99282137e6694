from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from isodistill.errors import IsodistillError
from isodistill.isomers.lint_grammar import Finding
from isodistill.isomers.packs import TRAINING_PACKS, UNSEEN_PACKS, Pack, available_packs, load_pack, read_pack
from isodistill.isomers.statements import STATEMENT_KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")
PACKS = [load_pack(name) for name in available_packs()]


def test_the_built_in_packs_are_there() -> None:
    assert set(available_packs()) == {*TRAINING_PACKS, *UNSEEN_PACKS}
    assert load_pack("law") is load_pack("law")


def test_an_unknown_pack_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(IsodistillError, match="no domain pack 'sports'; choose among cooking, finance, law"):
        load_pack("sports")
    with pytest.raises(IsodistillError, match="no domain pack"):
        load_pack("../data/law")


@pytest.mark.parametrize(("one", "other"), itertools.combinations(PACKS, 2), ids=lambda pack: pack.id)
def test_domains_share_no_content_words(one: Pack, other: Pack) -> None:
    for sort in ("individual", "property", "agent", "item"):
        assert not set(one.words[sort]) & set(other.words[sort])
    assert not {c for group in one.cues for c in group} & {c for group in other.cues for c in group}


def law() -> dict[str, Any]:
    data: dict[str, Any] = load_pack("law").model_dump(mode="json")
    return {**data, "id": "mine"}


def change(data: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split("/")
    for part in way:
        data = data[int(part) if isinstance(data, list) else part]
    data[int(last) if isinstance(data, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("individuals", ["the one contract"], "at least 60 words of the sort individual"),
        ("properties/0", "not valid", "must be plain words"),
        ("properties/0", "enforceable", "same id"),
        ("properties/0", "section 4", "must be plain words"),
        ("templates/fact", ["{i} is {A}"], "at least 3 different templates for fact"),
        ("templates/fact/0", "{i} is valid", "must have each of"),
        ("templates/less/0", "{i} precedes {j}", r"must have \{less\} or \{greater\} once"),
        ("templates/fact/0", "{i} is {A}.", "clause in lower case"),
        ("cues/0/0", "The bundle is tied with a very red ribbon.", "same number of words"),
        ("cues/0/0", "The bundle is tied with red, ribbon", "one plain sentence"),
        ("leads", ["claim"], "at least 3 leads"),
        ("relations/1", {"less": "was signed before", "greater": "was sealed after"}, "same id"),
        ("relations/1", {"less": "was sealed before", "greater": "was signed after"}, "belong to that relation"),
        ("motto", "x", "motto"),
    ],
)
def test_a_pack_that_breaks_a_rule_is_refused(tmp_path: Path, path: str, value: Any, told: str) -> None:
    data = law()
    change(data, path, value)
    file = tmp_path / "law.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(IsodistillError, match=f"law.yaml.*{told}"):
        read_pack(file)


def test_an_own_pack_file_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(law()), encoding="utf-8")
    assert read_pack(file) == load_pack("law").model_copy(update={"id": "mine"})
    file.write_text("{", encoding="utf-8")
    with pytest.raises(IsodistillError, match="cannot be read"):
        read_pack(file)
    with pytest.raises(IsodistillError, match="cannot be read"):
        read_pack(tmp_path / "none.yaml")
    file.write_text("!!python/object/apply:os.system ['true']", encoding="utf-8")
    with pytest.raises(IsodistillError, match="cannot be read"):
        read_pack(file)


@pytest.mark.parametrize("name", list(STATEMENT_KINDS))
def test_the_page_has_every_kind_with_its_slots_and_a_real_example(name: str) -> None:
    (slots, pack, template) = re.findall(rf'^\| `{name}` \| (.*?) \| .* \| (\w+): "(.*)" \|$', PAGE, re.MULTILINE)[0]
    themes = {None: set(), "item": {"item"}, "relation": {"less", "greater"}}[STATEMENT_KINDS[name].theme]
    assert set(re.findall(r"`\{(\w+)\}`", slots)) == {*STATEMENT_KINDS[name].slots, *themes}
    assert template in load_pack(pack).templates[name]


def test_the_page_has_every_field_and_every_rule_of_the_linter() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    told = re.search(r"The rule that is broken: ([\w,\s]+)\.", str(Finding.__doc__))
    assert told is not None
    rules = set(re.findall(r"\w+", told[1])) - {"or"}
    assert len(rules) == 12
    assert rows == {*Pack.model_fields, *STATEMENT_KINDS, *rules}


def test_the_related_adjectives_that_the_page_tells_are_there() -> None:
    table = PAGE.partition("| pack | related words |")[2]
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", table, re.MULTILINE))
    assert set(rows) <= set(available_packs())
    for name, words in rows.items():
        assert set(re.findall(r"[a-z-]+", words)) - {"and"} <= set(load_pack(name).properties)
