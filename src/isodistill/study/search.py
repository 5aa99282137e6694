"""Hyperparameter trials: drawn with Optuna before the first run, the same number for every arm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from isodistill.methods import METHODS
from isodistill.methods.base import Choice, Range
from isodistill.study.cells import Arm
from isodistill.study.config import SearchConfig


class Trial(BaseModel):
    """The values of one trial where they differ from those given.

    Attributes:
        number: Its number, from 0; trial 0 differs in nothing.
        training: Trainer options.
        method_options: Options of the method.
        penalty_options: Options of the penalty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 0
    training: dict[str, Any] = Field(default_factory=dict)
    method_options: dict[str, Any] = Field(default_factory=dict)
    penalty_options: dict[str, Any] = Field(default_factory=dict)

    def applied(self, arm: Arm) -> Arm:
        """Returns the arm with the trial's values."""
        return arm.model_copy(
            update={
                "training": arm.training | self.training,
                "method_options": arm.method_options | self.method_options,
                "penalty_options": arm.penalty_options | self.penalty_options,
            }
        )


def draw_trials(search: SearchConfig, arm: Arm) -> list[Trial]:
    """Draws an arm's trials by random search.

    Trial n of every arm has the same values of the shared options: these are drawn first, under a seed of the search
    and n alone. All trials are known before the first one runs, so that they can be spread over machines.

    Args:
        search: The search.
        arm: The arm.

    Returns:
        The trials; the first is the values as given, as in DomainBed.
    """
    import optuna
    from optuna.samplers import RandomSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces: dict[tuple[str, str], Range | Choice] = {
        ("training", name): entry.space() for name, entry in search.space.items()
    }
    spaces |= _own_spaces("method_options", arm.method)
    if arm.penalty is not None:
        spaces |= _own_spaces("penalty_options", arm.penalty)
    distributions = {f"{group}.{name}": _distribution(space) for (group, name), space in spaces.items()}
    study = optuna.create_study()
    trials = [Trial()]
    for number in range(1, search.trials):
        study.sampler = RandomSampler(seed=_seed(search.seed, number))
        drawn = study.ask(fixed_distributions=distributions).params
        values: dict[str, dict[str, Any]] = {"training": {}, "method_options": {}, "penalty_options": {}}
        for group, name in spaces:
            values[group][name] = drawn[f"{group}.{name}"]
        trials.append(Trial(number=number, **values))
    return trials


def choose_trial(scores: Sequence[float | None]) -> int | None:
    """Picks the trial with the highest score.

    Args:
        scores: One score for each trial, ``None`` for one that failed.

    Returns:
        Its number; of equal ones the first, ``None`` if all failed.
    """
    finished = [(score, -number) for number, score in enumerate(scores) if score is not None]
    return -max(finished)[1] if finished else None


def _own_spaces(group: str, method: str) -> Mapping[tuple[str, str], Range | Choice]:
    return {(group, name): space for name, space in METHODS[method].search_space.items()}


def _distribution(space: Range | Choice) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, Choice):
        return CategoricalDistribution(space.values)
    if space.integer:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")
