"""The differentiable forward pass of one micro-batch, as the penalties see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class LastLayer:
    """The last adapted layer's factors inside the forward pass: b = a Bᵀ, a = x Aᵀ.

    Attributes:
        x: The input of A, (S, T, d_in), with its graph.
        a: The output of A, (S, T, r), with its graph.
        b: The output of B, (S, T, d_out), with its graph.
        B: The factor itself, (d_out, r).
    """

    x: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    B: torch.Tensor


@dataclass
class Forward:
    """What one forward pass computed at the N tokens that carry a label, in row-major order.

    Attributes:
        domain_ids: The domain of each of the S sequences, (S,), int64.
        set_ids: The isomer set of each sequence, (S,), int64; all different for unpaired data.
        rows: The sequence of each label token, (N,), int64, ascending.
        labels: The label tokens, (N,), int64.
        log_probs: log p(label), (N,), with gradient.
        entropy: Entropy of the predicted distribution in nats, (N,), with gradient.
        logits_at: Gives the logits, (len(index), V), with gradient, of the label tokens at an index (M,).
        hidden: The hidden states that predict the labels, (N, H), with gradient, or ``None``.
        answers: For each sequence the index into the N tokens of the one that states its answer, (S,).
        last_layer: See `LastLayer`; ``None`` unless a method needs it.
    """

    domain_ids: torch.Tensor
    set_ids: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    log_probs: torch.Tensor
    entropy: torch.Tensor
    logits_at: Callable[[torch.Tensor], torch.Tensor]
    answers: torch.Tensor
    hidden: torch.Tensor | None = None
    last_layer: LastLayer | None = None

    @classmethod
    def from_logits(
        cls,
        logits: torch.Tensor,
        labels: torch.Tensor,
        domain_ids: torch.Tensor,
        set_ids: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        last_layer: LastLayer | None = None,
    ) -> Forward:
        """Builds the view from a model's full logits, for a training loop of one's own.

        The answer of a sequence is taken to be its last label token.

        Args:
            logits: (S, T, V), position t predicting token t + 1 (not shifted).
            labels: (S, T), int64, -100 where there is none.
            domain_ids: (S,), int64.
            set_ids: (S,), int64, or ``None`` for unpaired data.
            hidden: The hidden states that the logits come from, (S, T, H), or ``None``.
            last_layer: See `LastLayer`.

        Returns:
            The view.
        """
        targets = labels[:, 1:]
        mask = targets != -100
        chosen = logits[:, :-1][mask]  # (N, V)
        log_p = F.log_softmax(chosen, -1)
        rows = mask.nonzero()[:, 0]
        picked = targets[mask]
        return cls(
            domain_ids=domain_ids,
            set_ids=torch.arange(len(domain_ids), device=domain_ids.device) if set_ids is None else set_ids,
            rows=rows,
            labels=picked,
            log_probs=log_p.gather(1, picked.unsqueeze(1)).squeeze(1),
            entropy=-(log_p.exp() * log_p).sum(-1),
            logits_at=lambda index: chosen[index],
            answers=mask.sum(1).cumsum(0) - 1,
            hidden=None if hidden is None else hidden[:, :-1][mask],
            last_layer=last_layer,
        )

    @property
    def num_sequences(self) -> int:
        """S."""
        return len(self.domain_ids)

    def sequence_sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums values over each sequence's label tokens.

        Args:
            values: (N,).

        Returns:
            (S,), in the dtype of the values, with gradient.
        """
        return torch.zeros(self.num_sequences, dtype=values.dtype, device=values.device).index_add(0, self.rows, values)

    def sequence_lengths(self) -> torch.Tensor:
        """Counts each sequence's label tokens: (S,), int64."""
        return torch.bincount(self.rows, minlength=self.num_sequences)
