"""The report as Markdown, for a pull request, and the model card of an adapter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.evaluation.compare import is_ood_split, ood_accuracy
from isodistill.files import write_text_atomically
from isodistill.report import tables
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary
from isodistill.report.verdict import interval, judge, percent, points

_SHOWN = ("agreement", "js_divergence", "lcs_centred", "flip_rate", "worst_domain", "worst_group")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def write_markdown(panels: Sequence[Panel], out: Path, title: str, rerun_command: str = "") -> Path:
    """Writes the report as Markdown.

    Args:
        panels: What is compared.
        out: The file.
        title: The heading.
        rerun_command: The command shown at the end, or empty.

    Returns:
        The path of the file.
    """
    return write_text_atomically(Path(out), render_markdown(panels, title, rerun_command))


def render_markdown(panels: Sequence[Panel], title: str, rerun_command: str = "") -> str:
    """Renders the report as Markdown: the verdicts, the differences, accuracy and consistency.

    Args:
        panels: What is compared.
        title: The heading.
        rerun_command: The command shown at the end, or empty.

    Returns:
        GitHub-flavoured Markdown; significant differences alone are bold. Text from outside is escaped.
    """
    lines = [f"## {escape(title)}", ""]
    for panel in panels:
        if panel.title:
            lines += [f"### {escape(panel.title)}", ""]
        verdict = judge(panel)
        lines += [escape(verdict.sentence), ""]
        if verdict.others:
            lines += [escape(verdict.others), ""]
        lines += [f"- {escape(caveat)}" for caveat in verdict.caveats]
        lines += [""] if verdict.caveats else []
        if verdict.comparisons:
            lines += [f"Accuracy out of distribution less that of {escape(str(verdict.baseline))}, in points:", ""]
            lines += [*markdown_table(tables.difference_table(verdict)), ""]
        lines += ["Accuracy by split, with 95% intervals:", "", *markdown_table(tables.accuracy_table(panel)), ""]
        shown = [measure for name in _SHOWN if (measure := panel.measure(name)) is not None]
        if shown:
            lines += ["<details><summary>Consistency and worst cases</summary>", ""]
            for measure in shown:
                heading = f"{escape(measure.title)} {tables.ARROWS[measure.better]}".strip()
                lines += [f"{heading}:", "", *markdown_table(tables.measure_table(measure)), ""]
            lines += ["</details>", ""]
    if rerun_command:
        fence = "`" * (max((len(run) for run in re.findall(r"`+", rerun_command)), default=0) + 3)
        lines += ["How to rerun:", "", f"{fence}sh", rerun_command, fence, ""]
    return "\n".join(lines)


def markdown_table(table: tables.Table) -> list[str]:
    """Writes a table as Markdown lines.

    Args:
        table: The table; marked rows become bold.

    Returns:
        The lines.
    """
    lines = [_row(table.header), _row(["---"] + ["---:"] * (len(table.header) - 1), plain=True)]
    for place, row in enumerate(table.rows):
        cells = [escape(cell) for cell in row]
        lines.append(_row([f"**{cell}**" for cell in cells] if place in table.marked else cells, plain=True))
    return lines


def escape(text: str) -> str:
    """Makes text stand for itself in Markdown and in the HTML that Markdown admits.

    Args:
        text: Any text.

    Returns:
        The text on one line with every character that Markdown reads escaped.
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#@!])", r"\\\1", text)


def model_card(run: RunSummary, panel: Panel | None = None, rerun_command: str = "") -> str:
    """Writes the model card of a trained adapter with its numbers, as the hub reads them.

    Args:
        run: The adapter's run with its evaluation.
        panel: What it was compared in, or ``None``.
        rerun_command: The command that makes the comparison again, or empty.

    Returns:
        The text of ``README.md``: YAML metadata with the results, then what was measured and how it was trained.

    Raises:
        IsodistillError: If the run was not evaluated on any split.
    """
    from huggingface_hub import EvalResult, ModelCardData

    splits = run.evaluation.splits
    if not splits:
        raise IsodistillError(f"The run {run.name!r} has no evaluated split: evaluate it, then write its card.")
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="isodistill",
            dataset_name=f"isodistill {run.evaluation.data}",
            dataset_split=split,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for split, result in splits.items()
        for kind, name, value in (
            ("accuracy", f"accuracy ({split})", result.accuracy.value),
            ("answer_agreement", f"answer agreement ({split})", result.agreement.value if result.agreement else None),
            ("lcs", f"LCS, centred ({split})", result.lcs_centred.value if result.lcs_centred else None),
        )
        if value is not None
    ]
    base = run.evaluation.student
    data = ModelCardData(
        model_name=run.name,
        library_name="peft",
        # A path on this machine says nothing to others.
        base_model=base if _HUB_ID.fullmatch(base) else None,
        tags=["isodistill", "lora", run.method],
        eval_results=results,
    )
    lines = ["---", data.to_yaml().strip(), "---", "", f"# {escape(run.name)}", ""]
    lines += [
        f"A LoRA adapter of {escape(base)}, trained by isodistill with the method {escape(run.method)}"
        + (f" on {len(run.domains)} domains ({escape(', '.join(run.domains))})" if run.domains else "")
        + f": {run.tokens:,} tokens, {run.seconds:.0f} s.",
        "",
        "## What it does",
        "",
        "| Split | Accuracy [95%] | Best constant answer | Agreement | JS (nats) | LCS, centred | Sets |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for split, result in splits.items():
        cells = [
            escape(split),
            interval(result.accuracy),
            "–" if result.constant_accuracy is None else percent(result.constant_accuracy),
            *(
                "–" if each is None else f"{each.value:.3f}"
                for each in (result.agreement, result.js_divergence, result.lcs_centred)
            ),
            str(result.n_sets),
        ]
        lines.append(_row(cells, plain=True))
    mean = ood_accuracy(run.evaluation)
    if mean.estimate is not None:
        lines += ["", f"Mean out of distribution ({escape(', '.join(mean.splits))}): {interval(mean.estimate)}."]
    lines += [
        "",
        "Intervals are bootstraps over isomer sets: other problems from the same source, not other training seeds."
        + ("" if any(is_ood_split(split) for split in splits) else " Nothing was measured out of distribution."),
        "",
    ]
    if panel is not None:
        verdict = judge(panel)
        lines += ["## Compared", "", escape(verdict.sentence), ""]
        lines += [f"- {escape(caveat)}" for caveat in verdict.caveats]
        lines += [""] if verdict.caveats else []
        for row in verdict.comparisons:
            effect = row.effect
            lines.append(
                f"- {escape(row.label)}: {points(effect.effect.value)} points ({points(effect.effect.low)} to "
                f"{points(effect.effect.high)}), {row.reading}"
            )
        lines += [""] if verdict.comparisons else []
        if rerun_command:
            lines += ["```sh", rerun_command.replace("`", ""), "```", ""]
    return "\n".join(lines)


def _row(cells: Sequence[str], plain: bool = False) -> str:
    return f"| {' | '.join(cells if plain else [escape(cell) for cell in cells])} |"
