"""What is tuned for each method: the same number of trials for all, plain training included."""

from __future__ import annotations

from typing import Any, get_args

from isodistill.errors import IsodistillError
from isodistill.methods import METHODS
from isodistill.methods.iga_options import MaskSpace
from isodistill.toy.train import Trial

OPTIMIZERS = ("adamw", "tensor_adamw")
_RATE = 0.05

# Two further values around each default; a method without a strength gets learning rates in their place.
_STRENGTHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "word_dropout": ({"probability": 0.3}, {"probability": 0.6}),
    "iga": ({"tau": 1.0}, {"tau": 10.0}),
    "gsnr": ({"statistics_decay": 0.0}, {"statistics_decay": 0.99}),
    "and_mask": ({"tau": 0.5}, {"tau": 0.25}),
    "sand_mask": ({"tau": 0.25}, {"k": 0.1}),
    "irm": ({"penalty_weight": 10.0}, {"penalty_weight": 1.0}),
    "vrex": ({"penalty_weight": 100.0}, {"penalty_weight": 1.0}),
    "groupdro": ({"eta": 0.1}, {"eta": 1.0}),
    "fish": ({"meta_step": 0.1}, {"meta_step": 1.0}),
    "fishr": ({"penalty_weight": 10.0}, {"penalty_weight": 0.1}),
    "koyama": ({"penalty_weight": 10.0}, {"penalty_weight": 1.0}),
    "cagrad": ({"c": 0.2}, {"c": 0.9}),
    "aligned_mtl": ({"scale_mode": "median"}, {"scale_mode": "rmse"}),
    "gradvac": ({"beta": 0.1}, {"beta": 0.9}),
    "nash_mtl": ({"max_norm": 0.3}, {"max_norm": 0.0}),
    "consistency": ({"penalty_weight": 4.0}, {"penalty_weight": 64.0}),
}


class Case:
    """One row of the table.

    Args:
        name: ``METHOD``, for IGA ``iga/SPACE``, and for the control either with ``/shuffled`` behind it.

    Raises:
        IsodistillError: if the name is not one of a row.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        parts = name.split("/")
        self.shuffled = parts[-1] == "shuffled"
        if self.shuffled:
            parts.pop()
        self.method = parts[0] if parts else ""
        if self.method not in METHODS:
            raise IsodistillError(f"method={name!r} is unknown: choose of {', '.join(METHODS)}, with /shuffled behind")
        if self.shuffled and not METHODS[self.method].uses_domains:
            raise IsodistillError(f"method={name!r} would change nothing: {self.method} reads no domain label")
        self.options: dict[str, Any] = {}
        if len(parts) == 2 and self.method == "iga" and parts[1] in get_args(MaskSpace):
            # The library's values when the committed table was made.
            self.options |= {"mask_space": parts[1], "tau": 3.0, "statistics_decay": 0.9}
        elif len(parts) == 1 and self.method == "fishr":
            self.options["scale"] = "raw"  # here gradients are of order 1, as in the classifier that it was made for
        elif len(parts) != 1:
            raise IsodistillError(f"method={name!r} is unknown: only iga has spaces, {', '.join(get_args(MaskSpace))}")

    def trials(self) -> list[Trial]:
        """Lists the trials: four settings under each optimizer, the default ones first.

        Returns:
            Eight trials; the first and the fifth have default options.
        """
        strengths = _STRENGTHS.get(self.method)
        settings: list[tuple[dict[str, Any], float]]
        if strengths is None:
            settings = [({}, rate * _RATE) for rate in (1.0, 0.1, 0.3, 3.0)]
        else:
            settings = [({}, _RATE), (strengths[0], _RATE), (strengths[1], _RATE), ({}, 0.3 * _RATE)]
        return [
            Trial(learning_rate=rate, optimizer=optimizer, options=self.options | options)
            for optimizer in OPTIMIZERS
            for options, rate in settings
        ]

    def defaults(self) -> dict[str, Trial]:
        """Returns the trial with default options under each optimizer, by its name."""
        trials = self.trials()
        return {optimizer: next(t for t in trials if t.optimizer == optimizer) for optimizer in OPTIMIZERS}


def all_cases() -> list[str]:
    """Lists every registered method, IGA in each space, and IGA's control, plain training first."""
    spaces = [f"iga/{space}" for space in get_args(MaskSpace)]
    names = [name for name in METHODS if name != "iga"]
    return [*names, *spaces, *(f"{space}/shuffled" for space in spaces)]
