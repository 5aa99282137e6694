"""Empirical risk minimisation: plain supervised fine-tuning, the baseline."""

from __future__ import annotations

from typing import ClassVar

from isodistill.methods.base import Method


class ERM(Method):
    """Leaves the gradient of the mean loss as it is: g = sum_d w_d g_d.

    Source: Vapnik, Principles of risk minimization for learning theory (1991).
    """

    name: ClassVar[str] = "erm"
    source: ClassVar[str] = "Vapnik 1991"
    uses_domains: ClassVar[bool] = False
