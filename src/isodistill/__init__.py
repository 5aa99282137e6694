"""isodistill: distil the logic of a teacher's chain of thought into a small language model."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isodistill.aligner import GradientAligner
    from isodistill.errors import IsodistillError
    from isodistill.methods import IGA, Method
    from isodistill.optim import MaskedAdamW, TensorAdamW
    from isodistill.students import load_adapter, load_student
    from isodistill.trainer import IsomerConfig, IsomerTrainer

__version__ = metadata.version("isodistill")

__all__ = [
    "IGA",
    "GradientAligner",
    "IsodistillError",
    "IsomerConfig",
    "IsomerTrainer",
    "MaskedAdamW",
    "Method",
    "TensorAdamW",
    "load_adapter",
    "load_student",
]

_HOMES = {
    "GradientAligner": "isodistill.aligner",
    "IGA": "isodistill.methods",
    "IsodistillError": "isodistill.errors",
    "IsomerConfig": "isodistill.trainer",
    "IsomerTrainer": "isodistill.trainer",
    "MaskedAdamW": "isodistill.optim",
    "Method": "isodistill.methods",
    "TensorAdamW": "isodistill.optim",
    "load_adapter": "isodistill.students",
    "load_student": "isodistill.students",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that the command line starts without torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'isodistill' has no attribute {name!r}")
