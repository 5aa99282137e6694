"""What is recorded beside each text: its words, its formulas for people, and what is needed to write it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import Pack
from isodistill.isomers.render import CuePosition, Wording, readable, render
from isodistill.isomers.skeleton import Skeleton


@dataclass(frozen=True)
class Cue:
    """A planted cue.

    Args:
        text: The whole sentence.
        position: Where it stands.
    """

    text: str
    position: CuePosition


@dataclass(frozen=True)
class Formal:
    """How a member was made from its skeleton.

    Args:
        wording: Words and templates.
        cue: The planted cue, or ``None``.
    """

    wording: Wording
    cue: Cue | None = None

    def render(self, skeleton: Skeleton, pack: Pack) -> str:
        """Writes the member's text again.

        Args:
            skeleton: The set's skeleton.
            pack: The member's domain.

        Returns:
            The prompt.
        """
        if self.cue is None:
            return render(skeleton, pack, self.wording)
        return render(skeleton, pack, self.wording, self.cue.text, self.cue.position)

    def to_json(self, skeleton: Skeleton) -> str:
        """Writes the record as one line of JSON.

        Args:
            skeleton: The set's skeleton, whose formulas are added in the domain's words.

        Returns:
            A JSON object with the lexicon, the readable premises and question, the templates and the cue.
        """
        lexicon = self.wording.lexicon
        data: dict[str, Any] = {
            "lexicon": dict(lexicon),
            "premises": [readable(premise, lexicon) for premise in skeleton.premises],
            "question": readable(skeleton.question, lexicon),
            "templates": {
                "premises": list(self.wording.premises),
                "question": self.wording.question,
                "lead": self.wording.lead,
            },
        }
        if self.cue is not None:
            data["cue"] = {"text": self.cue.text, "position": self.cue.position}
        return json.dumps(data, separators=(",", ":"))


def formal_from_json(text: str, where: str = "the formal record") -> Formal:
    """Reads a record back, refusing anything that `Formal.to_json` cannot have written.

    Args:
        text: JSON; untrusted.
        where: Named in errors, for example ``"set deduction-3f, domain law"``.

    Returns:
        The record.

    Raises:
        IsodistillError: If the text is not JSON, or a field is missing or has the wrong type.
    """

    def fail(problem: str) -> IsodistillError:
        return IsodistillError(f"In {where}, the formal record {problem}; generate the data set again.")

    def is_place(value: object) -> bool:
        return type(value) is int and value >= 0

    try:
        data: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise fail("is not JSON") from None
    if not isinstance(data, dict):
        raise fail("is not a JSON object")
    lexicon, templates, cue = data.get("lexicon"), data.get("templates"), data.get("cue")
    if not isinstance(lexicon, dict) or not all(isinstance(word, str) for word in lexicon.values()):
        raise fail("has no lexicon of words")
    if not isinstance(templates, dict) or not isinstance(templates.get("premises"), list):
        raise fail("has no list of templates for the premises")
    if not all(is_place(place) for place in (*templates["premises"], templates.get("question"), templates.get("lead"))):
        raise fail("has a template that is not a whole number of at least 0")
    wording = Wording(lexicon, tuple(templates["premises"]), templates["question"], templates["lead"])
    if cue is None:
        return Formal(wording)
    if not isinstance(cue, dict) or not isinstance(cue.get("text"), str) or cue.get("position") not in ("start", "end"):
        raise fail("has a cue without text and position")
    position: Literal["start", "end"] = cue["position"]
    return Formal(wording, Cue(cue["text"], position))
