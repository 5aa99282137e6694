"""Domain packs: the words, turns of phrase and cues of each domain, one YAML file each."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.isomers.packs.schema import Noun, Pack, Relation, read_pack, word_id

__all__ = [
    "TRAINING_PACKS",
    "UNSEEN_PACKS",
    "Noun",
    "Pack",
    "Relation",
    "available_packs",
    "load_pack",
    "read_pack",
    "word_id",
]

TRAINING_PACKS = ("math", "medicine", "law", "science")
"""The packs that a data set trains on by default."""

UNSEEN_PACKS = ("finance", "cooking")
"""The packs that are kept for testing by default."""

_DATA = Path(__file__).parent / "data"


def available_packs() -> tuple[str, ...]:
    """Lists the built-in domain packs.

    Returns:
        Their ids in alphabetical order.
    """
    return tuple(sorted(path.stem for path in _DATA.glob("*.yaml")))


@lru_cache(maxsize=64)
def load_pack(name: str) -> Pack:
    """Loads a built-in domain pack.

    Args:
        name: The pack's id.

    Returns:
        The pack; the same object each time.

    Raises:
        IsodistillError: If there is no such pack.
    """
    if name not in available_packs():
        raise IsodistillError(f"There is no domain pack {name!r}; choose among {', '.join(available_packs())}.")
    pack = read_pack(_DATA / f"{name}.yaml")
    if pack.id != name:
        raise IsodistillError(f"The domain pack {name}.yaml calls itself {pack.id!r}; give it the id {name!r}.")
    return pack
