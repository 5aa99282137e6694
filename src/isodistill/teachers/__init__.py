"""Teachers: who writes the chains of thought that students learn from."""

from __future__ import annotations

from typing import Any

from isodistill.errors import IsodistillError
from isodistill.teachers.base import Teacher, Trace
from isodistill.teachers.symbolic import SymbolicTeacher

__all__ = ["TEACHERS", "SymbolicTeacher", "Teacher", "Trace", "make_teacher"]

TEACHERS: dict[str, type[SymbolicTeacher]] = {"symbolic": SymbolicTeacher}
"""Every teacher by name."""


def make_teacher(name: str, **options: Any) -> Teacher:
    """Looks a teacher up and sets its options.

    Args:
        name: The teacher's name.
        **options: Its options; what is left out keeps its default.

    Returns:
        The teacher.

    Raises:
        IsodistillError: If there is no such teacher, or an option is unknown or has a wrong value.
    """
    if name not in TEACHERS:
        raise IsodistillError(f"There is no teacher {name!r}; choose among {', '.join(TEACHERS)}.")
    try:
        return TEACHERS[name](**options)
    except TypeError:
        given = ", ".join(options)
        raise IsodistillError(f"The teacher {name!r} does not take all of these options: {given}; drop some.") from None
