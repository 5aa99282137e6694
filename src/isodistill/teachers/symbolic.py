"""The teacher that needs no model: it tells the verified proof in the words of the domain."""

from __future__ import annotations

from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import load_pack
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.teachers.base import Explainer, Trace
from isodistill.teachers.tellings import TELLINGS
from isodistill.teachers.tellings.voice import Voice

Style = Literal["full", "short", "answer"]

_STYLES = ("full", "short", "answer")


class SymbolicTeacher(Explainer):
    """Tells each step of the proof as a sentence, then what follows for the question.

    Where the answer is Unknown it tells what can be derived, and why the question stays open.

    Args:
        style: ``"full"``: each step cites what it uses and then concludes; ``"short"``: each step only concludes;
            ``"answer"``: no rationale at all, only the answer line (a student then has to find its own way there, and
            a shortcut has work to do).

    Raises:
        IsodistillError: If there is no such style.
    """

    def __init__(self, style: Style = "full") -> None:
        if style not in _STYLES:
            raise IsodistillError(f"The symbolic teacher has no style {style!r}; choose {', '.join(_STYLES)}.")
        self._style = style

    @property
    def name(self) -> str:
        """The teacher's name with its style."""
        return f"symbolic ({self._style})"

    def explain(self, isomer_set: IsomerSet, member: Member) -> Trace:
        """Explains one member.

        Args:
            isomer_set: The set; its proof must have been verified.
            member: One of its members.

        Returns:
            The chain of thought.

        Raises:
            IsodistillError: If the set's family is unknown, or the member's record does not fit the skeleton and the
                domain pack.
        """
        if self._style == "answer":
            return Trace("", isomer_set.answer)
        where = f"set {isomer_set.set_id!r}, domain {member.domain!r}"
        if isomer_set.family not in TELLINGS:
            raise IsodistillError(
                f"In {where}, the symbolic teacher cannot tell the family {isomer_set.family!r}; it knows "
                f"{', '.join(TELLINGS)}."
            )
        lexicon = member.load_formal(isomer_set.set_id).wording.lexicon
        missing = [symbol.name for symbol in isomer_set.logic.symbols if symbol.name not in lexicon]
        if missing:
            raise IsodistillError(f"In {where}, the lexicon has no word for {missing[0]!r}; generate the set again.")
        voice = Voice(isomer_set.logic, load_pack(member.domain), lexicon, full=self._style == "full")
        return Trace(" ".join(TELLINGS[isomer_set.family](voice)), isomer_set.logic.answer)
