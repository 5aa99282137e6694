"""Domain packs: the words, turns of phrase and cues of each domain, one YAML file each, or invented from a seed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import yaml

from isodistill.errors import IsodistillError
from isodistill.isomers.packs.nonce import NONCE_ID, nonce_pack
from isodistill.isomers.packs.schema import Noun, Pack, Relation, build_pack, read_pack, word_id

__all__ = [
    "DEFAULT_UNSEEN_PACKS",
    "TRAINING_PACKS",
    "UNSEEN_PACKS",
    "Noun",
    "Pack",
    "Relation",
    "available_packs",
    "is_own_pack",
    "is_taken",
    "load_pack",
    "read_pack",
    "register_packs",
    "word_id",
    "write_packs",
]

TRAINING_PACKS = ("math", "medicine", "law", "science")
"""The packs that a data set trains on by default."""

UNSEEN_PACKS = ("finance", "cooking", "logistics", "sport", "music")
"""The packs that are meant for testing only."""

DEFAULT_UNSEEN_PACKS = UNSEEN_PACKS[:2]
"""The packs that a data set keeps for testing by default."""

_DATA = Path(__file__).parent / "data"
_OWN: dict[str, Pack] = {}


def available_packs() -> tuple[str, ...]:
    """Lists the built-in domain packs.

    Returns:
        Their ids in alphabetical order.
    """
    return tuple(sorted(path.stem for path in _DATA.glob("*.yaml")))


def load_pack(name: str) -> Pack:
    """Loads a domain pack.

    Args:
        name: The id of a built-in pack or of one that has been loaded from a file; ``"nonce:SEED"`` for invented words;
            or the path of a YAML file, which is known by its id from then on.

    Returns:
        The pack; the same object each time, a file as it was when first read.

    Raises:
        IsodistillError: If there is no such pack, its file breaks a rule, or takes the id of another pack.
    """
    if name in _OWN:
        return _OWN[name]
    if name.endswith((".yaml", ".yml")):
        return _register(Path(name))
    return _load_known(name)


@lru_cache(maxsize=256)
def _load_known(name: str) -> Pack:
    if NONCE_ID.fullmatch(name):
        return build_pack(nonce_pack(int(name.removeprefix("nonce:"))), name)
    if name not in available_packs():
        raise IsodistillError(
            f"There is no domain pack {name!r}; choose among {', '.join(available_packs())}, nonce:SEED, and the path "
            "of a YAML file."
        )
    pack = read_pack(_DATA / f"{name}.yaml")
    if pack.id != name:
        raise IsodistillError(f"The domain pack {name}.yaml calls itself {pack.id!r}; give it the id {name!r}.")
    return pack


def _register(path: Path) -> Pack:
    pack = read_pack(path)
    if is_taken(pack.id):
        raise IsodistillError(
            f"The domain pack {path} takes the id {pack.id!r} of a built-in pack or of one of invented words; give it "
            "another id."
        )
    if _OWN.get(pack.id) != pack:
        _OWN[pack.id] = pack
    return _OWN[pack.id]


def is_taken(name: str, path: Path | None = None) -> bool:
    """Tells whether a file may not have an id, because a built-in pack or one of invented words has it.

    Args:
        name: The id.
        path: The file; a built-in pack's own file may have its id.

    Returns:
        ``True`` if it may not.
    """
    own = path is not None and path.resolve() == (_DATA / f"{name}.yaml").resolve()
    return ":" in name or (name in available_packs() and not own)


def is_own_pack(name: str) -> bool:
    """Tells whether a domain's pack was loaded from a file of the user's.

    Args:
        name: The domain.

    Returns:
        ``True`` if a data set must bring the pack along to be read elsewhere.
    """
    return name in _OWN


def register_packs(folder: Path) -> None:
    """Makes the packs of a folder known by their ids; a folder that is not there has none.

    Args:
        folder: A folder of YAML files, such as the one that a data set brings along.

    Raises:
        IsodistillError: If a file breaks a rule or takes the id of a built-in pack.
    """
    for path in sorted(folder.glob("*.yaml")):
        _register(path)


def write_packs(domains: frozenset[str], folder: Path) -> None:
    """Writes the packs among some domains that were loaded from files, for `register_packs` to find.

    Args:
        domains: The domains.
        folder: The folder; it is made only if there is such a pack.
    """
    for name in sorted(domain for domain in domains if is_own_pack(domain)):
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(load_pack(name).model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
