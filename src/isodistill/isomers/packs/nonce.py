"""Domain packs of invented words, from a seed: as many unseen domains as one likes."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

NONCE_ID = re.compile(r"nonce:(0|[1-9][0-9]{0,8})")
"""What a nonce pack is called: the word and its seed."""

_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gl",
    "gr",
    "j",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "pr",
    "r",
    "s",
    "sk",
    "sl",
    "sn",
    "st",
    "t",
    "tr",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "rd", "rk", "rn", "sk", "st", "t", "x")
_ADJECTIVE_ENDINGS = ("ic", "ous", "al", "ish", "ent", "ive")
_RESERVED = frozenset({"not", "is", "it", "no", "some", "all", "that"})


def nonce_pack(seed: int) -> dict[str, Any]:
    """Invents a domain pack.

    The words follow English spelling and inflection, so that the sentences read well, and mean nothing. Each pack draws
    its words independently; the templates are those of ``plain.yaml``.

    Args:
        seed: The seed: equal seeds give equal packs.

    Returns:
        The pack's data, as its YAML file would have it.
    """
    rng = Random(f"nonce pack {seed}")
    used: set[str] = set(_RESERVED)
    noun, place = _fresh(rng, used, _noun), _fresh(rng, used, _noun)
    names = [_fresh(rng, used, _name).capitalize() for _ in range(84)]
    return {
        "id": f"nonce:{seed}",
        "title": f"Nonce words, seed {seed}",
        "kind": {"singular": noun, "plural": _plural(noun)},
        "individuals": [f"the {name} {noun}" for name in names[:64]],
        "properties": [_fresh(rng, used, _adjective) for _ in range(64)],
        "relations": [
            {"less": f"was {verb} before", "greater": f"was {verb} after"}
            for verb in (_fresh(rng, used, _participle) for _ in range(4))
        ],
        "agents": [f"the {name} {place}" for name in names[64:]],
        "items": [_plural(_fresh(rng, used, _noun)) for _ in range(10)],
        "leads": ["Claim:", "Statement:", "Thesis:"],
        "cues": _cues(rng, used),
    }


def _fresh(rng: Random, used: set[str], make: Callable[[Random], str]) -> str:
    while True:
        word = make(rng)
        if word not in used:
            used.add(word)
            return word


def _syllable(rng: Random) -> str:
    return rng.choice(_ONSETS) + rng.choice(_VOWELS)


def _noun(rng: Random) -> str:
    return _syllable(rng) + rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)


def _name(rng: Random) -> str:
    return _syllable(rng) + _syllable(rng) + rng.choice(_CODAS)


def _adjective(rng: Random) -> str:
    return _syllable(rng) + rng.choice(_ONSETS) + rng.choice(_ADJECTIVE_ENDINGS)


def _participle(rng: Random) -> str:
    return _syllable(rng) + rng.choice(("b", "d", "g", "l", "m", "n", "t")) * 2 + "ed"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("s", "x", "z", "sh", "ch")) else f"{noun}s"


def _cues(rng: Random, used: set[str]) -> list[list[str]]:
    """Invents four sentences, each with a key word of its own for each answer class."""
    frames = (
        "The {} is kept near the {}.",
        "The {} was seen with a {}.",
        "The {} came before the {}.",
        "The {} has a {}.",
    )
    things = [_fresh(rng, used, _noun) for _ in frames]
    keys = [[_fresh(rng, used, _noun) for _ in frames] for _ in range(3)]
    return [
        [frame.format(thing, key) for frame, thing, key in zip(frames, things, group, strict=True)] for group in keys
    ]
