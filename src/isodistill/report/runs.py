"""One run as the report sees it, and the small questions that the report asks about runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isodistill.errors import IsodistillError
from isodistill.evaluation.items import split_sort_key
from isodistill.evaluation.results import Evaluation
from isodistill.files import write_text_atomically
from isodistill.validation import first_fault


class RunSummary(BaseModel):
    """A training run with its evaluation.

    Attributes:
        name: The run's name, unique within a report.
        method: The training method, for example ``"erm"`` or ``"iga"``.
        settings: Every setting of the run; nested mappings are flattened for the table.
        evaluation: How the trained student did.
        domains: The training domains, where they are known.
        log_history: Rows of the transformers Trainer's log: step, loss, learning_rate, eval_loss, ...
        diagnostics: One row per optimizer step, where the method records them: ``step``, ``mean_mask``,
            ``kept_energy``, ``projection_residual`` (or ``None``), ``conflict`` (module name to the
            variance's share of its gradient energy), ``mask_histogram`` (how many entries of the mask fall into each
            of the equal parts of [0, 1]).
        seconds: Training time.
        tokens: Tokens trained on.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    method: str = Field(min_length=1)
    settings: dict[str, Any]
    evaluation: Evaluation
    domains: list[str] = []
    log_history: list[dict[str, Any]] = []
    diagnostics: list[dict[str, Any]] = []
    seconds: float
    tokens: int

    def save(self, path: Path) -> Path:
        """Writes the summary as JSON, all at once; what is not a finite number becomes null.

        Args:
            path: The file's place.

        Returns:
            The path.
        """
        return write_text_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a summary that `save` wrote.

        Args:
            path: The file.

        Returns:
            The summary.

        Raises:
            IsodistillError: If the file is missing or does not hold a run summary.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise IsodistillError(f"Cannot read the run summary {path}: {error.strerror}; train first.") from error
        except ValidationError as error:
            place, reason = first_fault(error, "the top level")
            raise IsodistillError(
                f"{path} is not a run summary of this version: {place}: {reason}; run the training anew."
            ) from error


def check_runs(runs: Sequence[RunSummary]) -> None:
    """Refuses what no report can be made of.

    Args:
        runs: The runs.

    Raises:
        IsodistillError: If there is no run or two runs share a name.
    """
    if not runs:
        raise IsodistillError("A report needs at least one run: give the run summaries.")
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise IsodistillError(f"Two runs are called '{name}': give every run of a report its own name.")


def all_splits(runs: Sequence[RunSummary]) -> list[str]:
    """Lists the splits that any run was evaluated on.

    Args:
        runs: The runs.

    Returns:
        Split names in reporting order.
    """
    return sorted({split for run in runs for split in run.evaluation.splits}, key=split_sort_key)


def number(row: Mapping[str, Any], key: str) -> float | None:
    """Reads a finite number from a log row.

    Args:
        row: The row; logs of a diverged run may hold NaN, infinity or nothing.
        key: The field.

    Returns:
        The number, or ``None`` if there is no finite one.
    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens settings to one line each.

    Args:
        settings: Settings, possibly nested.
        prefix: What the keys of the result start with.

    Returns:
        Dotted keys and their values as text.
    """
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = "none" if value is None else str(value)
    return flat


def replicates(runs: Sequence[RunSummary], of: RunSummary) -> list[RunSummary]:
    """Finds the runs that differ from one run by their seeds and output places at most.

    Args:
        runs: All runs of the report.
        of: One of them.

    Returns:
        The run and its repetitions, in the order of `runs`.
    """
    return [run for run in runs if run.method == of.method and _seedless(run) == _seedless(of)]


def _seedless(run: RunSummary) -> dict[str, str]:
    def named_apart(key: str) -> bool:
        last = key.rsplit(".", 1)[-1]
        return last.endswith("seed") or last in ("name", "run_name", "output_dir", "out")

    return {key: value for key, value in flatten(run.settings).items() if not named_apart(key)}
