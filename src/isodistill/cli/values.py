"""Reads option values that are more than one word."""

from __future__ import annotations

import re
from typing import Any

import yaml

from isodistill.errors import IsodistillError


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
