"""Writes docs/results.md and its figures from the raw results in studies/results: `make results`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import yaml
from domain_sweep import domain_count, domain_table, gap_chart, gap_table, measure_of, percent
from matplotlib.ticker import PercentFormatter

from isodistill.evaluation.effects import MeasureEffects
from isodistill.files import write_text_atomically
from isodistill.report.drawing import INK, WIDTH, Chart, figure, numbered_markers, place_numbers
from isodistill.report.figures.dots import DOT_HEADER, dot_panels, dot_rows
from isodistill.report.markdown import escape
from isodistill.study.costs import ArmCost, Costs
from isodistill.study.results import Result, Results

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "studies"
SHOWN = ("iid", "cue_absent", "cue_reversed", "unseen_domain", "unseen_domain__cue_random")
SHOWN += ("unseen_domain__cue_reversed", "deeper")
DRAWN = {
    "ood_accuracy": "out of distribution",
    "accuracy:iid": "iid",
    "accuracy:cue_reversed": "cue reversed",
    "accuracy:unseen_domain": "unseen domain",
}
CONSISTENCY = ("agreement", "js_divergence", "lcs_centred", "flip_rate", "worst_group", "ood_gap")


def main(out: Path = ROOT / "docs") -> None:
    """Reads every study that has results and writes one page.

    Args:
        out: The folder of the page; figures go to its folder ``results``.
    """
    lines = [(STUDIES / "introduction.md").read_text(encoding="utf-8").rstrip(), ""]
    for file in sorted(STUDIES.glob("*.yaml"), key=_order):
        raw = STUDIES / "results" / f"{file.stem}.json"
        if raw.is_file():
            spent = raw.with_name(f"{file.stem}-costs.json")
            costs = Costs.model_validate_json(spent.read_text(encoding="utf-8")) if spent.is_file() else None
            lines += write_study(file, Results.model_validate_json(raw.read_text(encoding="utf-8")), out, costs)
        else:
            sys.stderr.write(f"{file.stem} has no results yet: make study NAME={file.stem}\n")
    write_text_atomically(out / "results.md", "\n".join(lines).rstrip() + "\n")


def _order(file: Path) -> tuple[int, str]:
    """Studies come in the order of the number that their first comment begins with."""
    first = file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("#").strip()
    number = first.split(".", 1)[0]
    return (int(number) if number.isdecimal() else 99, file.stem)


def write_study(file: Path, results: Results, out: Path, costs: Costs | None = None) -> list[str]:
    """Writes one study's section and its figures.

    Args:
        file: The study; its leading comments are its heading and the question that it asks.
        results: What it found.
        out: The folder of the page.
        costs: What its runs cost; ``None`` for studies that ran before this was recorded.

    Returns:
        The lines of the section.
    """
    comments = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.removeprefix("#").strip())
    lines = [f"## {comments[0]}", "", *"\n".join(comments[1:]).strip().splitlines(), ""]
    study = yaml.safe_load(file.read_text(encoding="utf-8"))
    raw = f"studies/results/{file.stem}.json"
    seeds = ", ".join(str(seed) for seed in study.get("seeds", [0, 1, 2]))
    lines += [f"`make study NAME={file.stem}`; raw results in [{raw}](../{raw}); training seeds {seeds}.", ""]
    pooled = {entry.get("draw_of") for entry in study["data"].values()} - {None}
    shown = [each for each in results.results if study["data"][each.data].get("draw_of") is None] + results.pooled
    counts = [domain_count(study, result.data) for result in shown]
    sweep = [(count, each) for count, each in zip(counts, shown, strict=True) if count is not None and each.effects]
    if len(sweep) == len(shown) and len(set(counts)) > 1:
        lines += [*domain_table(sweep, SHOWN), "", *gap_table(sweep), ""]
        (out / "results").mkdir(exist_ok=True)
        write_text_atomically(out / "results" / f"{file.stem}.svg", gap_chart(sweep).svg())
        lines += [f"![Gap between iid and out of distribution by training domains](results/{file.stem}.svg)", ""]
        shown = []  # the sweep's numbers of domains are compared, and not each with a page of its own
    for number, result in enumerate(shown):
        if not result.effects:
            continue
        several = len(shown) > 1
        if several:
            lines += [
                f"### {escape(result.data)}, {escape(result.student)}, {result.rule.replace('_', ' ')}",
                "",
            ]
        lines += [*accuracy_table(result), "", *consistency_table(result), ""]
        if result.data in pooled:
            for measure in ("ood_accuracy", "accuracy:cue_reversed"):
                if measure_of(result, measure) is not None:
                    lines += [*draws_table(result, measure), ""]
        name = f"{file.stem}-{number}" if several else file.stem
        drawn = [(title, each) for measure, title in DRAWN.items() if (each := measure_of(result, measure)) is not None]
        chart = Chart(name, "Dots with intervals by arm.", "", DOT_HEADER, dot_rows(drawn), dot_panels(drawn))
        (out / "results").mkdir(exist_ok=True)
        write_text_atomically(out / "results" / f"{name}.svg", chart.svg())
        lines += [f"![Accuracy of every arm with 95% intervals](results/{name}.svg)", ""]
        if costs is not None:
            draws = {each for each, entry in study["data"].items() if result.data in (each, entry.get("draw_of"))}
            spent = [
                cost
                for cost in costs.arms
                if cost.rule == result.rule
                and cost.data in draws
                and (result.data in pooled or cost.student == result.student)
            ]
            rows = sum_costs(spent, study.get("baseline", "erm"))
            lines += [*cost_table(rows), ""]
            write_text_atomically(out / "results" / f"{name}-cost.svg", cost_chart(rows, result).svg())
            lines += [
                f"![Accuracy out of distribution against the time of a training step](results/{name}-cost.svg)",
                "",
            ]
    if results.failed:
        lines += [f"{len(results.failed)} runs failed: {', '.join(sorted(results.failed))}.", ""]
    return lines


def accuracy_table(result: Result) -> list[str]:
    """Writes accuracy by arm and split in %, the best out of distribution on top.

    Args:
        result: The comparison under one rule.

    Returns:
        The lines of a Markdown table; a difference is bold where it is significant.
    """
    ood = measure_of(result, "ood_accuracy")
    assert ood is not None  # every study has test splits
    splits = [split for split in SHOWN if measure_of(result, f"accuracy:{split}") is not None]
    names = [split.replace("__", ", ").replace("_", " ") for split in splits]
    header = ["arm", *names, "out of distribution", f"points above {ood.baseline}", "p (Holm)"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for arm, group in sorted(ood.groups.items(), key=lambda pair: -pair[1].mean):
        cells = [percent(result, f"accuracy:{split}", arm) for split in splits]
        spread = "" if group.low is None or group.high is None else f" [{100 * group.low:.1f}, {100 * group.high:.1f}]"
        effect = ood.effects.get(arm)
        points = p = ""
        if effect is not None:
            value = effect.points
            points = f"{value.value:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"
            points = f"**{points}**" if effect.significant else points
            p = f"{effect.p_holm:.3f}"
        label = f"{escape(arm)} (control)" if arm in result.controls else escape(arm)
        lines.append(f"| {' | '.join([label, *cells, f'{100 * group.mean:.1f}{spread}', points, p])} |")
    return lines


def draws_table(result: Result, measure: str) -> list[str]:
    """Writes one accuracy by arm and draw, in %.

    Args:
        result: A comparison over draws.
        measure: One of `DRAWN`.

    Returns:
        The lines of a Markdown table, the best arm out of distribution on top.
    """
    ood, shown = measure_of(result, "ood_accuracy"), measure_of(result, measure)
    assert ood is not None
    assert shown is not None
    draws = len(shown.groups[shown.baseline].by_seed)
    lines = [
        f"| {DRAWN[measure]}, by draw | {' | '.join(str(n + 1) for n in range(draws))} |",
        "|---" * (draws + 1) + "|",
    ]
    for arm, _ in sorted(ood.groups.items(), key=lambda pair: -pair[1].mean):
        if arm in shown.groups:
            values = shown.groups[arm].by_seed
            lines.append(f"| {escape(arm)} | {' | '.join(f'{100 * value:.1f}' for value in values)} |")
    return lines


def consistency_table(result: Result) -> list[str]:
    """Writes consistency and worst cases by arm, in the accuracy table's order.

    Args:
        result: The comparison under one rule.

    Returns:
        The lines of a Markdown table.
    """
    ood = measure_of(result, "ood_accuracy")
    assert ood is not None
    measures = [each for name in CONSISTENCY if (each := measure_of(result, name)) is not None]
    lines = [f"| arm | {' | '.join(each.title for each in measures)} |", "|---" * (len(measures) + 1) + "|"]
    for arm, _ in sorted(ood.groups.items(), key=lambda pair: -pair[1].mean):
        lines.append(f"| {escape(arm)} | {' | '.join(_number(each, arm) for each in measures)} |")
    return lines


class CostRow(NamedTuple):
    """What an arm's runs cost, over seeds and draws.

    Attributes:
        arm: The arm's label.
        runs: How many runs there are.
        tokens: Tokens trained on, the mean of the runs.
        minutes: Training time in minutes, the median of the runs.
        hours: Training time of all runs together in hours.
        ratio: Time of a training step relative to the baseline's, medians of the runs.
        memory: The most memory held in training in MiB, the median of the runs; ``None`` where it was not measured.
    """

    arm: str
    runs: int
    tokens: float
    minutes: float
    hours: float
    ratio: float
    memory: float | None


def sum_costs(costs: Sequence[ArmCost], baseline: str) -> list[CostRow]:
    """Sums up the runs of each arm.

    Args:
        costs: Those of one comparison, of all its draws.
        baseline: The label of the baseline.

    Returns:
        A row for each arm, in the order of `costs`.
    """
    arms: dict[str, list[ArmCost]] = {}
    for cost in costs:
        arms.setdefault(cost.arm, []).append(cost)
    steps = {arm: median(each.seconds_per_step for each in own) for arm, own in arms.items()}
    peaks = {arm: [peak for each in own for peak in each.peak_memory if peak is not None] for arm, own in arms.items()}
    return [
        CostRow(
            arm=arm,
            runs=sum(len(each.seeds) for each in own),
            tokens=mean(tokens for each in own for tokens in each.tokens),
            minutes=median(seconds for each in own for seconds in each.seconds) / 60,
            hours=sum(seconds for each in own for seconds in each.seconds) / 3600,
            ratio=steps[arm] / steps[baseline],
            memory=median(peaks[arm]) / 2**20 if peaks[arm] else None,
        )
        for arm, own in arms.items()
    ]


def cost_table(rows: Sequence[CostRow]) -> list[str]:
    """Writes time, tokens and memory by arm.

    Args:
        rows: The costs.

    Returns:
        The lines of a Markdown table, and what all runs took together.
    """
    header = ["arm", "runs", "tokens a run", "minutes of training a run", "time of a step, relative to the baseline"]
    measured = any(row.memory is not None for row in rows)
    header += ["most memory held, MiB"] * measured
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [escape(row.arm), str(row.runs), f"{row.tokens:,.0f}", f"{row.minutes:.1f}", f"{row.ratio:.2f}"]
        cells += ["" if row.memory is None else f"{row.memory:,.0f}"] * measured
        lines.append(f"| {' | '.join(cells)} |")
    tokens = sum(row.runs * row.tokens for row in rows) / 1e6
    hours = sum(row.hours for row in rows)
    total = f"Training took {hours:.1f} hours and {tokens:.2f} million tokens in all."
    apart = "Runs shared their machine; [performance.md](performance.md) has the cost of a step on a quiet one."
    return [*lines, "", f"{total} {apart}"]


def cost_chart(rows: Sequence[CostRow], result: Result) -> Chart:
    """Draws what an arm reaches against what a step of it costs.

    Args:
        rows: The costs.
        result: The comparison of the same arms.

    Returns:
        A point for each arm; an arm that no other one reaches at its cost or less stands on the line.
    """
    ood = measure_of(result, "ood_accuracy")
    assert ood is not None
    points = [(row.arm, row.ratio, ood.groups[row.arm].mean) for row in rows if row.arm in ood.groups]
    front: list[tuple[float, float]] = []
    for _, ratio, accuracy in sorted(points, key=lambda point: (point[1], -point[2])):
        if not front or accuracy > front[-1][1]:
            front.append((ratio, accuracy))
    with figure(WIDTH, 2.6 + 0.17 * -(-len(points) // 2)) as drawing:
        axes = drawing.add_subplot()
        axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.7, linestyle="--")
        marked = [(ratio, accuracy, arm) for arm, ratio, accuracy in points]
        numbered_markers(axes, marked)
        axes.set_xlabel("time of a training step, relative to the baseline")
        axes.set_ylabel("accuracy out of distribution")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        drawing.legend(loc="outside lower left", ncols=2)
        place_numbers(axes, marked)
    header = ["arm", "step_time", "ood_accuracy"]
    return Chart("cost", "Accuracy against the time of a step.", "", header, [list(point) for point in points], drawing)


def _number(measure: MeasureEffects, arm: str) -> str:
    if arm not in measure.groups:
        return ""
    value = measure.groups[arm].mean
    return f"{100 * value:.1f}%" if measure.unit == "share" else f"{value:.3f}"


if __name__ == "__main__":
    main()
