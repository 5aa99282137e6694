"""Scratch memory that is used again: large temporaries cost more in page faults than in arithmetic."""

from __future__ import annotations

import math

import torch


class Workspace:
    """Named buffers, each as large as the largest tensor that was asked for under its name."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Lends a buffer until the same name is taken again.

        Args:
            name: Its name.
            shape: The shape wanted.
            like: A tensor of the dtype and on the device wanted.

        Returns:
            A contiguous tensor of that shape with whatever was left in it.
        """
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = self._buffers[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return buffer[:size].view(shape)

    @property
    def nbytes(self) -> int:
        """The memory held, in bytes."""
        return sum(buffer.nbytes for buffer in self._buffers.values())
