"""Teachers: who writes the chains of thought that students learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.teachers.base import Explainer, Failure, Reply, Request, Teacher, Trace
from isodistill.teachers.symbolic import SymbolicTeacher

__all__ = [
    "TEACHERS",
    "Explainer",
    "Failure",
    "Reply",
    "Request",
    "SymbolicTeacher",
    "Teacher",
    "Trace",
    "make_teacher",
]


def _local(model: str, **options: Any) -> Teacher:
    from isodistill.teachers.local import LocalTeacher

    return LocalTeacher(model, **options)


def _server(model: str, **options: Any) -> Teacher:
    from isodistill.teachers.server import ServerTeacher

    return ServerTeacher(model, **options)


TEACHERS: dict[str, Callable[..., Teacher]] = {"symbolic": SymbolicTeacher, "hf": _local, "openai": _server}
"""Every kind of teacher; all but the symbolic one take the model's name first."""


def make_teacher(name: str, **options: Any) -> Teacher:
    """Looks a teacher up and sets its options.

    Args:
        name: ``symbolic``, ``hf:PATH`` for a local model, or ``openai:MODEL`` for a server.
        **options: Its options; what is left out keeps its default.

    Returns:
        The teacher.

    Raises:
        IsodistillError: If there is no such teacher, it lacks its model, or an option is unknown or has a wrong value.
    """
    kind, colon, model = name.partition(":")
    if kind not in TEACHERS or (kind == "symbolic" and colon):
        raise IsodistillError(f"There is no teacher {name!r}; choose among symbolic, hf:PATH and openai:MODEL.")
    if kind != "symbolic" and not model:
        raise IsodistillError(f"The teacher {kind!r} needs a model: write {kind}:MODEL.")
    try:
        return TEACHERS[kind](*([model] if model else []), **options)
    except TypeError:
        given = ", ".join(options)
        raise IsodistillError(f"The teacher {name!r} does not take all of these options: {given}; drop some.") from None
