"""What a generation has used and rejected so far, and its notes for a run that goes on after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ledger:
    """What has been used and rejected so far; digests stand for long texts.

    Args:
        skeletons: How often each skeleton of a group was used, by digest.
        contents: Digests of what the members say.
        rejected: Drawn skeletons that were not used, by reason.
        answers: How many training sets have each answer class.
        members: The number of texts.
        fresh: The digests since the last note.
    """

    skeletons: Counter[str] = field(default_factory=Counter)
    contents: set[str] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    members: int = 0
    fresh: dict[str, list[str]] = field(default_factory=lambda: {"skeletons": [], "contents": []})

    def use(self, skeleton: str, contents: list[str]) -> None:
        """Marks a skeleton and what its members say as used.

        Args:
            skeleton: The skeleton's digest.
            contents: The members' digests.
        """
        self.skeletons[skeleton] += 1
        self.contents.update(contents)
        self.fresh["skeletons"].append(skeleton)
        self.fresh["contents"] += contents

    def note(self) -> dict[str, Any]:
        """Writes down what has changed since the last note, and the counts.

        Returns:
            A note for `read`, of plain values.
        """
        state = {**self.fresh, "rejected": self.rejected, "answers": self.answers, "members": self.members}
        self.fresh = {"skeletons": [], "contents": []}
        return state

    def read(self, state: Mapping[str, Any]) -> None:
        """Takes a note over.

        Args:
            state: What `note` gave.
        """
        self.skeletons.update(state["skeletons"])
        self.contents.update(state["contents"])
        self.rejected, self.answers = Counter(state["rejected"]), Counter(state["answers"])
        self.members = int(state["members"])
