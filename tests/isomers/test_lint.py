from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from isodistill.cli.main import app
from isodistill.errors import IsodistillError
from isodistill.isomers import packs
from isodistill.isomers.lint import lint, lint_pack
from isodistill.isomers.packs import Pack, available_packs, load_pack, read_pack
from isodistill.isomers.statements import STATEMENT_KINDS


@pytest.mark.parametrize("name", [*available_packs(), "nonce:0", "nonce:41"])
def test_built_in_and_invented_packs_are_clean_and_large(name: str) -> None:
    pack = load_pack(name)
    assert lint_pack(pack, trials=3) == []
    assert len(pack.individuals) >= 60
    assert len(pack.properties) >= 60
    assert all(len(pack.templates[kind]) >= 3 for kind in STATEMENT_KINDS)


def test_nonce_packs_are_equal_for_equal_seeds_and_differ_otherwise() -> None:
    packs = [load_pack(f"nonce:{seed}") for seed in range(128)]
    assert len({pack.kind.singular for pack in packs}) > 120
    shared = set(packs[0].properties) & set(packs[1].properties)
    assert len(shared) < 10
    assert Pack.model_validate(packs[5].model_dump()) == load_pack("nonce:5")
    with pytest.raises(IsodistillError, match="no domain pack 'nonce:x'"):
        load_pack("nonce:x")


def law(**changes: Any) -> Pack:
    data = load_pack("law").model_dump(mode="json")
    for path, value in changes.items():
        field, _, place = path.partition("__")
        if place.isdigit():
            data[field][int(place)] = value
        elif place:
            data[field][place][1] = value
        else:
            data[field] = value
    return Pack.model_validate(data)


@pytest.mark.parametrize(
    ("changes", "rule", "told"),
    [
        ({"properties__0": "en-forceable"}, "duplicate", "another form of the property"),
        ({"properties__0": "unconditional"}, "antonym", "'unconditional' is the opposite of 'conditional'"),
        ({"templates__fact": "{i} is a {A} contract"}, "article", "article before a slot"),
        ({"templates__fact": "{i} is, in an contract sense, {A}"}, "article", "'an' before 'contract'"),
        ({"items__0": "paper"}, "plural", "'paper' does not look like a plural"),
        ({"templates__rule": "all {A} contracts is {B}"}, "agreement", "'is' for several"),
        (
            {"templates__rule_if_not": "all contracts who are not {A} are {B}"},
            "agreement",
            "'who' for contracts; write 'that'",
        ),
        ({"templates__fact_not": "the record shows that {i} is {A}"}, "reading", "has 2 readings"),
        ({"templates__judge_no": "all {A} contracts are {B}"}, "reading", "has 2 readings"),
        ({"individuals__0": "the Barlow contract and the Carrow contract"}, "reading", "split where lists are"),
    ],
)
def test_planted_faults_are_found(changes: dict[str, Any], rule: str, told: str) -> None:
    found = [finding for finding in lint_pack(law(**changes)) if finding.rule == rule]
    assert any(told in finding.problem for finding in found), found


def test_the_command_lists_findings_and_exits_1(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["packs", "check", "law"])
    assert good.exit_code == 0
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**law(items__0="paper").model_dump(mode="json"), "id": "mine"}), encoding="utf-8")
    bad = CliRunner().invoke(app, ["packs", "check", str(file)])
    assert bad.exit_code == 1
    assert "does not look like a plural" in bad.output
    missing = CliRunner().invoke(app, ["packs", "check", "sports"])
    assert missing.exit_code == 1
    assert "no domain pack" in missing.output
    assert lint(str(tmp_path / "none.yaml"))[0] is None


@pytest.mark.parametrize("name", ["nonce:3", "law", "mine:1"])
def test_an_id_that_is_taken_is_found(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**law().model_dump(mode="json"), "id": name}), encoding="utf-8")
    _, findings = lint(str(file))
    assert [(finding.rule, finding.place) for finding in findings] == [("id", "id")]
    assert repr(name) in findings[0].problem
    with pytest.raises(IsodistillError, match="give it another id"):
        load_pack(str(file))


def test_a_built_in_pack_may_be_checked_by_its_file() -> None:
    assert lint(str(Path(packs.__file__).parent / "data" / "law.yaml"))[1] == []


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(sorted(Pack.model_fields)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_field_may_hold_anything(tmp_path_factory: pytest.TempPathFactory, field: str, value: Any) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "pack.yaml"
    file.write_text(yaml.safe_dump({**load_pack("law").model_dump(mode="json"), field: value}), encoding="utf-8")
    # Whatever is not an error for people would escape here.
    with contextlib.suppress(IsodistillError):
        assert isinstance(read_pack(file), Pack)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_file_is_a_pack_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "pack.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(IsodistillError, match=r"pack\.yaml"):
        read_pack(file)


@pytest.mark.parametrize(
    "text",
    ["id: 2020-13-45", f"id: {'1' * 5000}", "id: !!int a", "id: !!float x", "id: !!bool maybe", "[" * 3000, "&a [*a]"],
    ids=["date", "digits", "int", "float", "bool", "nested", "endless"],
)
def test_what_yaml_chokes_on_is_an_error_for_people(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pack.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(IsodistillError, match=r"pack\.yaml"):
        read_pack(file)
