"""How the symbolic teacher tells a proof, a file for each problem family."""

from __future__ import annotations

from collections.abc import Callable

from isodistill.teachers.tellings.deduction import tell_deduction
from isodistill.teachers.tellings.ordering import tell_ordering
from isodistill.teachers.tellings.quantity import tell_quantity
from isodistill.teachers.tellings.voice import Voice

__all__ = ["TELLINGS", "Voice"]

TELLINGS: dict[str, Callable[[Voice], list[str]]] = {
    "deduction": tell_deduction,
    "ordering": tell_ordering,
    "quantity": tell_quantity,
}
"""What tells a proof, by family: it takes a voice and returns sentences."""
