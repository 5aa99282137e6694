"""The options of Invariant Gradient Alignment, and what is refused of them."""

from __future__ import annotations

from typing import Literal, get_args

from isodistill.errors import IsodistillError
from isodistill.gradients.inputs import Estimator
from isodistill.gradients.mask import NORMALIZATIONS, Normalization

MaskSpace = Literal["weight", "factor", "factored", "tangent", "inputs", "directions"]
MaskStage = Literal["gradient", "update"]

DIRECTIONS = 32  # of each side, by default
CLOSING = 3.0
"""By default an entry or direction that one domain alone uses, whose conflict is K - 1, is damped by exp(-3)."""


def check_options(
    tau: float | None,
    mask_space: MaskSpace,
    mask_stage: MaskStage | None,
    statistics_decay: float,
    conflict_normalization: Normalization,
    projection_rank: int | None,
    projection: str,
    direction_rank: int | None,
    conflict_estimator: Estimator,
) -> None:
    """Refuses options that are out of range or contradict each other.

    Args:
        tau: See `IGA`, as all of them.
        mask_space: With its default filled in.
        mask_stage: As given.
        statistics_decay: As given.
        conflict_normalization: As given.
        projection_rank: As given.
        projection: As given.
        direction_rank: With its default filled in.
        conflict_estimator: As given.

    Raises:
        IsodistillError: naming the option and the mend.
    """
    if tau is not None and not 0.0 <= tau < float("inf"):
        raise IsodistillError(f"tau={tau} is out of range: give a finite number, 0 or greater")
    if mask_space not in get_args(MaskSpace):
        raise IsodistillError(f"mask_space={mask_space!r} is unknown: choose one of {', '.join(get_args(MaskSpace))}")
    if mask_stage not in (None, "gradient", "update"):
        raise IsodistillError(f"mask_stage={mask_stage!r} is unknown: choose 'gradient' or 'update'")
    if mask_space != "factor" and mask_stage == "update":
        raise IsodistillError("mask_stage='update' needs mask_space='factor': an update has no dense weight space")
    if not 0.0 <= statistics_decay < 1.0:
        raise IsodistillError(f"statistics_decay={statistics_decay} is out of range: give a number in [0, 1)")
    if conflict_normalization not in NORMALIZATIONS:
        raise IsodistillError(
            f"conflict_normalization={conflict_normalization!r} is unknown: choose one of {NORMALIZATIONS}"
        )
    if mask_space in ("inputs", "directions") and conflict_normalization != "relative":
        raise IsodistillError(
            f"conflict_normalization={conflict_normalization!r} does not go with mask_space={mask_space!r}, where"
            " it is always relative: leave it unset"
        )
    if projection_rank is not None and (mask_space != "weight" or projection_rank < 1):
        raise IsodistillError(
            f"projection_rank={projection_rank} needs mask_space='weight' and a rank of at least 1; leave it unset"
            " for full rank"
        )
    if projection not in ("randomized", "exact"):
        raise IsodistillError(f"projection={projection!r} is unknown: choose 'randomized' or 'exact'")
    if direction_rank is not None and (mask_space != "directions" or direction_rank < 1):
        raise IsodistillError(
            f"direction_rank={direction_rank} needs mask_space='directions' and a rank of at least 1; leave it"
            " unset for all directions"
        )
    if conflict_estimator not in get_args(Estimator):
        raise IsodistillError(
            f"conflict_estimator={conflict_estimator!r} is unknown: choose 'plain', 'split' or 'cross'"
        )
    if conflict_estimator != "plain" and mask_space not in ("inputs", "directions"):
        raise IsodistillError(f"conflict_estimator={conflict_estimator!r} needs mask_space='inputs' or 'directions'")
