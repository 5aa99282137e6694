from __future__ import annotations

import re
from typing import Any

import matplotlib
import numpy as np
import pytest
from report_helpers import make_run

from isodistill.report.charts import (
    accuracy_chart,
    conflict_chart,
    conflict_grid,
    consistency_chart,
    learning_chart,
    mask_chart,
)
from isodistill.report.drawing import thin


def test_the_accuracy_chart_has_a_bar_per_split_and_run() -> None:
    chart = accuracy_chart([make_run("erm"), make_run("iga", "iga", seed=1)])
    assert len(re.findall(r"fill: var\(--series-0\)", chart.svg)) == 5 + 1  # the bars and the legend
    assert len(re.findall(r"fill: url\(#accuracy-", chart.svg)) == 5 + 1  # hatched: told apart without colour
    assert chart.svg.count("var(--series-1)") == 1  # in the filling
    assert ">unseen_domain<" in chart.svg  # text stays text
    assert "iid: erm " in chart.label
    assert "font-family: system-ui" in chart.svg
    assert "DejaVu" not in chart.svg
    assert "<style" not in chart.svg
    assert re.search(r"#0102[0-9a-f]{2}", chart.svg) is None  # every stand-in was exchanged


def test_names_are_drawn_as_they_are() -> None:
    svg = accuracy_chart([make_run("$x^2$ <b>")]).svg
    assert "$x^2$ &lt;b&gt;</text>" in svg


def test_a_run_without_a_split_leaves_a_gap() -> None:
    partial = make_run("iga", "iga", seed=1)
    del partial.evaluation.splits["deeper"]
    chart = accuracy_chart([make_run("erm"), partial])
    assert re.search(r"deeper: erm [\d.]+%\.", chart.label)


def test_consistency_is_averaged_over_the_ood_splits() -> None:
    run = make_run("erm")
    chart = consistency_chart([run])
    splits = ("cue_absent", "cue_reversed", "unseen_domain", "deeper")
    mean = np.mean([run.evaluation.splits[split].accuracy.value for split in splits])
    assert f"accuracy (higher is better): erm {mean:.3f}" in chart.label
    run.evaluation.splits["deeper"].js_divergence = None
    known = [run.evaluation.splits[split].js_divergence for split in splits[:3]]
    expected = np.mean([estimate.value for estimate in known if estimate is not None])
    assert f"JS divergence, nats (lower is better): erm {expected:.3f}" in consistency_chart([run]).label
    for split in splits:
        run.evaluation.splits[split].js_divergence = None
    assert "JS divergence, nats (lower is better): not measured" in consistency_chart([run]).label


def test_conflict_is_the_mean_over_the_modules_of_a_layer() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "conflict": {"layers.0.q_proj": 1.0, "layers.0.v_proj": 3.0, "model.layers.10.mlp": 5.0}},
        {"step": 2, "conflict": {"layers.0.q_proj": float("nan"), "lm_head": 9.0, "layers.10.mlp": 7.0}},
        {"step": 3},
        {"conflict": {"layers.0.q_proj": 1.0}},
    ]
    found = conflict_grid(rows)
    assert found is not None
    layers, steps, grid = found
    assert layers == [0, 10]
    assert steps == [1, 2]
    np.testing.assert_array_equal(grid, [[2.0, np.nan], [5.0, 7.0]])
    assert conflict_grid([]) is None
    assert conflict_grid([{"step": 1, "conflict": {"lm_head": 1.0}}]) is None


def test_long_heat_maps_are_averaged_and_lose_no_step() -> None:
    rows = [{"step": step, "conflict": {"layers.0.x": float(step)}} for step in range(1, 1001)]
    found = conflict_grid(rows)
    assert found is not None
    _, steps, grid = found
    assert grid.shape[1] == len(steps) <= 80
    assert grid[0, 0] == np.mean(range(1, 14))
    assert steps[0] == 7


def test_maps_and_curves_only_where_something_was_recorded() -> None:
    plain, masked = make_run("erm"), make_run("iga", "iga", diagnostics=True)
    assert conflict_chart([plain]) is None
    assert mask_chart([plain]) is None
    chart = mask_chart([plain, masked])
    assert chart is not None
    assert "mean mask (1 = nothing masked), iga: from 0.5 to" in chart.label
    assert "erm" not in chart.label
    heat = conflict_chart([plain, masked])
    assert heat is not None
    assert "iga: highest in layer 11" in heat.label
    assert "lowest in layer 0 " in heat.label
    for row in masked.diagnostics:
        row["projection_residual"] = None
    without = mask_chart([masked])
    assert without is not None
    assert "projection residual" not in without.label
    only_zero = make_run("iga", "iga")
    only_zero.diagnostics = [{"step": 1, "conflict": {"layers.0.x": 0.0}}]
    assert conflict_chart([only_zero]) is not None


def test_learning_curves_skip_what_is_no_number() -> None:
    run = make_run("erm")
    run.log_history.append({"step": 61, "loss": float("nan")})
    chart = learning_chart([run])
    assert chart is not None
    assert "training loss, erm: from 1.86 to 0.4" in chart.label
    assert "validation loss, erm: from 0.5 to 0.5" in chart.label


@pytest.mark.parametrize("length", [0, 1, 400, 401, 9999])
def test_thinning_keeps_the_mean(length: int) -> None:
    points = [(float(x), float(x % 11)) for x in range(length)]
    thinned = thin(points)
    assert len(thinned) <= 400
    if length <= 400:
        assert thinned == points
    else:
        assert thinned[0][0] < 30
        assert thinned[-1][0] > length - 30


def test_the_callers_matplotlib_is_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    accuracy_chart([make_run("erm")])
    assert dict(matplotlib.rcParams) == before
