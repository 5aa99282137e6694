"""A linter for domain packs: what the schema cannot see, from articles to sentences that read in two ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from isodistill.errors import IsodistillError
from isodistill.isomers.lint_grammar import (
    IRREGULAR_PLURALS,
    Finding,
    articles,
    names,
    negations,
    numbers,
    pronouns,
    relations,
    spacing,
)
from isodistill.isomers.packs import Pack, Relation, is_taken, load_pack, read_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.render import clause, sentence
from isodistill.isomers.statements import STATEMENT_KINDS, StatementKind
from isodistill.logic.formula import Formula, rename

TRIALS = 8
"""With how many draws of words each template is read back."""

_ANTONYM_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "non-", "mis", "a")


def lint(source: str) -> tuple[Pack | None, list[Finding]]:
    """Lints a pack by name or path.

    Args:
        source: The id of a built-in pack, ``"nonce:SEED"``, or the path of a YAML file.

    Returns:
        The pack, or ``None`` if it cannot be loaded, and what was found.
    """
    own = source.endswith((".yaml", ".yml"))
    try:
        pack = read_pack(Path(source)) if own else load_pack(source)
    except IsodistillError as error:
        return None, [Finding("schema", source, str(error))]
    taken = own and is_taken(pack.id, Path(source))
    mend = f"The id {pack.id!r} is a built-in pack's or one of invented words; give the file another id."
    return pack, [*([Finding("id", "id", mend)] if taken else []), *lint_pack(pack)]


def lint_pack(pack: Pack, trials: int = TRIALS) -> list[Finding]:
    """Lints a pack that satisfies the schema.

    Args:
        pack: The pack.
        trials: With how many draws of words each template is read back.

    Returns:
        What was found, by rule.
    """
    return [
        *_duplicates(pack),
        *_antonyms(pack),
        *articles(pack),
        *_plurals(pack),
        *numbers(pack),
        *pronouns(pack),
        *names(pack),
        *spacing(pack),
        *negations(pack),
        *relations(pack),
        *_readings(pack, trials),
    ]


def _duplicates(pack: Pack) -> Iterator[Finding]:
    """Finds words that differ by spelling, number or article only, within a sort or across sorts."""
    seen: dict[str, tuple[str, str]] = {}
    for sort, words in pack.words.items():
        for word in words.values():
            for text in (word.less, word.greater) if isinstance(word, Relation) else (word,):
                place, old = seen.setdefault(_normal_form(text), (sort, text))
                if old != text or place != sort:
                    yield Finding("duplicate", sort, f"{text!r} is another form of the {place} {old!r}; drop one.")


def _normal_form(text: str) -> str:
    text = re.sub(r"^(the|a|an) ", "", text.lower()).replace("-", "").replace("'", "")
    text = text.replace("isation", "ization").replace("ised", "ized").replace("ising", "izing").replace("our", "or")
    text = text.replace("ae", "e").replace("oe", "e").replace("lled", "led")
    return text[:-1] if text.endswith("s") and not text.endswith(("ss", "us", "is")) else text


def _antonyms(pack: Pack) -> Iterator[Finding]:
    """Finds pairs such as valid and invalid, which the world relates whatever the premises say."""
    words = set(pack.properties)
    for word in pack.properties:
        for prefix in _ANTONYM_PREFIXES:
            if f"{prefix}{word}" in words:
                yield Finding("antonym", "properties", f"{prefix + word!r} is the opposite of {word!r}; drop one.")


def _plurals(pack: Pack) -> Iterator[Finding]:
    kind = pack.kind
    for place, plural in (("kind", kind.plural), *(("items", item) for item in pack.items)):
        last = plural.split(" ")[-1]
        if not (last.endswith("s") or last in IRREGULAR_PLURALS):
            yield Finding("plural", place, f"{plural!r} does not look like a plural; write one.")
    if kind.singular == kind.plural:
        yield Finding("plural", "kind", f"{kind.singular!r} stands for one and for many; use a noun with two forms.")


def _readings(pack: Pack, trials: int) -> Iterator[Finding]:
    """Reads every template back, with each word in turn, and finds what reads as something else or in several ways."""
    for name in pack.individuals:
        if " and " in name:
            yield Finding("reading", "individuals", f"{name!r} would be split where lists are read; use another name.")
    rng = Random(pack.id)
    for kind in STATEMENT_KINDS.values():
        for template, text in enumerate(pack.templates[kind.name]):
            for _ in range(trials):
                problem = _misread(pack, kind, template, rng)
                if problem:
                    yield Finding("reading", kind.name, f"{text!r}: {problem}")
                    break


def _misread(pack: Pack, kind: StatementKind, template: int, rng: Random) -> str:
    """States something by a template and reads it; tells what went wrong, if anything did."""
    filling, lexicon = _draw(pack, kind, rng)
    stated = clause(kind.build(filling), pack, lexicon, kind.role, template, (kind.name,))
    wanted: Formula = rename(kind.build(filling), lexicon)
    fact = sentence(clause_of(pack, "fact"))
    if kind.role == "premise":
        text = f"{sentence(stated)}\n{pack.leads[0]} {fact}\nTrue or False?"
    elif kind.name in ("how_many", "set_count"):
        text = f"{fact}\n{sentence(stated, '?')}"
    else:
        text = f"{fact}\n{pack.leads[rng.randrange(len(pack.leads))]} {sentence(stated)}\nTrue or False?"
    try:
        reading = parse_prompt(text, pack)
    except IsodistillError as error:
        return str(error)
    found = reading.premises[0] if kind.role == "premise" else reading.question
    theme_read = kind.theme is None or reading.theme == lexicon["theme"]
    if len(reading.premises) != 1 or found != wanted or not theme_read:
        return f"{sentence(stated)} is read as something else; change the template or the words that collide."
    return ""


def clause_of(pack: Pack, kind: str) -> str:
    """States something plain with a pack's first words.

    Args:
        pack: The pack.
        kind: A statement kind of individuals and properties.

    Returns:
        The clause.
    """
    slots = {"i": pack.individuals[0], "A": pack.properties[0]}
    return pack.templates[kind][0].format_map(slots)


def _draw(pack: Pack, kind: StatementKind, rng: Random) -> tuple[dict[str, str], dict[str, str]]:
    """Draws what fills a kind's slots, and the words for it."""
    filling: dict[str, str] = {}
    lexicon: dict[str, str] = {}
    counts = {slot: rng.randint(3, 7) if sort == "individuals" else 1 for slot, sort in kind.slots.items()}
    for sort in ("individual", "property", "agent"):
        slots = [slot for slot, of in kind.slots.items() if of in (sort, f"{sort}s")]
        words = iter(rng.sample(list(pack.words[sort]), sum(counts[slot] for slot in slots)))
        for slot in slots:
            names = [f"s{slot}{place}" for place in range(counts[slot])]
            lexicon.update({name: next(words) for name in names})
            filling[slot] = " ".join(names)
    for slot, sort in kind.slots.items():
        if sort == "number":
            row = next((filling[other] for other, of in kind.slots.items() if of == "individuals"), None)
            filling[slot] = str(len(row.split(" "))) if row else str(rng.randint(2, 999))
    if kind.theme is not None:
        lexicon["theme"] = rng.choice(list(pack.words[kind.theme]))
    return filling, lexicon
