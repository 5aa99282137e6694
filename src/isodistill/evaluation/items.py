"""Test rows of a data set, flattened to one item per member of an isomer set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.isomers.store import available_splits, read_split

TRAINING_SPLITS = ("train", "validation")
"""Splits that are never evaluated unless they are asked for by name."""

SPLIT_ORDER = (
    "train",
    "validation",
    "iid",
    "cue_absent",
    "cue_reversed",
    "unseen_domain",
    "unseen_domain__cue_random",
    "unseen_domain__cue_reversed",
    "deeper",
)
"""The order in which the known splits are evaluated and reported; others follow by name."""


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One problem put to the student: one member of one isomer set.

    Attributes:
        split: The test split it stands in.
        set_id: The isomer set it belongs to; members of one set share logic and answer.
        domain: The domain pack it is worded in.
        family: The problem family.
        depth: The number of reasoning steps of the skeleton.
        prompt: The problem's text, without a chat template.
        answer: The verified answer.
        choices: The closed answer set; empty for numeric answers.
        cue: The answer that the planted cue points at (for numbers: ``"even"`` or ``"odd"``); empty
            where there is no cue.
        formal: JSON for a scorer of the problem's own; empty where answers are compared as text.
    """

    split: str
    set_id: str
    domain: str
    family: str
    depth: int
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    cue: str = ""
    formal: str = ""


def list_splits(data_dir: Path) -> list[str]:
    """Lists the splits of a data set, the known ones in reporting order.

    Args:
        data_dir: The data set's directory.

    Returns:
        Split names, including ``train`` and ``validation`` where present.

    Raises:
        IsodistillError: If the directory holds no split.
    """
    return sorted(available_splits(Path(data_dir)), key=split_sort_key)


def split_sort_key(split: str) -> tuple[int, str]:
    """Orders splits as they are reported.

    Args:
        split: A split's name.

    Returns:
        A key for `sorted`: the known splits in their order, then the others by name.
    """
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER), split)


def read_items(data_dir: Path, split: str, limit_sets: int | None = None) -> list[EvalItem]:
    """Reads one split as evaluation items, checking every row before anything costly starts.

    Args:
        data_dir: The data set's directory.
        split: The split's name.
        limit_sets: Keep only this many sets, or ``None`` for all. The choice depends on the set
            ids alone, so that every run that is limited alike sees the same sets, and a smaller
            limit picks a subset of what a larger one picks.

    Returns:
        The items, set by set in file order, members in row order.

    Raises:
        IsodistillError: If the split or a column is missing, a row breaks the contract, or a set
            lacks a member that other sets of the split have.
    """
    sets = read_split(Path(data_dir), split)
    if not sets:
        raise IsodistillError(f"Split '{split}' of {data_dir} has no rows: generate it anew or leave it out.")
    for isomer_set in sets:
        if len(set(isomer_set.choices)) < len(isomer_set.choices) or "" in isomer_set.choices:
            raise IsodistillError(
                f"Split '{split}' of {data_dir}, set {isomer_set.set_id!r}: 'choices' has an empty or repeated entry, "
                "so no probability can be given to each; mend the row."
            )
    items = [
        EvalItem(
            split=split,
            set_id=isomer_set.set_id,
            domain=member.domain,
            family=isomer_set.family,
            depth=isomer_set.depth,
            prompt=member.prompt,
            answer=isomer_set.answer,
            choices=isomer_set.choices,
            cue=member.cue,
            formal=member.formal,
        )
        for isomer_set in sets
        for member in isomer_set.members
    ]
    return limited(items, limit_sets)


def limited(items: Sequence[EvalItem], limit_sets: int | None) -> list[EvalItem]:
    """Keeps the items of a few sets.

    Args:
        items: The items of one split.
        limit_sets: See `read_items`.

    Returns:
        The items of the sets that are kept, in order.
    """
    if limit_sets is None:
        return list(items)
    # Files may be sorted by family or depth: the first rows would not represent the split.
    names = {item.set_id for item in items}
    kept = set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:limit_sets])
    return [item for item in items if item.set_id in kept]
