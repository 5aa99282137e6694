"""The gradient methods, by name: one file each."""

from __future__ import annotations

from typing import Any

from isodistill.errors import IsodistillError
from isodistill.methods.and_mask import ANDMask
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range, RunInfo, Window
from isodistill.methods.consistency import Consistency
from isodistill.methods.erm import ERM
from isodistill.methods.erm_balanced import BalancedERM
from isodistill.methods.fish import Fish
from isodistill.methods.fishr import Fishr
from isodistill.methods.forward import Forward, LastLayer
from isodistill.methods.groupdro import GroupDRO
from isodistill.methods.gsnr import GSNR
from isodistill.methods.iga import IGA
from isodistill.methods.irm import IRM
from isodistill.methods.koyama import Koyama
from isodistill.methods.sand_mask import SANDMask
from isodistill.methods.torchjd import AGGREGATIONS
from isodistill.methods.vrex import VREx
from isodistill.methods.word_dropout import WordDropout

METHODS: dict[str, type[Method]] = {}


def register_method(method: type[Method]) -> type[Method]:
    """Makes a method known by its name; usable as a class decorator.

    Args:
        method: A subclass of `Method` with a name of its own.

    Returns:
        The class.

    Raises:
        IsodistillError: if another class has that name already.
    """
    if METHODS.get(method.name, method) is not method:
        raise IsodistillError(f"method={method.name!r} is taken by {METHODS[method.name].__name__}: give another name")
    METHODS[method.name] = method
    return method


_OURS: tuple[type[Method], ...] = (
    ERM, BalancedERM, WordDropout, IGA, GSNR, ANDMask, SANDMask, IRM, VREx, GroupDRO, Fish, Fishr, Koyama,
    *AGGREGATIONS, Consistency,
)  # fmt: skip
for _method in _OURS:
    register_method(_method)


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


def build_penalty(penalty: str | Method, **options: Any) -> Method:
    """Makes a method that may stand beside another one.

    Args:
        penalty: See `build_method`.
        **options: See `build_method`.

    Returns:
        The method.

    Raises:
        IsodistillError: as `build_method`, or if the method is not a penalty or a reweighting.
    """
    built = build_method(penalty, **options)
    if not is_penalty(built):
        names = ", ".join(name for name, cls in METHODS.items() if is_penalty(cls))
        raise IsodistillError(f"penalty={built.name!r} combines gradients itself: choose one of {names}, or a method")
    return built


def is_penalty(method: Method | type[Method]) -> bool:
    """Tells whether a method only adds to the loss or weighs the domains, so that it combines with any other."""
    cls = method if isinstance(method, type) else type(method)
    adds = (
        cls.penalty is not Method.penalty
        or cls.domain_scales is not Method.domain_scales
        or cls.augment is not Method.augment
    )
    combines = (
        cls.align_factors is not Method.align_factors
        or cls.align_weight is not Method.align_weight
        or cls.replay is not Method.replay
    )
    return adds and not combines


__all__ = [
    "ERM",
    "IGA",
    "METHODS",
    "Choice",
    "Diagnostics",
    "Forward",
    "LastLayer",
    "Method",
    "Needs",
    "Range",
    "RunInfo",
    "Window",
    "build_method",
    "build_penalty",
    "is_penalty",
    "register_method",
]
