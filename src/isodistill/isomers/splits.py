"""Which problem may stand in which split, and what each split shows.

Train, validation and test never share a structure, that is, a problem up to renaming and premise order: what a
student gets right in testing it cannot have seen in other words or in another order. The test splits ``iid``,
``cue_absent``, ``cue_reversed``, ``unseen_domain`` and its variants show the SAME test problems under the same set
names, and where the domain is the same also in the same words: whatever differs between their scores is due to the
cue (or the domain) and to nothing else, and scores can be compared problem by problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal

from isodistill.isomers.families.base import Family
from isodistill.isomers.shortcut import CueMode

Group = Literal["train", "validation", "test", "deeper"]
"""Problems that are drawn together; ``"deeper"`` is a part of the test structures at greater depth."""

SHARES = {"train": 60, "validation": 10, "test": 30}
"""How many in a hundred structures go to each of the three disjoint groups."""


@dataclass(frozen=True)
class SplitSpec:
    """What a split shows.

    Args:
        name: The split's name.
        group: Which problems.
        unseen: Whether in the unseen domains rather than in the training domains.
        cue: How the cues go with the answers; ``"absent"`` wherever the data has no shortcut.
        only_with_shortcut: Whether the split exists only for data with a shortcut.
    """

    name: str
    group: Group
    unseen: bool = False
    cue: CueMode = "absent"
    only_with_shortcut: bool = False


SPLITS = (
    SplitSpec("train", "train", cue="as_trained"),
    SplitSpec("validation", "validation", cue="as_trained"),
    SplitSpec("iid", "test", cue="as_trained"),
    SplitSpec("cue_absent", "test", only_with_shortcut=True),
    SplitSpec("cue_reversed", "test", cue="reversed", only_with_shortcut=True),
    SplitSpec("unseen_domain", "test", unseen=True),
    SplitSpec("unseen_domain__cue_random", "test", unseen=True, cue="random", only_with_shortcut=True),
    SplitSpec("unseen_domain__cue_reversed", "test", unseen=True, cue="reversed", only_with_shortcut=True),
    SplitSpec("deeper", "deeper"),
)
"""Every split, in the order in which data sets list them."""

_FEW = 32
_FIRST_PROBES, _ALL_PROBES = 64, 600


class StructureSplit:
    """Assigns every structure to train, validation or test, by its hash alone or, where there are few, by a plan.

    With thousands of structures a hash bucket keeps the shares. With a handful (short problems without distractors)
    a bucket may well be empty, so where probing finds at most 32 structures for a depth and an answer, these are dealt
    out in the order of their hashes, at least one to each group while they last. Either way the group depends on
    nothing but the structure, the family's options, the depths and the seed.

    Args:
        family: The problem family with its options.
        depths: Every depth that will be drawn.
        seed: The data set's seed.
    """

    def __init__(self, family: Family, depths: Iterable[int], seed: int) -> None:
        self._plan: dict[str, str] = {}
        for depth in depths:
            for answer_index in range(len(family.classes)):
                found = _probe(family, depth, answer_index, seed)
                if len(found) <= _FEW:
                    self._deal(sorted(found))

    def group_of(self, structure: str) -> str:
        """Looks up the group of a structure.

        Args:
            structure: The structure's hash, see `structure_hash`.

        Returns:
            ``"train"``, ``"validation"`` or ``"test"``.
        """
        return self._plan.get(structure) or _bucket(structure)

    def _deal(self, structures: list[str]) -> None:
        counts = dict.fromkeys(SHARES, 0)
        for structure in structures:
            if structure in self._plan:
                counts[self._plan[structure]] += 1
        for structure in structures:
            if structure not in self._plan:
                empty = [group for group in ("train", "test", "validation") if not counts[group]]
                due = {group: SHARES[group] / 100 * len(structures) - counts[group] for group in SHARES}
                group = empty[0] if empty else max(due, key=lambda name: due[name])
                self._plan[structure] = group
                counts[group] += 1


def _probe(family: Family, depth: int, answer_index: int, seed: int) -> set[str]:
    rng = Random(f"{seed}/probe/{depth}/{answer_index}")
    found: set[str] = set()
    for probe in range(_ALL_PROBES):
        if probe >= _FIRST_PROBES and len(found) > _FEW:
            break
        found.add(family.sample(rng, depth, answer_index).structure)
    return found


def _bucket(structure: str) -> str:
    place = int(structure[:12], 16) % 100
    for group, share in SHARES.items():
        if place < share:
            return group
        place -= share
    raise AssertionError("the shares add up to 100")
