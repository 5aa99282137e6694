"""Says in plain words where a pydantic model does not accept a value, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

_EXCERPT = 40
"""So many characters of a wrong value are repeated."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list in brackets",
    "list": "a list in brackets",
    "dict": "a mapping",
    "model": "a mapping",
    "mapping": "a mapping",
}
"""What is wanted where pydantic's error is one of ``int_type``, ``int_parsing``, ``int_from_float`` and so on."""

_BOUNDS = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} or less"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "literal_error": ("expected", "{}"),
    "enum": ("expected", "{}"),
}


def first_fault(
    error: ValidationError, whole: str = "the combination of fields", known: Iterable[str] | None = None
) -> tuple[str, str]:
    """Says where a value was refused first, and why.

    Args:
        error: What pydantic raised.
        whole: Names the place of a fault that no single field has.
        known: The names of the outermost fields, told where one of these is unknown.

    Returns:
        The place, such as ``training.learning_rate``, and the reason, such as ``must be greater than 0, not -1``:
        together, with a colon between them, they read as a clause.
    """
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or whole
    known = known if len(first["loc"]) == 1 else None  # an inner model has other fields
    return place, _reason(first["type"], first["msg"], first["input"], first.get("ctx", {}), known)


def _reason(kind: str, message: str, given: Any, context: dict[str, Any], known: Iterable[str] | None) -> str:
    """Words for what pydantic calls a kind of error; its own where they would be no clearer."""
    if kind in ("value_error", "assertion_error"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "there is no such field" + (f", only {', '.join(known)}" if known else "")
    if kind in ("too_short", "too_long"):
        bound = context["min_length"] if kind == "too_short" else context["max_length"]
        return f"must have {bound} {'or more' if kind == 'too_short' else 'at most'}, not {context['actual_length']}"
    wanted = ""
    if kind in _BOUNDS:
        field, words = _BOUNDS[kind]
        bound = context[field]
        wanted = words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    elif kind.split("_")[0] in _KINDS and kind.endswith(("_type", "_parsing", "_from_float")):
        wanted = _KINDS[kind.split("_")[0]]
    return f"must be {wanted}, not {_excerpt(given)}" if wanted else message


def _excerpt(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."
