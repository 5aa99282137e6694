"""The interface of the engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

import torch

from isodistill.gradients.collector import Collector
from isodistill.gradients.layers import AdaptedLayer


class Engine(ABC):
    """Hands a collector the per-domain gradients of what is back-propagated inside `record`.

    Attributes:
        replaces_autograd: Whether autograd may be spared the factors' own gradients inside a block, because whatever
            it would write is overwritten by what the collector makes of the engine's; for engines that do not read
            them there.

    Args:
        layers: The adapted layers.
        collector: The receiver.
    """

    name: ClassVar[str]
    splits_batches: ClassVar[bool]
    """Whether one backward may hold several domains; if not, each domain needs a `record` of its own."""

    def __init__(self, layers: list[AdaptedLayer], collector: Collector) -> None:
        self.layers = layers
        self.collector = collector
        self.replaces_autograd = False

    @contextmanager
    def record(self, domain_ids: torch.Tensor, tokens: torch.Tensor | None = None) -> Iterator[None]:
        """Collects the per-domain gradients of the forward and backward passes run inside the block.

        Args:
            domain_ids: The domain of each sequence of the batch, (batch,), integers from 0.
            tokens: Where a gradient can come from at all, (batch, length), true for tokens and false for padding;
                ``None`` means everywhere.

        Yields:
            Nothing; the gradients reach the collector while the block runs or at its end.
        """
        domains, index = domain_ids.unique(return_inverse=True)
        with self._recording([int(d) for d in domains.tolist()], index, tokens):
            yield

    @abstractmethod
    def _recording(
        self, domains: list[int], index: torch.Tensor, tokens: torch.Tensor | None
    ) -> AbstractContextManager[None]:
        """Implements `record` for sorted `domains`; `index` (batch,) says which of them a sequence belongs to."""

    @abstractmethod
    def close(self) -> None:
        """Removes the engine's hooks from the model."""
