"""A penalty weight that is switched on after a share of the run, as DomainBed's penalties are."""

from __future__ import annotations

import torch

from isodistill.errors import IsodistillError
from isodistill.methods.base import Method, RunInfo


class AnnealedPenalty(Method):
    """Holds the weight lambda(t): ``before`` in the first steps, ``penalty_weight`` from the switch on.

    DomainBed switches after 500 (IRM, V-REx) or 1500 (Fishr) of its 5001 steps and clears the optimizer's state at
    the switch, because the loss jumps. A fine-tuning run is shorter, so the switch is a share of the run here: the
    same shares, 0.1 and 0.3.

    Args:
        penalty_weight: lambda, not negative.
        anneal_fraction: The share of the run before the switch, in [0, 1); 0 switches at once, without a reset.
        before: The weight before the switch.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    def __init__(self, penalty_weight: float, anneal_fraction: float, before: float) -> None:
        if not 0.0 <= penalty_weight < float("inf"):
            raise IsodistillError(
                f"penalty_weight={penalty_weight} is out of range: give a finite number, 0 or greater"
            )
        if not 0.0 <= anneal_fraction < 1.0:
            raise IsodistillError(f"anneal_fraction={anneal_fraction} is out of range: give a number in [0, 1)")
        self._full_weight = penalty_weight
        self.anneal_fraction = anneal_fraction
        self._before = before
        self._switch = 0
        self._step = 0

    def bind(self, run: RunInfo) -> None:
        """Learns the length of the run, from which the step of the switch follows.

        Raises:
            IsodistillError: if it is unknown and the weight is annealed.
        """
        if self.anneal_fraction == 0.0:
            return
        if run.total_steps is None:
            raise IsodistillError(
                f"method={self.name!r} anneals its penalty over a share of the run: pass total_steps, or set"
                " anneal_fraction=0"
            )
        self._switch = round(self.anneal_fraction * run.total_steps)

    @property
    def penalty_weight(self) -> float:
        """The weight lambda at this step."""
        return self._full_weight if self._step >= self._switch else self._before

    @property
    def resets_optimizer(self) -> bool:
        """Whether this is the step of the switch."""
        return self._switch > 0 and self._step == self._switch

    def end_step(self) -> None:
        """Counts the step."""
        self._step += 1

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the step count."""
        return {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the step count."""
        self._step = int(state["step"])
