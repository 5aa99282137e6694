"""Token-level distillation: divergences between a teacher's and a student's next-token distributions."""

from __future__ import annotations

from isodistill.distillation.losses import (
    DIVERGENCES,
    TeacherTokens,
    distillation_loss,
    domain_means,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)

__all__ = [
    "DIVERGENCES",
    "TeacherTokens",
    "distillation_loss",
    "domain_means",
    "forward_kl",
    "jensen_shannon",
    "reverse_kl",
]
