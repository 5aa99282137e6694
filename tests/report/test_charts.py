from __future__ import annotations

import csv
import io
import re
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from report_helpers import make_panel, make_run

from isodistill.report.drawing import WIDTH, figure, numbered_markers, place_numbers, thin
from isodistill.report.figures import draw_figures
from isodistill.report.figures.accuracy import accuracy_chart
from isodistill.report.figures.conflict import conflict_chart, conflict_grids
from isodistill.report.figures.consistency import consistency_chart
from isodistill.report.figures.curves import learning_chart, mask_chart, mean_curve
from isodistill.report.figures.forest import forest_chart
from isodistill.report.figures.histogram import histogram_chart, mask_histogram
from isodistill.report.figures.scaling import scaling_chart
from isodistill.report.figures.scatter import scatter_chart
from isodistill.report.panel import Panel, panel_of_runs


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(seeds=3)


def test_the_accuracy_chart_has_a_dot_per_split_and_group(panel: Panel) -> None:
    chart = accuracy_chart(panel)
    assert chart is not None
    svg = chart.inline_svg()
    assert len(chart.rows) == 5 * len(panel.groups)
    assert ">unseen_domain<" in svg  # text stays text
    assert "iid: erm " in chart.label
    assert "font-family: system-ui" in svg
    assert "DejaVu" not in svg
    assert "<style" not in svg
    assert "var(--series-0)" in svg
    assert "var(--series-1)" in svg
    assert re.search(r"#0102[0-9a-f]{2}", svg) is None  # every stand-in was exchanged


def test_names_are_drawn_as_they_are() -> None:
    chart = accuracy_chart(panel_of_runs([make_run("$x^2$ <b>")]))
    assert chart is not None
    assert "$x^2$ &lt;b&gt;</text>" in chart.inline_svg()


def test_a_split_that_not_all_groups_share_is_left_out() -> None:
    partial = make_run("iga", "iga", seed=1)
    partial.evaluation.items = [item for item in partial.evaluation.items if item.split != "deeper"]
    chart = accuracy_chart(panel_of_runs([make_run("erm"), partial]))
    assert chart is not None
    assert "deeper" not in chart.label
    assert "cue_reversed" in chart.label


def test_the_forest_says_what_the_verdict_says(panel: Panel) -> None:
    chart = forest_chart(panel)
    measure = panel.measure("ood_accuracy")
    assert chart is not None
    assert measure is not None
    assert [row[0] for row in chart.rows] == ["iga", "vrex"]  # the largest difference on top
    assert chart.rows[0][1] == pytest.approx(100 * measure.effects["iga"].effect.value)
    assert "iga +" in chart.label
    assert forest_chart(panel_of_runs([make_run("iga", "iga")])) is None


def test_the_scatter_plots_iid_against_outside(panel: Panel) -> None:
    chart = scatter_chart(panel)
    assert chart is not None
    iid = np.mean([run.evaluation.splits["iid"].accuracy.value for run in panel.groups["erm"]])
    assert chart.rows[0][:2] == ["erm", pytest.approx(iid)]
    without = make_run("erm")
    without.evaluation.items = [item for item in without.evaluation.items if item.split != "iid"]
    assert scatter_chart(panel_of_runs([without])) is None


def test_consistency_is_averaged_over_the_ood_splits() -> None:
    run = make_run("erm")
    chart = consistency_chart(panel_of_runs([run]))
    splits = ("cue_absent", "cue_reversed", "unseen_domain", "deeper")
    assert chart is not None
    found = {row[0]: row[2] for row in chart.rows}
    for measure, field in (("js_divergence", "js_divergence"), ("lcs_centred", "lcs_centred")):
        known = [getattr(run.evaluation.splits[split], field).value for split in splits]
        assert found[measure] == pytest.approx(np.mean(known))


def test_more_domains_are_joined_by_a_line() -> None:
    def grown(name: str, domains: int, seed: int) -> Any:
        settings = {"seed": seed, "domains": domains}
        return make_run(name, "iga", seed=seed, settings=settings).model_copy(
            update={"domains": [f"d{number}" for number in range(domains)]}
        )

    plain = panel_of_runs([grown("two", 2, 1), grown("four", 4, 2), grown("eight", 8, 3)])
    chart = scaling_chart([plain])
    assert chart is not None
    assert [row[:2] for row in chart.rows] == [["iga", 2], ["iga", 4], ["iga", 8]]
    assert scaling_chart([panel_of_runs([grown("two", 2, 1)])]) is None
    panels = [Panel(f"data: {k}", {"iga": [grown("x", k, k)]}, None, sweep="as given, lab") for k in (2, 4)]
    joined = scaling_chart(panels)
    assert joined is not None
    assert [row[1] for row in joined.rows] == [2, 4]


def test_conflict_is_arranged_by_module_layer_and_step() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "conflict": {"layers.0.q_proj": 1.0, "layers.0.v_proj": 3.0, "model.layers.10.mlp": 5.0}},
        {"step": 2, "conflict": {"layers.0.q_proj": float("nan"), "lm_head": 9.0, "layers.10.mlp": 7.0}},
        {"step": 3},
        {"conflict": {"layers.0.q_proj": 1.0}},
    ]
    found = conflict_grids(rows)
    assert found is not None
    layers, steps, grids = found
    assert layers == [0, 10]
    assert steps == [1, 2]
    assert list(grids) == ["q_proj", "v_proj", "mlp"]
    np.testing.assert_array_equal(grids["q_proj"], [[1.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(grids["mlp"], [[np.nan, np.nan], [5.0, 7.0]])
    assert conflict_grids([]) is None
    assert conflict_grids([{"step": 1, "conflict": {"lm_head": 1.0}}]) is None


def test_long_heat_maps_are_averaged_and_lose_no_step() -> None:
    rows = [{"step": step, "conflict": {"layers.0.x": float(step)}} for step in range(1, 1001)]
    found = conflict_grids(rows)
    assert found is not None
    _, steps, grids = found
    assert grids["x"].shape[1] == len(steps) <= 60
    assert grids["x"][0, 0] == np.mean(range(1, 18))
    assert steps[0] == 9


def test_maps_and_curves_only_where_something_was_recorded() -> None:
    plain, masked = make_run("erm"), make_run("iga", "iga", diagnostics=True)
    assert conflict_chart(panel_of_runs([plain])) is None
    assert mask_chart(panel_of_runs([plain])) is None
    both = panel_of_runs([plain, masked])
    chart = mask_chart(both)
    assert chart is not None
    assert "mean mask (1 = nothing masked), iga: from 0.5 to" in chart.label
    assert "erm" not in chart.label
    heat = conflict_chart(both)
    assert heat is not None
    assert "iga: highest in q_proj of layer 11" in heat.label
    assert "of layer 0 " in heat.label
    for row in masked.diagnostics:
        row["projection_residual"] = None
    without = mask_chart(panel_of_runs([masked]))
    assert without is not None
    assert "projection residual" not in without.label
    only_zero = make_run("iga", "iga")
    only_zero.diagnostics = [{"step": 1, "conflict": {"layers.0.x": 0.0}}]
    assert conflict_chart(panel_of_runs([only_zero])) is not None


def test_the_mask_histogram_shows_shares_by_part_of_the_steps() -> None:
    run = make_run("iga", "iga", diagnostics=True)
    assert histogram_chart(panel_of_runs([run])) is None  # nothing recorded
    for row in run.diagnostics:
        row["mask_histogram"] = [row["step"], 0, 60 - row["step"], 40]
    found = mask_histogram([run])
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0], [0.105, 0, 0.495, 0.4])
    assert found[2, 0] > found[1, 0] > found[0, 0]
    chart = histogram_chart(panel_of_runs([run]))
    assert chart is not None
    assert len(chart.rows) == 12
    run.diagnostics[5]["mask_histogram"] = [1, 2]  # of another form: nothing is drawn of what does not fit
    assert mask_histogram([run]) is None


def test_learning_curves_skip_what_is_no_number_and_average_seeds() -> None:
    run = make_run("erm")
    run.log_history.append({"step": 61, "loss": float("nan")})
    chart = learning_chart(panel_of_runs([run]))
    assert chart is not None
    assert "training loss, erm: from 1.86 to 0.4" in chart.label
    assert "validation loss, erm: from 0.5 to 0.5" in chart.label
    others = [make_run("a", seed=0), make_run("b", seed=10)]
    curve = mean_curve(others, lambda run: run.log_history, "loss")
    alone = mean_curve(others[:1], lambda run: run.log_history, "loss")
    assert curve[0][1] == pytest.approx(alone[0][1] + 0.05)


def test_many_groups_get_axes_of_their_own() -> None:
    shared = make_run("erm")
    runs = [shared.model_copy(update={"name": f"m{number}", "method": f"m{number}"}) for number in range(9)]
    chart = learning_chart(panel_of_runs(runs, "m0"))
    assert chart is not None
    assert "a group in each plot" in chart.caption
    assert sum(axes.get_title(loc="left").startswith("m") for axes in chart.drawing.axes) == 9


def test_every_figure_becomes_a_picture_and_a_table(panel: Panel) -> None:
    charts = draw_figures(panel)
    assert set(charts) == {"forest", "accuracy", "scatter", "consistency", "conflict", "mask", "learning"}
    for name, chart in charts.items():
        before = set(re.findall(r"var\(--[\w-]+\)|currentColor|#[0-9a-f]{6}", chart.inline_svg()))
        with Image.open(io.BytesIO(chart.png(60))) as picture:
            colours = picture.convert("RGB").getcolors(1 << 20)
        assert colours is not None
        shares = {colour: count / (picture.width * picture.height) for count, colour in colours}
        assert shares[(255, 255, 255)] > 0.3, name  # the ground
        assert not any(colour[:2] == (1, 2) for colour in shares), name  # no stand-in is left
        after = set(re.findall(r"var\(--[\w-]+\)|currentColor|#[0-9a-f]{6}", chart.inline_svg()))
        assert after == before  # the stand-ins are back
        svg = chart.svg()
        assert re.search(r"#0102[0-9a-f]{2}|var\(", svg) is None, name
        assert 'xmlns="http://www.w3.org/2000/svg"' in svg
        rows = list(csv.reader(io.StringIO(chart.csv())))
        assert rows[0] == chart.header
        assert {len(row) for row in rows} == {len(chart.header)}
        assert len(rows) == len(chart.rows) + 1


def test_a_spreadsheet_reads_no_formula() -> None:
    chart = accuracy_chart(panel_of_runs([make_run("=HYPERLINK(1)")]))
    assert chart is not None
    assert "'=HYPERLINK(1)" in chart.csv()
    assert ",=HYPERLINK" not in chart.csv()


@pytest.mark.parametrize("length", [0, 1, 200, 201, 9999])
def test_thinning_keeps_the_mean(length: int) -> None:
    points = [(float(x), float(x % 11)) for x in range(length)]
    thinned = thin(points)
    assert len(thinned) <= 200
    if length <= 200:
        assert thinned == points
    else:
        assert thinned[0][0] < 30
        assert thinned[-1][0] > length - 60


def test_the_callers_matplotlib_is_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    chart = accuracy_chart(panel_of_runs([make_run("erm")]))
    assert chart is not None
    chart.png(50)
    assert dict(matplotlib.rcParams) == before


def test_numbers_of_crowded_markers_cover_neither_markers_nor_each_other() -> None:
    crowd = [
        (1.0, 0.79),
        (1.02, 0.8),
        (1.05, 0.795),
        (1.06, 0.79),
        (1.09, 0.79),
        (1.09, 0.785),
        (1.2, 0.78),
        (1.2, 0.79),
    ]
    points = [(x, y, f"arm {number}") for number, (x, y) in enumerate([*crowd, (1.0, 0.46), (1.9, 0.79)])]
    with figure(WIDTH, 3.5) as drawing:
        axes = drawing.add_subplot()
        numbered_markers(axes, points)
        drawing.legend(loc="outside lower left", ncols=2)
        place_numbers(axes, points)
        drawing.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        middles = axes.transData.transform([point[:2] for point in points])
    assert [text.get_text() for text in axes.texts] == [str(number + 1) for number in range(len(points))]
    for position, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:position])
        assert not any(box.contains(*middle) for middle in middles)
