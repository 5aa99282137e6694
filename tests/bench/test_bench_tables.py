"""Every benchmark runs on a tiny student and says what it promises. Times themselves are not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_student import make_model, make_tokenizer
from typer.testing import CliRunner

from isodistill.bench.marginals import bench_marginals
from isodistill.bench.profile import bench_profile
from isodistill.bench.projection import OURS, bench_projection
from isodistill.bench.steps import TRL, bench_scaling, bench_step, bench_ways, step_cases
from isodistill.bench.timing import BenchTable, interleave
from isodistill.bench.workload import Workload
from isodistill.cli.main import app
from isodistill.errors import IsodistillError
from isodistill.prompting import render_prompt


@pytest.fixture(scope="module")
def workload() -> Workload:
    texts = [(f"w{place % 7} w{place % 5} .", f"w{place % 3} .\nAnswer: True") for place in range(8)]
    return Workload(texts, tokens=8 * 12)


def test_sequences_are_dealt_and_their_texts_stay(workload: Workload) -> None:
    tokenizer = make_tokenizer()
    flat = {(row["prompt"], row["completion"]) for row in workload.flat(tokenizer)}
    for domains in (1, 2, 4, 8):
        sets = workload.sets(domains)
        assert len(sets) == 8 // domains
        members = [member for row in sets for member in row["members"]]
        assert {(render_prompt(tokenizer, each["prompt"], None), each["completion"]) for each in members} == flat
        assert len({member["domain"] for member in members}) == domains
    with pytest.raises(IsodistillError, match="cannot be dealt to 3 domains"):
        workload.sets(3)


def test_the_step_benchmark_times_every_case_and_leaves_the_model(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: options for name, options in step_cases().items() if name in ("erm", "iga (weight)", "vrex")}
    monkeypatch.setattr("isodistill.bench.steps.step_cases", lambda: few)
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = bench_step(model, make_tokenizer(), workload, rounds=1, steps=1)
    assert [timing.case for timing in table.timings] == [TRL, *few]
    assert table.timings[0].ratio == 1.0
    assert table.settings["tokens"] == table.settings["tokens of TRL"], "the cases do not see the same tokens"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_scaling_benchmark_compares_a_space_with_itself(workload: Workload) -> None:
    table = bench_scaling(make_model(), make_tokenizer(), workload, (2, 4), rounds=1, steps=1)
    assert [timing.ratio for timing in table.timings if timing.case.endswith("K = 2")] == [1.0, 1.0]
    assert [timing.case for timing in table.timings][:3] == [
        "erm, beside iga (factor)",
        *(f"iga (factor), K = {k}" for k in (2, 4)),
    ]
    assert len(table.timings) == 6


def test_the_marginals_benchmark_says_which_way_is_chosen() -> None:
    table = bench_marginals(sizes=(32,), tokens=(8, 64), rounds=1)
    assert [table.figures[f"32 x 32, {count} tokens, Gram is chosen"] for count in (8, 64)] == [0.0, 0.0]
    assert bench_marginals(sizes=(128,), tokens=(8,), rounds=1).figures["128 x 128, 8 tokens, Gram is chosen"] == 1.0
    assert all(table.figures[f"32 x 32, {count} tokens, formed / Gram"] > 0 for count in (8, 64))
    assert len(table.timings) == 4


def test_the_ways_benchmark_names_both_ratios(workload: Workload) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = bench_ways(model, make_tokenizer(), workload, domains=2, rounds=1, steps=1, rank=2)
    assert set(table.figures) == {"naive / ours", "jac / tap"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_projection_benchmark_measures_what_is_lost() -> None:
    table = bench_projection(size=96, rank=4, rounds=1)
    assert table.timings[0].case == OURS
    assert -1e-6 <= table.figures["excess of the error, warm"] < 0.2
    assert -1e-6 <= table.figures["excess of the error, cold"] < 0.2


def test_the_profile_lists_ten_operators(workload: Workload) -> None:
    table = bench_profile(make_model(), make_tokenizer(), workload, domains=2, mask_space="weight")
    shares = {name: value for name, value in table.figures.items() if name != "profiled seconds"}
    assert len(shares) == 10
    assert any(name.startswith("aten::") for name in shares)
    assert 0.0 < sum(shares.values()) <= 1.0


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    order: list[str] = []

    def case(name: str, seconds: float) -> list[float]:
        order.append(name)
        return [seconds * (100 if len(order) <= 2 else 1)]

    timings = interleave({"a": lambda: case("a", 2.0), "b": lambda: case("b", 3.0)}, "a", rounds=2)
    assert order == ["a", "b"] * 3
    assert [timing.ratio for timing in timings] == [1.0, 1.5]
    assert timings[1].seconds == [[3.0], [3.0]]


def test_the_command_writes_the_raw_figures(tmp_path: Path) -> None:
    out = tmp_path / "projection.json"
    result = CliRunner().invoke(
        app, ["bench", "projection", "--size", "64", "--rank", "2", "--rounds", "1", "--json", str(out)]
    )
    assert result.exit_code == 0, result.output
    table = BenchTable.model_validate(json.loads(out.read_text()))
    assert table.settings == {"size": 64, "rank": 2, "rounds": 1}
    assert table.machine.threads >= 1


def test_the_chart_command_draws_files_and_names_what_it_cannot_read(tmp_path: Path) -> None:
    raw, picture = tmp_path / "projection.json", tmp_path / "costs.svg"
    run = CliRunner().invoke
    assert (
        run(app, ["bench", "projection", "--size", "32", "--rank", "2", "--rounds", "1", "--json", str(raw)]).exit_code
        == 0
    )
    assert run(app, ["bench", "chart", str(raw), "--out", str(picture)]).exit_code == 0
    text = picture.read_text()
    assert "torch.linalg.svd" in text
    assert "relative to randomised, warm" in text
    raw.write_text("{}")
    refused = run(app, ["bench", "chart", str(raw), "--out", str(picture)])
    assert refused.exit_code != 0
    assert "no benchmark's file" in str(refused.exception) + refused.output
