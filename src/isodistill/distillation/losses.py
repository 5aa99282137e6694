r"""Divergences from a teacher of whom only the k likeliest tokens are known.

All tokens beyond the k are put together as one event, "any other token", for teacher and student alike. The
divergence of the two distributions over k + 1 events is a lower bound of the one over the whole vocabulary (the data
processing inequality), and equal to it for k = V. Unlike a teacher renormalised over its k tokens, it does not ask the
student to give the other tokens no mass at all.

Sources: forward KL is the word-level loss of Kim and Rush (2016, arXiv 1606.07947), without its temperature; reverse KL
is that of MiniLLM (Gu et al. 2023, arXiv 2306.08543) for each token; the generalised Jensen-Shannon divergence and its
limits are those of GKD (Agarwal et al. 2023, arXiv 2306.13649).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from isodistill.errors import IsodistillError

_LEAST_REST = 1e-6
"""Log-probabilities kept as float16 can add up to 1 or more; the other tokens never get less than this."""


@dataclass(frozen=True)
class TeacherTokens:
    """The teacher's likeliest tokens at N positions.

    Args:
        ids: Their ids, int64 of shape (N, k), no id twice in a row.
        logprobs: Their natural log-probabilities, floating point of shape (N, k).
    """

    ids: torch.Tensor
    logprobs: torch.Tensor


Divergence = Callable[[torch.Tensor, TeacherTokens], torch.Tensor]


def forward_kl(logits: torch.Tensor, teacher: TeacherTokens) -> torch.Tensor:
    r"""KL(p \|\| q) of the teacher's p to the student's q: the student must cover whatever the teacher may say.

    Args:
        logits: The student's, floating point of shape (N, V); computed in float32 or better.
        teacher: The teacher's tokens at the same positions.

    Returns:
        One value in nats for each position, shape (N,).
    """
    p, q = _events(logits, teacher)
    return _kl(p, q)


def reverse_kl(logits: torch.Tensor, teacher: TeacherTokens) -> torch.Tensor:
    r"""KL(q \|\| p): the student must not say what the teacher would not.

    Args:
        logits: See `forward_kl`.
        teacher: See `forward_kl`.

    Returns:
        One value in nats for each position, shape (N,).
    """
    p, q = _events(logits, teacher)
    return _kl(q, p)


def jensen_shannon(logits: torch.Tensor, teacher: TeacherTokens, beta: float = 0.5) -> torch.Tensor:
    r"""Generalised: beta KL(p \|\| m) + (1 - beta) KL(q \|\| m) with m = beta p + (1 - beta) q.

    Divided by beta it tends to forward KL for beta to 0; divided by 1 - beta, to reverse KL for beta to 1.

    Args:
        logits: See `forward_kl`.
        teacher: See `forward_kl`.
        beta: The teacher's weight in the mixture, in (0, 1).

    Returns:
        One value in nats for each position, shape (N,), at most log 2.

    Raises:
        IsodistillError: If beta is out of range.
    """
    if not 0 < beta < 1:
        raise IsodistillError(f"the Jensen-Shannon weight beta is {beta}, not between 0 and 1; take a KL for the ends")
    p, q = _events(logits, teacher)
    weights = torch.tensor([beta, 1 - beta], dtype=p.dtype, device=p.device).log()
    m = torch.logsumexp(torch.stack([p + weights[0], q + weights[1]]), dim=0)  # (N, k + 1)
    return beta * _kl(p, m) + (1 - beta) * _kl(q, m)


DIVERGENCES: dict[str, Divergence] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "jsd": jensen_shannon}
"""Every divergence by name."""


def distillation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: TeacherTokens,
    divergence: Divergence = forward_kl,
    weight: float = 0.5,
) -> torch.Tensor:
    """Mixes cross-entropy on the trace with a divergence from the teacher's distribution.

    Args:
        logits: The student's at N labelled positions, shape (N, V).
        labels: The traces' tokens there, int64 of shape (N,).
        teacher: The teacher's tokens there.
        divergence: One of `DIVERGENCES`.
        weight: The divergence's weight in [0, 1]; the cross-entropy has the rest.

    Returns:
        One value for each position, shape (N,): reduce it by domain with `domain_means`, or over the batch.

    Raises:
        IsodistillError: If the weight is out of range.
    """
    if not 0 <= weight <= 1:
        raise IsodistillError(f"the weight of the divergence is {weight}; choose one from 0 to 1")
    loss = logits.new_zeros(len(labels), dtype=torch.promote_types(logits.dtype, torch.float32))
    if weight < 1:
        loss = loss + (1 - weight) * cross_entropy(logits.to(loss.dtype), labels, reduction="none")
    return loss + weight * divergence(logits, teacher) if weight else loss


def domain_means(losses: torch.Tensor, domain_ids: torch.Tensor, domains: int) -> torch.Tensor:
    """Averages token losses within each domain, as methods on per-domain gradients need them.

    Args:
        losses: One for each position, shape (N,).
        domain_ids: Each position's domain, int64 of shape (N,).
        domains: The number of domains K.

    Returns:
        Shape (K,); 0 for a domain without positions.
    """
    sums = losses.new_zeros(domains).index_add(0, domain_ids, losses)
    counts = losses.new_zeros(domains).index_add(0, domain_ids, torch.ones_like(losses))
    return sums / counts.clamp_min(1)


def _events(logits: torch.Tensor, teacher: TeacherTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probabilities of the k tokens and of "any other token", (N, k + 1), of teacher and student.

    For k = V there is no other token, and both have shape (N, V).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    student = torch.log_softmax(logits.to(dtype), dim=-1)  # (N, V)
    known = student.gather(-1, teacher.ids)  # (N, k)
    p = teacher.logprobs.to(dtype)
    if teacher.ids.shape[-1] == logits.shape[-1]:
        return p, known
    others = student.scatter(-1, teacher.ids, -torch.inf)
    rest = torch.logsumexp(others, dim=-1, keepdim=True)  # (N, 1), exact however little is left
    left = (1 - p.exp().sum(dim=-1, keepdim=True)).clamp_min(_LEAST_REST)
    return torch.cat([p, left.log()], dim=-1), torch.cat([known, rest], dim=-1)


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Sums p (log p - log q) over the events; an event without mass in p adds nothing."""
    terms = p.exp() * (p - q)
    return torch.where(p == -torch.inf, torch.zeros_like(terms), terms).sum(dim=-1)
