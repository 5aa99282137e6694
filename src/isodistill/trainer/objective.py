"""The loss of distillation: a divergence from the teacher's distribution, mixed with the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch.utils.checkpoint import checkpoint

from isodistill.distillation import DIVERGENCES, TeacherTokens, distillation_loss, jensen_shannon
from isodistill.distillation.losses import Divergence
from isodistill.trainer.config import IsomerConfig
from isodistill.trainer.signals import label_counts

_PIECE = 512
"""How many positions' logits are in memory at a time."""


@dataclass
class Objective:
    """Turns logits at the labels of one batch into losses.

    On the student's own completions the divergence is the whole loss: a sample is no example to imitate.

    Args:
        divergence: One of `DIVERGENCES`.
        temperature: Softens both distributions.
        labels: The N labels, (N,), int64.
        teacher: The teacher's tokens there.
        weight: The divergence's share at each, (N,).
    """

    divergence: Divergence
    temperature: float
    labels: torch.Tensor
    teacher: TeacherTokens
    weight: torch.Tensor

    @classmethod
    def of_batch(cls, args: IsomerConfig, batch: dict[str, torch.Tensor]) -> Objective | None:
        """Reads a batch.

        Args:
            args: The configuration.
            batch: With labels, teacher_ids and teacher_logprobs, and on_policy (S,) where the student wrote.

        Returns:
            The batch's objective, or ``None`` where it has no teacher.
        """
        if args.distillation is None or "teacher_ids" not in batch:
            return None
        labels = batch["labels"][:, 1:]
        counts = label_counts(batch["labels"])
        ids = batch["teacher_ids"]  # (S, C, k)
        places = torch.arange(ids.shape[1], device=ids.device) < counts.unsqueeze(1)  # (S, C)
        weight = torch.full_like(counts, args.distillation_weight, dtype=torch.float32)
        if "on_policy" in batch:
            weight = weight.masked_fill(batch["on_policy"], 1.0)
        divergence = DIVERGENCES[args.distillation]
        if args.distillation == "jsd":
            divergence = cast(Divergence, partial(jensen_shannon, beta=args.distillation_beta))
        return cls(
            divergence,
            args.distillation_temperature,
            labels[labels != -100],
            TeacherTokens(ids[places], batch["teacher_logprobs"][places]),
            weight.repeat_interleave(counts),
        )

    def losses(self, logits: torch.Tensor) -> torch.Tensor:
        """Computes each label's loss.

        Args:
            logits: (N, V).

        Returns:
            (N,), in float32.
        """
        return self._mixed(logits, slice(None))

    def losses_of_states(self, head: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
        """Computes each label's loss from hidden states, forming the logits piece by piece.

        Args:
            head: The language model's head.
            states: (N, hidden).

        Returns:
            (N,), in float32.
        """
        pieces = [slice(start, start + _PIECE) for start in range(0, len(states), _PIECE)]
        if len(pieces) < 2:
            return self.losses(head(states))

        def compute(part: torch.Tensor, piece: slice) -> torch.Tensor:
            return self._mixed(head(part), piece)

        # Each piece's logits are formed again in the backward pass instead of being kept.
        return torch.cat([checkpoint(compute, states[piece], piece, use_reentrant=False) for piece in pieces])

    @torch.no_grad()
    def sum_of_divergences(self, losses: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
        """Takes the cross-entropy out of the losses again, for the log.

        Args:
            losses: What `losses` returned.
            log_probs: log p(label), (N,).

        Returns:
            The sum of the divergences and the number of positions where there is one, (2,).
        """
        share = self.teacher.known * self.weight
        there = share > 0
        parts = (losses + (1 - share) * log_probs)[there] / share[there]
        return torch.stack([parts.sum(), there.sum().to(parts)])

    def _mixed(self, logits: torch.Tensor, piece: slice) -> torch.Tensor:
        teacher = TeacherTokens(self.teacher.ids[piece], self.teacher.logprobs[piece])
        labels, weight = self.labels[piece], self.weight[piece]
        return distillation_loss(logits, labels, teacher, self.divergence, weight, self.temperature)
