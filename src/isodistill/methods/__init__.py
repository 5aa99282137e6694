"""The gradient methods, by name: one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.methods.base import Diagnostics, Method
from isodistill.methods.erm import ERM
from isodistill.methods.iga import IGA

METHODS: dict[str, Callable[..., Method]] = {ERM.name: ERM, IGA.name: IGA}


def build_method(method: str | Method, **options: Any) -> Method:
    """Makes a method from its name, or returns the object given.

    Args:
        method: A name in `METHODS`, or a ready `Method`.
        **options: The method's constructor arguments; not allowed beside an object.

    Returns:
        The method.

    Raises:
        IsodistillError: if the name is unknown or an option does not belong to the method.
    """
    if isinstance(method, Method):
        if options:
            raise IsodistillError(
                f"options ({', '.join(options)}) cannot be combined with a ready method object: set them on the object"
            )
        return method
    if method not in METHODS:
        raise IsodistillError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}")
    try:
        return METHODS[method](**options)
    except TypeError as error:
        raise IsodistillError(
            f"method={method!r} does not take these options ({', '.join(options)}): {error}"
        ) from None


__all__ = ["ERM", "IGA", "METHODS", "Diagnostics", "Method", "build_method"]
