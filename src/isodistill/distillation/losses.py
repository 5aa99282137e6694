r"""Divergences from a teacher of whom only the k likeliest tokens are known.

All tokens beyond the k are put together as one event, "any other token", for teacher and student alike. The
divergence of the two distributions over k + 1 events is a lower bound of the one over the whole vocabulary (the data
processing inequality), and equal to it for k = V. Unlike a teacher renormalised over its k tokens, it does not ask the
student to give the other tokens no mass at all.

Not every place has its k tokens: a server may return fewer, or none. An empty slot has the log-probability -inf; its
token counts among the others. At a place without any token the trace alone teaches.

A temperature T softens the k + 1 events, (log p) / T normalised anew, of teacher and student alike. For k = V that is
the softmax of logits / T. As in GKD, the loss is not multiplied by T squared.

Sources: forward KL is the word-level loss of Kim and Rush (2016, arXiv 1606.07947), without its temperature; reverse KL
is that of MiniLLM (Gu et al. 2023, arXiv 2306.08543) for each token; the generalised Jensen-Shannon divergence and its
limits are those of GKD (Agarwal et al. 2023, arXiv 2306.13649).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy

from isodistill.errors import IsodistillError

_LEAST_REST = 1e-6
"""Log-probabilities kept as float16 can add up to 1 or more; the other tokens never get less than this."""

_EMPTY = -1e4
"""What teacher and student have in an empty slot: equal, without mass or gradient, and finite."""


@dataclass(frozen=True)
class TeacherTokens:
    """The teacher's likeliest tokens at N positions.

    Args:
        ids: Their ids, int64 of shape (N, k), no id twice in a row but in empty slots.
        logprobs: Their natural log-probabilities, floating point of shape (N, k); -inf marks an empty slot.
    """

    ids: torch.Tensor
    logprobs: torch.Tensor

    @property
    def known(self) -> torch.Tensor:
        """Where the teacher says anything at all, bool of shape (N,)."""
        return (self.logprobs > -torch.inf).any(dim=-1)


class Divergence(Protocol):
    """A divergence of two distributions over the next token, see `forward_kl`."""

    def __call__(self, logits: torch.Tensor, teacher: TeacherTokens, *, temperature: float = 1.0) -> torch.Tensor:
        """Returns one value in nats for each position, shape (N,)."""


def forward_kl(logits: torch.Tensor, teacher: TeacherTokens, *, temperature: float = 1.0) -> torch.Tensor:
    r"""KL(p \|\| q) of the teacher's p to the student's q: the student must cover whatever the teacher may say.

    Args:
        logits: The student's, floating point of shape (N, V); computed in float32 or better.
        teacher: The teacher's tokens at the same positions.
        temperature: Softens both distributions, above 0.

    Returns:
        One value in nats for each position, shape (N,).
    """
    p, q = _events(logits, teacher, temperature)
    return _kl(p, q)


def reverse_kl(logits: torch.Tensor, teacher: TeacherTokens, *, temperature: float = 1.0) -> torch.Tensor:
    r"""KL(q \|\| p): the student must not say what the teacher would not.

    Args:
        logits: See `forward_kl`.
        teacher: See `forward_kl`.
        temperature: See `forward_kl`.

    Returns:
        One value in nats for each position, shape (N,).
    """
    p, q = _events(logits, teacher, temperature)
    return _kl(q, p)


def jensen_shannon(
    logits: torch.Tensor, teacher: TeacherTokens, beta: float = 0.5, *, temperature: float = 1.0
) -> torch.Tensor:
    r"""Generalised: beta KL(p \|\| m) + (1 - beta) KL(q \|\| m) with m = beta p + (1 - beta) q.

    Divided by beta it tends to forward KL for beta to 0; divided by 1 - beta, to reverse KL for beta to 1.

    Args:
        logits: See `forward_kl`.
        teacher: See `forward_kl`.
        beta: The teacher's weight in the mixture, in (0, 1).
        temperature: See `forward_kl`.

    Returns:
        One value in nats for each position, shape (N,), at most log 2.

    Raises:
        IsodistillError: If beta is out of range.
    """
    if not 0 < beta < 1:
        raise IsodistillError(f"the Jensen-Shannon weight beta is {beta}, not between 0 and 1; take a KL for the ends")
    p, q = _events(logits, teacher, temperature)
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
    weight: float | torch.Tensor = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Mixes cross-entropy on the trace with a divergence from the teacher's distribution.

    Args:
        logits: The student's at N labelled positions, shape (N, V).
        labels: The traces' tokens there, int64 of shape (N,).
        teacher: The teacher's tokens there.
        divergence: One of `DIVERGENCES`.
        weight: The divergence's weight in [0, 1], one number or (N,); the cross-entropy has the rest. Where the
            teacher says nothing it is 0.
        temperature: See `forward_kl`; the cross-entropy has none.

    Returns:
        One value for each position, shape (N,): reduce it by domain with `domain_means`, or over the batch.

    Raises:
        IsodistillError: If the weight or the temperature is out of range.
    """
    if isinstance(weight, float | int) and not 0 <= weight <= 1:
        raise IsodistillError(f"the weight of the divergence is {weight}; choose one from 0 to 1")
    if not temperature > 0:
        raise IsodistillError(f"the temperature of the divergence is {temperature}; choose one above 0")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    share = teacher.known.to(dtype) * weight  # (N,)
    entropy = cross_entropy(logits.to(dtype), labels, reduction="none")
    return (1 - share) * entropy + share * divergence(logits, teacher, temperature=temperature)


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


def _events(
    logits: torch.Tensor, teacher: TeacherTokens, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probabilities of the k tokens and of "any other token", (N, k + 1), of teacher and student.

    For k = V there is no other token, and both have shape (N, V).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    student = torch.log_softmax(logits.to(dtype), dim=-1)  # (N, V)
    empty = teacher.logprobs == -torch.inf
    q = student.gather(-1, teacher.ids).masked_fill(empty, _EMPTY)  # (N, k)
    p = teacher.logprobs.to(dtype).masked_fill(empty, _EMPTY)
    if teacher.ids.shape[-1] < logits.shape[-1] or bool(empty.any()):
        # Only what is known is taken out: an empty slot may name a token that nothing is known of.
        taken = torch.zeros_like(student).scatter_add(-1, teacher.ids, (~empty).to(dtype)) > 0
        rest = torch.logsumexp(student.masked_fill(taken, -torch.inf), dim=-1, keepdim=True)  # exact however little
        left = (1 - p.exp().sum(dim=-1, keepdim=True)).clamp_min(_LEAST_REST)
        p, q = torch.cat([p, left.log()], dim=-1), torch.cat([q, rest], dim=-1)  # (N, k + 1)
    if temperature != 1:
        p, q = (torch.log_softmax(each / temperature, dim=-1) for each in (p, q))
    return p, q


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Sums p (log p - log q) over the events; an event without mass in p adds nothing."""
    terms = p.exp() * (p - q)
    return torch.where(p == -torch.inf, torch.zeros_like(terms), terms).sum(dim=-1)
