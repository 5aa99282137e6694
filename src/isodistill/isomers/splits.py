"""Which problem may stand in which split, and what each split shows.

Split by structure (the default), train, validation and test never share a structure, that is, a problem up to renaming
and premise order: what a student gets right in testing it cannot have seen in other words or in another order.

Short problems have only a handful of structures. Dealing these out would train on some patterns of negation and test
on others, and an answer could be told from the pattern. Such data is split by wording: the groups share structures,
but no problem appears twice with the same words, in whatever order or phrasing.

The test splits ``iid``, ``cue_absent``, ``cue_reversed``, ``unseen_domain`` and its variants show the SAME test
problems under the same set names, and where the domain is the same also in the same words: whatever differs between
their scores is due to the cue (or the domain) and to nothing else, and scores can be compared problem by problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isodistill.isomers.shortcut import CueMode

Group = Literal["train", "validation", "test", "deeper"]
"""Problems that are drawn together; ``"deeper"`` is a part of the test structures at greater depth."""

SplitBy = Literal["structure", "wording"]
"""What train, validation and test may not share."""

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


def group_of(structure: str) -> str:
    """Looks up which group may show a structure: by its hash alone, so that it is the same in every data set.

    Args:
        structure: The structure's hash, see `structure_hash`.

    Returns:
        ``"train"``, ``"validation"`` or ``"test"``.
    """
    place = int(structure[:12], 16) % 100
    for group, share in SHARES.items():
        if place < share:
            return group
        place -= share
    raise AssertionError("the shares add up to 100")
