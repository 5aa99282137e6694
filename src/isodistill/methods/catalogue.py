"""What each method is, needs and takes, read from its class."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

from isodistill.methods import METHODS, Method, is_penalty
from isodistill.methods.iga_options import MaskSpace


class OptionEntry(BaseModel):
    """One hyperparameter.

    Attributes:
        name: Its name in ``method_options``.
        default: Its default value.
        help: What it is.
    """

    name: str
    default: Any
    help: str


class MethodEntry(BaseModel):
    """One method.

    Attributes:
        name: The value of ``method``.
        summary: One sentence.
        source: The paper or code that defines it.
        needs: What it reads, in words.
        combines: Whether it may be the ``penalty`` beside another method.
        micro_batch_exact: Whether splitting a step changes nothing beyond round-off.
        max_processes: The most processes it runs on; ``None`` for any number.
        reduced_precision: Whether it works under bf16 autocast.
        min_domains: The fewest domains for which it differs from plain training.
        options: Its hyperparameters.
    """

    name: str
    summary: str
    source: str
    needs: list[str]
    combines: bool
    micro_batch_exact: bool
    max_processes: int | None
    reduced_precision: bool
    min_domains: int
    options: list[OptionEntry]


def catalogue() -> list[MethodEntry]:
    """Lists the registered methods in the order of their registration.

    Returns:
        An entry for each method.
    """
    return [describe(method) for method in METHODS.values()]


def describe(method: type[Method]) -> MethodEntry:
    """Describes one method.

    Args:
        method: The class; all its options have defaults.

    Returns:
        The entry.
    """
    documentation = inspect.getdoc(method) or ""
    helps = _option_helps(documentation)
    parameters = list(inspect.signature(method).parameters.values())
    needs = method().needs
    words = needs.described()
    if method.name == "iga":
        spaces = ", ".join(space for space in MaskSpace.__args__ if space != "factor")  # type: ignore[attr-defined]
        words = [
            f"per-domain weight gradients (mask_space {spaces})",
            "or per-domain factor gradients (mask_space factor)",
        ]
    return MethodEntry(
        name=method.name,
        summary=documentation.splitlines()[0] if documentation else "",
        source=method.source,
        needs=words,
        combines=is_penalty(method),
        micro_batch_exact=method.micro_batch_exact,
        max_processes=method.max_processes,
        reduced_precision=method.reduced_precision,
        min_domains=method.min_domains,
        options=[OptionEntry(name=p.name, default=p.default, help=helps.get(p.name, "")) for p in parameters],
    )


def _option_helps(documentation: str) -> dict[str, str]:
    """Reads the Args section of a docstring."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", documentation, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
