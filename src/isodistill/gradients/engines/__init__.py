"""The engines that split a backward pass into per-domain gradients, by name."""

from __future__ import annotations

from isodistill.errors import IsodistillError
from isodistill.gradients.engines.base import Engine
from isodistill.gradients.engines.loop import LoopEngine
from isodistill.gradients.engines.tap import TapEngine

ENGINES: dict[str, type[Engine]] = {"tap": TapEngine, "loop": LoopEngine}


def engine_class(name: str) -> type[Engine]:
    """Looks an engine up.

    Args:
        name: ``tap`` (one forward, one backward) or ``loop`` (a pass for each domain: the reference).

    Returns:
        The engine's class.

    Raises:
        IsodistillError: if the name is unknown.
    """
    if name not in ENGINES:
        raise IsodistillError(f"engine={name!r} is unknown: choose one of {', '.join(ENGINES)}")
    return ENGINES[name]


__all__ = ["ENGINES", "Engine", "LoopEngine", "TapEngine", "engine_class"]
