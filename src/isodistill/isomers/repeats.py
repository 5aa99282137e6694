"""What stands twice in a data set: texts, structures, skeletons, and texts that are nearly the same."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from isodistill.isomers.formal import formal_from_json
from isodistill.isomers.render import choices_line
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.splits import SPLITS

NEAR = 0.75
"""From this share of common sentences on (intersection over union), two texts count as near-duplicates."""


def without_cue(member: Member, set_id: str) -> str:
    """Takes a planted cue out of a text.

    Args:
        member: The member; where it has no readable record it keeps its text.
        set_id: Its set, named in errors.

    Returns:
        The problem without the cue sentence.
    """
    if not member.cue:
        return member.prompt
    cue = formal_from_json(member.formal, f"set {set_id!r}, domain {member.domain!r}").cue
    if cue is None:
        return member.prompt
    return (
        member.prompt.replace(f"{cue.text} ", "", 1)
        if cue.position == "start"
        else (member.prompt.replace(f" {cue.text}", "", 1))
    )


class Repeats:
    """Finds what stands twice: texts and structures at once, skeletons and near-duplicates when all texts are known.

    Args:
        by_structure: Whether groups of problems may not share a structure.
    """

    def __init__(self, by_structure: bool) -> None:
        self._by_structure = by_structure
        self._skeletons: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._groups = {split.name: "test" if split.group == "deeper" else split.group for split in SPLITS}
        self._texts: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._structures: dict[str, tuple[str, str, str]] = {}
        self._sentences: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._sizes: list[tuple[str, str, str, int]] = []
        self.exact: list[str] = []

    def add(self, split: str, isomer_set: IsomerSet) -> None:
        """Takes a set in and notes what it repeats.

        Args:
            split: Its split.
            isomer_set: The set.
        """
        if isomer_set.canonical:
            self._skeletons[split][isomer_set.canonical].append(isomer_set.set_id)
        group, name = self._groups.get(split, split), isomer_set.set_id
        here = (group, split, name)
        if self._by_structure:
            _, old_split, old = seen = self._structures.setdefault(isomer_set.logic.structure, here)
            if seen[0] != group:
                self.exact.append(
                    f"Set {name} of split {split} has the structure of set {old} of split {old_split}; drop one."
                )
        for member in isomer_set.members:
            text = without_cue(member, name)
            digest = hashlib.sha256(text.encode()).hexdigest()
            place = self._texts.get((member.domain, digest))
            if place is None:
                self._texts[member.domain, digest] = here
                asked = choices_line(isomer_set.choices) if len(isomer_set.choices) > 1 else ""
                self._index(member.domain, text.removesuffix(asked), here)
            elif (place[0], place[2]) != (group, name):
                # The test splits show the same problems on purpose, under the same names.
                self.exact.append(
                    f"Set {name} of split {split} has the {member.domain} text of set {place[2]} of split {place[1]}; "
                    "drop one of them."
                )

    def _index(self, domain: str, text: str, here: tuple[str, str, str]) -> None:
        parts = {part for part in text.replace("\n", ". ").split(". ") if part}
        for part in parts:
            self._sentences[domain, part].append(len(self._sizes))
        self._sizes.append((*here, len(parts)))

    def near(self) -> list[str]:
        """Finds texts of different groups that share most of their sentences.

        Returns:
            A sentence for each pair.
        """
        shared: Counter[tuple[int, int]] = Counter()
        for places in self._sentences.values():
            # A sentence that stands everywhere tells no two texts apart, and would take long to pair up.
            if 1 < len(places) <= 50:
                for index, one in enumerate(places):
                    for other in places[index + 1 :]:
                        if self._sizes[one][0] != self._sizes[other][0]:
                            shared[one, other] += 1
        found = []
        for (one, other), count in shared.items():
            first, second = self._sizes[one], self._sizes[other]
            if count >= NEAR * (first[3] + second[3] - count):
                found.append(
                    f"Set {second[2]} of split {second[1]} shares {count} of {second[3]} sentences with set "
                    f"{first[2]} of split {first[1]}; drop one of them."
                )
        return found

    def overused(self, most: int) -> list[str]:
        """Finds skeletons that more sets of a split share than may.

        Args:
            most: The number of sets of a split that may share a skeleton, at least 1.

        Returns:
            A sentence for each skeleton that is used too often.
        """
        return [
            f"Split {split}: {len(names)} sets share one skeleton ({', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}), and max_sets_per_skeleton is {most}; drop {len(names) - most}."
            for split, skeletons in self._skeletons.items()
            for names in skeletons.values()
            if len(names) > most
        ]
