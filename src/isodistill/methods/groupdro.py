"""Group distributionally robust optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range, Window


class GroupDRO(Method):
    """Moves weight towards the domains with the larger losses, exponentially.

    ::

        q_d <- q_d exp(eta l_d), then q <- q / sum q        (q starts uniform and persists)
        gradient = sum_d q_d g_d

    Source: Sagawa et al. (arXiv 1911.08731), as in DomainBed's ``GroupDRO``. Departure: a domain that is absent from
    a step keeps its q, and the present ones are weighed by their share of q.

    Args:
        eta: The step size of q, positive.

    Raises:
        IsodistillError: if eta is out of range.
    """

    name: ClassVar[str] = "groupdro"
    source: ClassVar[str] = "arXiv 1911.08731"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"eta": Range(1e-3, 0.1, log=True)}
    """DomainBed's range."""
    min_domains: ClassVar[int] = 2

    def __init__(self, eta: float = 0.01) -> None:
        if not 0.0 < eta < float("inf"):
            raise IsodistillError(f"eta={eta} is out of range: give a finite number above 0")
        self.eta = eta
        self._log_q: dict[int, float] = {}

    @property
    def needs(self) -> Needs:
        """Per-domain losses and gradients."""
        return Needs(gradients="factor", losses=True)

    def domain_scales(self, window: Window) -> list[float]:
        """Updates q and returns q_d / w_d."""
        # A domain seen for the first time starts with the mean log weight of the others: uniform at the first step.
        newcomer = sum(self._log_q.values()) / len(self._log_q) if self._log_q else 0.0
        for domain, loss in zip(window.domains, window.losses, strict=True):
            self._log_q[domain] = self._log_q.get(domain, newcomer) + self.eta * loss
        q = self.q()
        present = sum(q[domain] for domain in window.domains)
        return [q[d] / present / w for d, w in zip(window.domains, window.weights, strict=True)]

    def q(self) -> dict[int, float]:
        """Returns the normalised weights by domain id."""
        top = max(self._log_q.values(), default=0.0)
        powers = {domain: math.exp(value - top) for domain, value in self._log_q.items()}
        total = sum(powers.values())
        return {domain: power / total for domain, power in powers.items()}

    def diagnostics(self) -> Diagnostics:
        """Reports the largest weight."""
        return Diagnostics(values={"groupdro_max_q": max(self.q().values(), default=0.0)})

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns log q with the domains' ids."""
        domains = sorted(self._log_q)
        return {
            "domains": torch.tensor(domains, dtype=torch.int64),
            "log_q": torch.tensor([self._log_q[domain] for domain in domains], dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self._log_q = dict(zip(state["domains"].tolist(), state["log_q"].tolist(), strict=True))
