"""`isodistill methods`: every method is listed with every option explained."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from typer.testing import CliRunner

from isodistill.cli.main import app
from isodistill.methods import METHODS
from isodistill.methods.catalogue import catalogue


def test_every_option_of_every_method_is_explained() -> None:
    entries = {entry.name: entry for entry in catalogue()}
    assert entries.keys() == METHODS.keys()
    for name, method in METHODS.items():
        entry = entries[name]
        assert [option.name for option in entry.options] == list(inspect.signature(method).parameters)
        assert all(option.help for option in entry.options), name
        assert entry.summary.endswith(".")
        assert entry.source
        assert entry.needs or name == "erm"


def test_what_the_paper_compares_with_is_there() -> None:
    wanted = "erm iga irm vrex groupdro fish fishr and_mask sand_mask koyama gsnr pcgrad cagrad mgda upgrad imtl_g"
    wanted += " aligned_mtl gradvac nash_mtl consistency word_dropout erm_balanced"
    assert set(wanted.split()) <= METHODS.keys()


def test_the_command_writes_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["methods", "--json", str(tmp_path / "methods.json")])
    assert result.exit_code == 0, result.output
    listed = json.loads((tmp_path / "methods.json").read_text())
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["vrex"]["combines"]
    assert not by_name["pcgrad"]["combines"]
    assert by_name["fish"]["max_processes"] == 1
    assert {option["name"]: option["default"] for option in by_name["cagrad"]["options"]} == {"c": 0.5}
