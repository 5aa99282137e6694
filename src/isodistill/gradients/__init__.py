"""Per-domain gradients of LoRA-adapted weights: engines, conflict mask, running moments and projection."""

from isodistill.gradients.collector import Collector, GradientStack
from isodistill.gradients.layers import AdaptedLayer, find_adapted_layers
from isodistill.gradients.mask import DomainMoments, conflict, conflict_mask, conflict_share, domain_moments
from isodistill.gradients.projection import (
    LowRank,
    Projector,
    exact_truncated_svd,
    pull_back,
    randomized_truncated_svd,
)
from isodistill.gradients.statistics import RunningMoments

__all__ = [
    "AdaptedLayer",
    "Collector",
    "DomainMoments",
    "GradientStack",
    "LowRank",
    "Projector",
    "RunningMoments",
    "conflict",
    "conflict_mask",
    "conflict_share",
    "domain_moments",
    "exact_truncated_svd",
    "find_adapted_layers",
    "pull_back",
    "randomized_truncated_svd",
]
