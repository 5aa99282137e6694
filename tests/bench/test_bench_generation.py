"""What generation costs: the measurement on tiny sizes, and the tables of docs/isomers.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import write_generation
from typer.testing import CliRunner

from isodistill.bench import generation
from isodistill.bench.generation import GenerationCosts
from isodistill.cli.main import app
from isodistill.errors import IsodistillError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("costs") / "generation-families.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generation.PARTS, "families", (("statute", "quantity"), 120))
        done = CliRunner().invoke(app, ["bench", "generation", "--sets", "110", "--seed", "4", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "statute: 110 sets in 4 domains" in done.output
    return file


def test_what_is_measured_adds_up(tiny: Path) -> None:
    costs = GenerationCosts.model_validate_json(tiny.read_text())
    assert (costs.part, costs.seed, costs.limit_mib) == ("families", 4, 2048)
    assert {"python", "isodistill", "numpy", "pyarrow", "z3-solver"} == set(costs.versions)
    assert [run.config["family"] for run in costs.runs] == ["statute", "quantity"]
    for run in costs.runs:
        assert (run.sets, run.texts, run.config["seed"]) == (110, 440, 4)
        assert run.draws == 110 + sum(run.rejected.values())
        # Two structures in five belong to validation and test.
        assert 0.25 < run.rejected["structure belongs to another split"] / run.draws < 0.55
        assert 0.5 < run.sets_per_second < 1000
        assert 0 < run.audit_seconds < run.seconds
        assert run.peak_mib > 50
        assert [(row.split, row.domain, row.texts) for row in run.surfaces] == [
            ("train", domain, 110) for domain in costs.domains
        ]
        assert all(row.words and row.ngrams and row.pairs for row in run.surfaces)


def test_the_parts_are_every_family_and_a_large_one() -> None:
    assert {part: (len(names), sets) for part, (names, sets) in generation.PARTS.items()} == {
        "families": (7, 200),
        "large": (1, 10_000),
    }
    with pytest.raises(IsodistillError, match="no part 'small'; choose among families, large"):
        generation.bench_generation("small")


def test_a_process_that_fails_is_told_with_its_reason() -> None:
    with pytest.raises(IsodistillError, match=r"the measuring process failed.*no problem family 'riddles'"):
        generation._run({"family": "riddles"})


def test_the_tables_say_what_was_measured(tiny: Path) -> None:
    page = tiny.with_name("isomers.md")
    page.write_text("<!-- generation families -->\nold\n<!-- end -->\n<!-- generation large -->\nold\n<!-- end -->\n")
    write_generation.main(tiny.parent)
    text = page.read_text()
    costs = GenerationCosts.model_validate_json(tiny.read_text())
    run = costs.runs[0]
    share = sum(run.rejected.values()) / run.draws
    assert f"| statute | 110 | {110 / run.seconds:.1f} | {run.audit_seconds:.1f} | {run.draws} | {share:.1%} |" in text
    assert f"| {run.peak_mib:.0f} | yes |" in text
    assert f"| quantity | science | 110 | {costs.runs[1].surfaces[3].chance:.1%} | " in text
    assert "old" not in text
    assert "<!-- generation large -->\nNot measured.\n<!-- end -->" in text
    large = costs.model_copy(update={"runs": (run.model_copy(update={"peak_mib": 2048.5}),)})
    assert any("| **no** |" in line for line in write_generation.tables(large))


def test_the_docs_are_written_from_the_raw_results(tmp_path: Path) -> None:
    for file in (ROOT / "docs").glob("generation-*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    page = (ROOT / "docs" / "isomers.md").read_text()
    assert set(generation.PARTS) == {block["part"] for block in write_generation._BLOCK.finditer(page)}
    (tmp_path / "isomers.md").write_text(page)
    write_generation.main(tmp_path)
    assert (tmp_path / "isomers.md").read_text() == page, "run make performance"


def test_an_unknown_block_is_named(tmp_path: Path) -> None:
    (tmp_path / "isomers.md").write_text("<!-- generation huge -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="the part huge"):
        write_generation.main(tmp_path)
