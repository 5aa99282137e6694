"""How the symbolic teacher tells a proof, a file for each problem family."""

from __future__ import annotations

from collections.abc import Callable

from isodistill.teachers.tellings.allocation import tell_allocation
from isodistill.teachers.tellings.counting import tell_counting
from isodistill.teachers.tellings.deduction import tell_deduction
from isodistill.teachers.tellings.ordering import tell_ordering
from isodistill.teachers.tellings.quantity import tell_quantity
from isodistill.teachers.tellings.statute import tell_statute
from isodistill.teachers.tellings.syllogism import tell_syllogism
from isodistill.teachers.tellings.voice import Voice

__all__ = ["TELLINGS", "Voice"]

TELLINGS: dict[str, Callable[[Voice], list[str]]] = {
    "deduction": tell_deduction,
    "syllogism": tell_syllogism,
    "ordering": tell_ordering,
    "allocation": tell_allocation,
    "statute": tell_statute,
    "quantity": tell_quantity,
    "counting": tell_counting,
}
"""What tells a proof, by family: it takes a voice and returns sentences."""
