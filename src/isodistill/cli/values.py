"""Reads option values that are more than one word."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from isodistill.teachers.meter import Prices


def comma_list(text: str) -> tuple[str, ...]:
    """Splits a comma-separated list.

    Args:
        text: For example ``math,law``.

    Returns:
        The parts without blanks; none for an empty text.
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def span(text: str, option: str) -> tuple[int, int]:
    """Reads a number or a range.

    Args:
        text: ``2`` or ``1-3``.
        option: The option's name, for the error.

    Returns:
        The least and the most value.

    Raises:
        IsodistillError: if the text is neither.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise IsodistillError(f"{option} {text!r} is not a number or a range: write 2 or 1-3")
    return int(match[1]), int(match[2] or match[1])


def family_options(pairs: list[str]) -> dict[str, Any]:
    """Reads ``name=value`` pairs; values are YAML scalars or lists, such as ``[True, False]`` as text.

    Args:
        pairs: For example ``["negation=false", "answers=['True', 'False']"]``.

    Returns:
        The options by name.

    Raises:
        IsodistillError: if a pair has no ``=`` or its value is not YAML.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not name.strip():
            raise IsodistillError(f"--option {pair!r} cannot be read: write name=value, for example negation=false")
    return options


def json_object(text: str | None) -> dict[str, Any]:
    """Reads further fields of a server's requests.

    Args:
        text: A JSON object, or ``None`` for none.

    Returns:
        The fields.

    Raises:
        IsodistillError: If it is no object, or holds a field that is set elsewhere.
    """
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict) or {"model", "messages", "temperature", "seed", "stream", "n"} & set(value):
        raise IsodistillError(
            f"--extra-body {text!r} must be a JSON object without model, messages, temperature, seed, stream and n, for"
            ' example {"min_p": 0.1}'
        )
    return value


def prices_of(text: str | None) -> Prices | None:
    """Reads a price of a million tokens.

    Args:
        text: ``READ,WRITTEN``, or ``None`` for none.

    Returns:
        The prices.

    Raises:
        IsodistillError: If it is not two numbers.
    """
    from isodistill.teachers.meter import Prices

    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        raise IsodistillError(f"--price {text!r} is not two numbers: write READ,WRITTEN, such as 0.15,0.60") from None
    return Prices(read, written)
