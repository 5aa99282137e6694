"""The problem families, a file each, in one registry."""

from __future__ import annotations

from typing import Any

from isodistill.errors import IsodistillError
from isodistill.isomers.families.allocation import Allocation
from isodistill.isomers.families.base import Family, build_family
from isodistill.isomers.families.counting import Counting
from isodistill.isomers.families.deduction import Deduction
from isodistill.isomers.families.ordering import Ordering
from isodistill.isomers.families.quantity import Quantity
from isodistill.isomers.families.statute import Statute
from isodistill.isomers.families.syllogism import Syllogism

__all__ = [
    "FAMILIES",
    "Allocation",
    "Counting",
    "Deduction",
    "Family",
    "Ordering",
    "Quantity",
    "Statute",
    "Syllogism",
    "make_family",
]

FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (Deduction, Syllogism, Ordering, Allocation, Statute, Quantity, Counting)
}
"""Every problem family by name."""


def make_family(name: str, options: dict[str, Any] | None = None) -> Family:
    """Looks a family up and sets its knobs.

    Args:
        name: The family's name.
        options: Its options by name; what is left out keeps its default.

    Returns:
        The family.

    Raises:
        IsodistillError: If there is no such family, an option is unknown or has a wrong value.
    """
    if name not in FAMILIES:
        raise IsodistillError(f"There is no problem family {name!r}; choose among {', '.join(FAMILIES)}.")
    return build_family(FAMILIES[name], options or {})
