"""Arms and cells: the rows of a study, and the single runs of its grid with everything that determines them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from isodistill.evaluation.results import EvaluationConfig

Stage = Literal["trial", "final"]
Kind = Literal["method", "shuffled_domains", "slow_erm", "no_cue", "untuned"]


class Arm(BaseModel):
    """One row of the comparison.

    Attributes:
        label: Its name.
        kind: A method, or which control.
        method: The gradient method.
        method_options: Its options as given.
        penalty: The penalty beside it.
        penalty_options: Its options as given.
        training: All trainer and job options as given.
        trials_of: The label of the arm whose trials it uses: its own, or the baseline's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    kind: Kind
    method: str
    method_options: dict[str, Any]
    penalty: str | None
    penalty_options: dict[str, Any]
    training: dict[str, Any]
    trials_of: str

    @property
    def searched(self) -> bool:
        """Whether it has trials of its own."""
        return self.trials_of == self.label


class Cell(BaseModel):
    """One run.

    Attributes:
        stage: Whether it scores a trial or counts in the results.
        arm: The arm, with the values of the trial.
        data: The data set's name.
        data_digest: What its contents hang on.
        student: The student.
        seed: The training seed.
        trial: The number of the trial.
        held_out: The training domain that it is trained without.
        oracle_share: The share of the test sets that the rule ``oracle`` lays aside, 0 without the rule: a trial is
            scored on it, and a final run does not read it.
        evaluation: How it is evaluated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    arm: Arm
    data: str
    data_digest: str
    student: str
    seed: int
    trial: int
    held_out: str | None = None
    oracle_share: float = 0.0
    evaluation: EvaluationConfig

    @property
    def slug(self) -> str:
        """The name of its folder: readable, and different wherever anything that determines it is."""
        parts = [self.stage, self.arm.label, self.data, self.student.rstrip("/").rsplit("/", 1)[-1], f"s{self.seed}"]
        if self.stage == "trial":
            parts.append(f"t{self.trial}")
        if self.held_out is not None:
            parts.append(f"without-{self.held_out}")
        readable = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part)[:40].strip("-") for part in parts)
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{readable}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
