"""The folder that a finished run leaves: its record and its diagnostics, readable without a trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from isodistill.errors import IsodistillError
from isodistill.validation import first_fault

RUN_FILE = "run.json"
"""The record that a finished run leaves beside its adapter."""

DIAGNOSTICS_FILE = "diagnostics.jsonl"
"""One line for each optimizer step, beside the adapter."""

EVALUATION_FILE = "evaluation.json"
"""Where `isodistill evaluate` puts a run's evaluation unless told otherwise."""


class RunRecord(BaseModel):
    """What a finished run says of itself; stands as ``run.json`` beside the adapter.

    Attributes:
        method: The gradient method.
        student: The student's name as it was given.
        domains: The training domains.
        system_prompt: What stood before each problem; evaluation uses the same.
        settings: The job and every trainer option that differs from the library's default.
        versions: Versions of what the numbers depend on.
        seconds: Wall-clock seconds of training.
        tokens: Input tokens trained on.
        log_history: The Trainer's log rows.
    """

    model_config = ConfigDict(extra="forbid")

    method: str
    student: str
    domains: list[str]
    system_prompt: str | None
    settings: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    tokens: int
    log_history: list[dict[str, Any]]

    @staticmethod
    def load(folder: Path) -> RunRecord:
        """Reads a run's record.

        Args:
            folder: The run's output folder.

        Returns:
            The record.

        Raises:
            IsodistillError: if there is none, or it is damaged.
        """
        file = folder / RUN_FILE
        try:
            return RunRecord.model_validate_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise IsodistillError(
                f"{file} cannot be read ({error.strerror}): give the folder of a finished run"
            ) from None
        except ValidationError as error:
            raise IsodistillError(f"{file} is damaged, {': '.join(first_fault(error))}; train again") from None


def read_diagnostics(folder: Path) -> list[dict[str, Any]]:
    """Reads a run's diagnostics.

    Args:
        folder: The run's output folder.

    Returns:
        One mapping for each optimizer step (see `isodistill.methods.Diagnostics`); empty where the method has none.
    """
    file = folder / DIAGNOSTICS_FILE
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def drop_diagnostics_after(folder: Path, step: int) -> None:
    """Cuts a run's diagnostics back to a checkpoint, so that a resumed run writes each step once.

    Args:
        folder: The run's output folder.
        step: The last optimizer step that stays.
    """
    file = folder / DIAGNOSTICS_FILE
    if file.is_file():
        kept = [line for line in file.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return 2**63
