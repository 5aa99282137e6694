"""Writes the tables of docs/performance.md and its figure from the raw results beside it: `make performance`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from isodistill.bench.chart import cost_chart
from isodistill.bench.timing import BenchTable, ratio_of
from isodistill.files import write_text_atomically
from isodistill.report.markdown import escape

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(?P<start><!-- (?P<kind>timings|figures) (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.S)
_TARGETS = re.compile(r"(<!-- targets -->\n).*?(<!-- end -->)", re.S)
_OUTSIDE = "outside of loss and backward, "


def main(out: Path = ROOT / "docs") -> None:
    """Fills every marked block of ``performance.md`` and draws the costs.

    Args:
        out: The folder of the page; raw results and the figure are in its folder ``performance``.
    """
    tables = {
        file.stem: BenchTable.model_validate_json(file.read_text(encoding="utf-8"))
        for file in sorted((out / "performance").glob("*.json"))
    }
    page = out / "performance.md"
    text = page.read_text(encoding="utf-8")

    def fill(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in tables:
            sys.exit(f"{page.name} shows {name}, and performance/{name}.json is not there: run that benchmark")
        lines = _timings(tables[name]) if block["kind"] == "timings" else _figures(tables[name])
        return block["start"] + "\n".join(lines) + "\n" + block["end"]

    text = _BLOCK.sub(fill, text)
    text = _TARGETS.sub(lambda block: block[1] + "\n".join(targets(tables)) + "\n" + block[2], text)
    write_text_atomically(page, text)
    steps = [table for _, table in sorted(tables.items()) if table.benchmark == "step" and table.settings["rank"] == 8]
    write_text_atomically(out / "performance" / "costs.svg", cost_chart(steps).svg())


def _timings(table: BenchTable) -> list[str]:
    """One line for each case: seconds, ratio, range; for steps also the ratio to our `erm` and the share elsewhere."""
    outside = {case.removeprefix(_OUTSIDE): share for case, share in table.figures.items() if _OUTSIDE in case}
    header = ["case", "seconds", "ratio", "least to most"]
    header += ["ratio to our `erm`", "outside of loss and backward"] if outside else []
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    own = next((each for each in table.timings if each.case == "erm"), table.timings[0])
    for timing in table.timings:
        cells = [escape(timing.case), f"{timing.median:.3g}", f"{timing.ratio:.2f}"]
        cells.append(f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}")
        if outside:
            cells.append(f"{ratio_of(timing, own):.2f}")
            cells.append(f"{outside[timing.case]:.1%}" if timing.case in outside else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _figures(table: BenchTable) -> list[str]:
    """One line for each figure; a profile's are shares, memory's are MiB."""
    share = table.benchmark == "profile"
    lines = [f"| figure | {'share' if share else table.settings.get('unit', 'value')} |", "|---|---|"]
    for name, value in table.figures.items():
        if _OUTSIDE in name:
            continue
        shown = f"{value:.1%}" if share and name != "profiled seconds" else f"{value:.4g}"
        lines.append(f"| {escape(name)} | {shown} |")
    return lines


def targets(tables: dict[str, BenchTable]) -> list[str]:
    """Holds what was measured against what was aimed at.

    Args:
        tables: The results by file name.

    Returns:
        The lines of a Markdown table; a target whose benchmark is not there has no line.
    """
    rows: list[tuple[str, float, float, bool, str]] = []  # measure, measured, target, whether less is better, format

    def ratio(name: str, case: str) -> float | None:
        found = [timing.ratio for timing in tables[name].timings if timing.case == case] if name in tables else []
        return found[0] if found else None

    def add(measure: str, value: float | None, target: float, less: bool = True, form: str = ".2f") -> None:
        if value is not None:
            rows.append((measure, value, target, less, form))

    for name, weight in (("step-2048", 1.25), ("step-512", 1.35)):
        tokens = name.removeprefix("step-")
        for case in ("iga (weight)", "iga (weight, rank 8)"):
            add(f"step, {case} / TRL, {tokens} tokens", ratio(name, case), weight)
    for case in ("iga (factor)", "iga (factored)"):
        add(f"step, {case} / TRL, 2048 tokens", ratio("step-2048", case), 1.06)
    for case in ("pcgrad", "mgda", "groupdro", "vrex", "and_mask"):
        add(f"step, {case} / TRL, 2048 tokens", ratio("step-2048", case), 1.08)
    if "step-2048" in tables:
        shares = [share for case, share in tables["step-2048"].figures.items() if case == f"{_OUTSIDE}erm"]
        add("trainer outside of loss and backward, erm", shares[0] if shares else None, 0.03, form=".1%")
    if "ways-1024" in tables:
        ours, naive, tap, jac = tables["ways-1024"].timings
        add("naive weight space / ours, 1024 tokens", ratio_of(naive, ours), 3.0, less=False)
        add("TorchJD's jac / our tap, 1024 tokens", ratio_of(jac, tap), 1.4, less=False)
    for space, name in (("factor", "scaling-2048"), ("weight", "scaling-weight-2048")):
        value = ratio(name, f"iga ({space}), K = 16")
        add(f"step at K = 16 / K = 2, iga ({space}), 2048 tokens", value, 1.10)
    if "projection" in tables:
        figures = tables["projection"].figures
        add("projection 4096 x 4096, torch.linalg.svd / ours", figures["torch.linalg.svd / ours"], 50, False, ".0f")
        add("excess of the rank-16 error, warm", figures["excess of the error, warm"], 0.01, form=".4%")
        add("excess of the rank-16 error, cold", figures["excess of the error, cold"], 0.01, form=".4%")
    for table in (table for table in tables.values() if table.benchmark == "memory"):
        bound = table.figures["6 layers + K adapters"]
        spaces = ("weight), no running averages", "weight)", "factored)", "directions, rank 32)")
        for kind, said in (("over erm", "peak memory"), ("tensors over erm", "tensors that are held")):
            for space in spaces:
                add(f"{said} over erm, iga ({space}, MiB", table.figures[f"{kind}, iga ({space}"], bound, form=".0f")
    lines = ["| measure | measured | target | |", "|---|---|---|---|"]
    for measure, value, target, less, form in rows:
        met = value <= target if less else value >= target
        sign = "at most" if less else "at least"
        aim = f"{sign} {target:{form}}".replace(".0000%", "%").replace(".0%", "%")
        lines.append(f"| {measure} | {value:{form}} | {aim} | {'met' if met else '**missed**'} |")
    return lines


if __name__ == "__main__":
    main()
