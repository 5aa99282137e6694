"""Buckets: the gradients of many small factors side by side, so that one operation serves them all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

_CPU_ENTRIES = 1 << 16
"""The size of a bucket on a CPU: its K gradients and a few results of them stay in the second-level cache."""
_DEVICE_ENTRIES = 1 << 22
"""Its size elsewhere, where launching an operation costs more than most of them."""


class Segments:
    """Consecutive pieces of a flat tensor, for sums piece by piece.

    Args:
        sizes: The number of entries of each, at least 1.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        self._lengths = torch.tensor(self.sizes)

    def lengths(self, like: torch.Tensor) -> torch.Tensor:
        """Returns the sizes as integers (pieces,) on the device of `like`."""
        self._lengths = self._lengths.to(like.device)
        return self._lengths

    def sums(self, flat: torch.Tensor) -> torch.Tensor:
        """Adds up each piece of a tensor (entries,), as (pieces,)."""
        if len(self.sizes) == 1:
            return flat.sum().unsqueeze(0)
        if flat.device.type == "cpu":  # twice as fast there, and it adds pairwise
            return torch.stack([piece.sum() for piece in flat.split(self.sizes)])
        return torch.segment_reduce(flat, "sum", lengths=self.lengths(flat))

    def means(self, flat: torch.Tensor) -> torch.Tensor:
        """Averages each piece of a tensor (entries,), as (pieces,)."""
        return self.sums(flat) / self.lengths(flat)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Repeats each of (pieces,) over its piece, as (entries,); a single one is left to broadcasting."""
        if len(self.sizes) == 1:
            return values
        return values.repeat_interleave(self.lengths(values), output_size=sum(self.sizes))


@dataclass(frozen=True)
class Bucket:
    """Some factors' gradients in one tensor.

    Attributes:
        names: The factors' names.
        shapes: Their shapes.
        values: Their per-domain gradients, flattened, one after another: (K, entries).
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    values: torch.Tensor

    @cached_property
    def segments(self) -> Segments:
        """Each factor's piece of the entries."""
        return Segments([math.prod(shape) for shape in self.shapes])

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cuts a tensor (..., entries) into views (..., *shape) by the factors' names."""
        return views(self.names, self.shapes, flat)


def views(names: Sequence[str], shapes: Sequence[tuple[int, ...]], flat: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cuts a flat tensor into named ones.

    Args:
        names: Their names.
        shapes: Their shapes.
        flat: (..., entries), with as many entries as the shapes have together.

    Returns:
        Views (..., *shape) by name.
    """
    pieces = flat.split([math.prod(shape) for shape in shapes], dim=-1)
    return {
        name: piece.view(*flat.shape[:-1], *shape) for name, shape, piece in zip(names, shapes, pieces, strict=True)
    }


class FactorGradients(Mapping[str, torch.Tensor]):
    """Per-domain gradients by factor name, (K, *factor.shape), which are views of a few large tensors.

    Args:
        buckets: The large tensors.
    """

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets
        self._views = {name: view for bucket in buckets for name, view in bucket.views(bucket.values).items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        """Returns one factor's gradients, (K, *shape)."""
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the factors' names."""
        return iter(self._views)

    def __len__(self) -> int:
        """Counts the factors."""
        return len(self._views)


def pack(gradients: Iterable[tuple[str, torch.Tensor]]) -> FactorGradients:
    """Copies gradients into buckets.

    Args:
        gradients: Names and per-domain gradients (K, *shape), fp32 or fp64; read once.

    Returns:
        The same gradients in the same order; a bucket never mixes dtypes or devices.
    """
    buckets: list[Bucket] = []
    names: list[str] = []
    stacks: list[torch.Tensor] = []

    def close() -> None:
        if stacks:
            values = torch.cat([stack.flatten(1) for stack in stacks], dim=1)
            buckets.append(Bucket(tuple(names), tuple(tuple(stack.shape[1:]) for stack in stacks), values))
            names.clear()
            stacks.clear()

    entries = 0
    for name, stack in gradients:
        size = stack[0].numel()
        limit = _CPU_ENTRIES if stack.device.type == "cpu" else _DEVICE_ENTRIES
        if stacks and (entries + size > limit or stacks[0].dtype != stack.dtype or stacks[0].device != stack.device):
            close()
            entries = 0
        names.append(name)
        stacks.append(stack)
        entries += size
    close()
    return FactorGradients(buckets)


def buckets_of(gradients: Mapping[str, torch.Tensor]) -> list[Bucket]:
    """Returns gradients in buckets, which share memory with them if they came out of `pack`.

    Args:
        gradients: Per-domain gradients by factor name, (K, *factor.shape).

    Returns:
        The buckets; not to be modified.
    """
    packed = gradients if isinstance(gradients, FactorGradients) else pack(gradients.items())
    return packed.buckets
