"""The trainer's own callbacks: terse terminal output, and a check that training trains."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from isodistill.errors import IsodistillError


def _without_conflict(logs: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (logs or {}).items() if not name.startswith("conflict/")}


class TerseProgress(ProgressCallback):
    """Keeps the layers' conflict, some two hundred numbers a step, off the terminal; trackers still log it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Shows the other numbers."""
        super().on_log(args, state, control, logs=_without_conflict(logs), **kwargs)


class TersePrinter(PrinterCallback):
    """The same for runs without a progress bar."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Prints the other numbers."""
        super().on_log(args, state, control, logs=_without_conflict(logs), **kwargs)


_NO_MOVEMENT = torch.finfo(torch.float32).eps ** 2
"""The largest change of a weight that counts as none."""


class WeightsMoved(TrainerCallback):
    """Checks after the first step with a learning rate that the adapter has moved at all."""

    def __init__(self) -> None:
        self._before: list[torch.Tensor] | None = None
        self._done = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remembers the adapter."""
        rate = max(group["lr"] for group in kwargs["optimizer"].param_groups)
        if not self._done and rate > 0.0:
            self._before = [p.detach().clone() for p in kwargs["model"].parameters() if p.requires_grad]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compares it."""
        if self._before is None:
            return
        after = (p for p in kwargs["model"].parameters() if p.requires_grad)
        # B starts at zero, where even a gradient that the mask wiped out leaves a denormal trace: that is no movement.
        moved = any(bool((new - old).abs().max() > _NO_MOVEMENT) for old, new in zip(self._before, after, strict=True))
        self._before, self._done = None, True
        if not moved:
            raise IsodistillError(
                "no adapter weight moved in the first optimizer step: the gradient is zero (is every completion"
                " truncated, or tau so large that the mask is zero?)"
            )
