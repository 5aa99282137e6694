"""A linear problem in which each label has one invariant cause and one cue whose reliability the domain sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from isodistill.errors import IsodistillError

Variant = Literal["shared", "own", "rotated"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

CUE_RATES = (0.95, 0.9, 0.8, 0.7)
"""How often the cue agrees with the label, in each of the K = 4 training domains."""
INVARIANT_FEATURES = 4
INVARIANT_SLOPE = 2.0
_RANK = 2


@dataclass(frozen=True)
class Sets:
    """N paired sets: the members of a set share the invariant features and the label, not the cue.

    Attributes:
        values: The features, (N, K, d), fp64.
        labels: The labels, (N,), int64, 0 or 1.
    """

    values: torch.Tensor
    labels: torch.Tensor


class ToyProblem:
    """Draws sets, and reads the learnt weights.

    With u the unit vector of equal entries::

        z ~ N(0, I_4)        P(y = 1 | z) = sigmoid(2 uᵀz)                          (the same in every domain)
        c_d = the label as +1 or -1 with probability r_d, else its opposite         (drawn for each member alone)

    In ``shared`` the cue is one feature, the same in all domains, with r_d = 0.95, 0.9, 0.8, 0.7. In ``own`` domain d
    has a cue feature of its own, zero elsewhere. ``rotated`` is ``own`` with all features turned by a random
    orthogonal matrix, so that no entry of a gradient belongs to one feature. Both halves are logistic and independent
    given y, so the best predictor is linear: weight 2u on z, and logit(r_d) on a cue of known rate.

    It follows the linear unit tests of Aubin et al. (arXiv 2102.10867): classification, a spurious feature that
    domains disagree on, an option that scrambles the features, a test with the cue broken. Departures: their
    examples are not paired, and their invariant and spurious features have several dimensions each.

    Args:
        variant: ``shared``, ``own`` or ``rotated``.
        seed: Equal seeds give equal rotations and sets.

    Raises:
        IsodistillError: if the variant is unknown.
    """

    def __init__(self, variant: Variant, seed: int) -> None:
        if variant not in VARIANTS:
            raise IsodistillError(f"variant={variant!r} is unknown: choose one of {', '.join(VARIANTS)}")
        self.variant = variant
        self.rates = torch.tensor(CUE_RATES, dtype=torch.float64)
        self.domains = len(CUE_RATES)
        self.cues = 1 if variant == "shared" else self.domains
        self.features = INVARIANT_FEATURES + self.cues
        self.generator = torch.Generator().manual_seed(seed)
        self.rotation = torch.eye(self.features, dtype=torch.float64)
        if variant == "rotated":
            normal = torch.randn(self.features, self.features, generator=self.generator, dtype=torch.float64)
            self.rotation = torch.linalg.qr(normal).Q

    def draw(self, count: int, rates: torch.Tensor | None = None) -> Sets:
        """Draws sets.

        Args:
            count: N.
            rates: How often the cue agrees with the label in each domain, (K,); ``None`` for the training rates.

        Returns:
            The sets.
        """
        rates = self.rates if rates is None else rates
        z = torch.randn(count, INVARIANT_FEATURES, generator=self.generator, dtype=torch.float64)
        slope = INVARIANT_SLOPE / math.sqrt(INVARIANT_FEATURES)
        labels = self._uniform(count) < torch.sigmoid(slope * z.sum(1))
        sign = labels.double().mul(2.0).sub(1.0).unsqueeze(1)
        agrees = self._uniform(count, self.domains) < rates
        cue = torch.where(agrees, sign, -sign)  # (N, K)
        shown = cue.unsqueeze(2) if self.variant == "shared" else torch.diag_embed(cue)  # (N, K, cues)
        invariant = z.unsqueeze(1).expand(-1, self.domains, -1)
        return Sets(torch.cat([invariant, shown], dim=2) @ self.rotation, labels.long())

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def cue_weight(self, weight: torch.Tensor) -> float:
        """Measures how much a linear predictor leans on the cue.

        Args:
            weight: The weight of the difference of the two logits, (d,).

        Returns:
            mean_d |w_cue(d)| / ||w_z||: 0 for a predictor that ignores the cue; infinite where it ignores z.
        """
        turned = self.rotation @ weight
        invariant = float(turned[:INVARIANT_FEATURES].norm())
        cue = float(turned[INVARIANT_FEATURES:].abs().mean())
        return cue / invariant if invariant > 0.0 else math.inf


class ToyStudent(nn.Module):
    """Reads one feature a token, sums what it has read, and tells the label by one linear layer.

    The tokens are: a first one, the d features, the label (T = d + 2). The adapted layer is zero but for its adapter.

    Args:
        features: d.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.readout = nn.Linear(features, 2, bias=False)
        nn.init.zeros_(self.readout.weight)

    def forward(self, values: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the logits at every token.

        Args:
            values: The features, (S, d).
            attention_mask: (S, d + 2), 0 for a token that is hidden.

        Returns:
            The logits (S, d + 2, 2) and the hidden states (S, d + 2, d) that they come from.
        """
        read = torch.diag_embed(values) * attention_mask[:, 1:-1, None].to(values.dtype)  # (S, d, d)
        hidden = torch.nn.functional.pad(read, (0, 0, 1, 1)).cumsum(1)
        return self.readout(hidden), hidden


def toy_student(features: int, seed: int) -> nn.Module:
    """Makes a student under LoRA of rank 2, in double precision.

    Args:
        features: d.
        seed: Seed of the adapter's start.

    Returns:
        The PEFT model; its predictor is zero.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = cast(Any, ToyStudent(features))
        config = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules=["readout"])
        return cast(nn.Module, get_peft_model(student, config).double())


def token_batch(sets: Sets) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Lays sets out as sequences, member after member.

    Args:
        sets: N sets of K members.

    Returns:
        The features (N K, d), and input_ids, attention_mask and labels, each (N K, d + 2); only the last token
        carries a label.
    """
    count, domains, features = sets.values.shape
    answers = sets.labels.repeat_interleave(domains)
    labels = torch.full((count * domains, features + 2), -100)
    labels[:, -1] = answers
    ids = torch.arange(features + 2).repeat(count * domains, 1)
    return sets.values.flatten(0, 1), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
    }


def difference_weight(student: nn.Module) -> torch.Tensor:
    """Reads the learnt weight of logit 1 minus logit 0.

    Args:
        student: See `toy_student`.

    Returns:
        (d,), fp64.
    """
    layer = cast(Any, student).base_model.model.readout
    weight = (layer.weight + layer.get_delta_weight("default")).detach()
    return weight[1] - weight[0]
