"""What a domain pack must contain, and how it is read from its YAML file."""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.statements import STATEMENT_KINDS, StatementKind
from isodistill.validation import first_fault

MIN_WORDS = {"individual": 60, "property": 60, "relation": 2, "agent": 16, "item": 8}
"""How many words of each sort a pack must offer, so that no problem runs out and few share their words."""

MIN_TEMPLATES = 3
MIN_CUES = 4
MIN_CUE_CLASSES = 3

_PLAIN = Path(__file__).parent / "plain.yaml"
_ID = re.compile(r"[a-z][a-z0-9_-]*(:[0-9]+)?")
_PROPERTY = re.compile(r"[a-z]+(-[a-z]+)*")
_PHRASE = re.compile(r"[A-Za-z]+('s)?([ -][A-Za-z]+('s)?)*")


class Noun(BaseModel):
    """A noun in both numbers.

    Args:
        singular: For example ``"patient"``.
        plural: For example ``"patients"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    singular: str
    plural: str


class Relation(BaseModel):
    """A strict order in words.

    Args:
        less: The phrase between two individuals of which the first comes first, for example ``"is younger than"``.
        greater: The phrase for the other way round, for example ``"is older than"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    less: str
    greater: str


class Pack(BaseModel):
    """The words and phrases of one domain.

    A template is a clause without capital and full stop, with slots in braces: the slots of its statement kind (see
    `STATEMENT_KINDS`), ``{item}`` where the kind counts things, and ``{less}`` or ``{greater}`` where it orders them.
    ``{noun}``, ``{nouns}`` and ``{who}`` may stand for the pack's `kind` and `who`. The first template of a kind is the
    plainest: teachers use it. Kinds for which a pack has no templates get those of ``plain.yaml``.

    Args:
        id: The domain's name.
        title: The domain's name for people.
        kind: What the individuals are, for example patient / patients.
        who: The relative pronoun for the individuals, ``"who"`` or ``"that"``.
        individuals: Names that stand as a subject, for example ``"the Alder contract"``; at least 60.
        properties: Adjectives, one word each, that fit the kind; at least 60.
        relations: Strict orders between individuals; at least 2.
        agents: Those that have things to count; at least 16.
        items: Plural nouns of what is counted; at least 8.
        leads: What a statement to judge is announced by, for example ``"Claim:"``; at least 3.
        templates: At least 3 templates for each statement kind that has some.
        cues: For each answer class at least 4 whole sentences of the domain's register that say nothing about the
            problem. Sentence n of each class has the same number of words, so that its length tells nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    kind: Noun
    who: Literal["who", "that"] = "that"
    individuals: tuple[str, ...]
    properties: tuple[str, ...]
    relations: tuple[Relation, ...]
    agents: tuple[str, ...]
    items: tuple[str, ...]
    leads: tuple[str, ...]
    templates: dict[str, tuple[str, ...]]
    cues: tuple[tuple[str, ...], ...]

    def __hash__(self) -> int:
        return int.from_bytes(self.id.encode()[:7])

    @cached_property
    def digest(self) -> str:
        """A short hash of all that the pack holds."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @cached_property
    def words(self) -> dict[str, dict[str, str | Relation]]:
        """The words by sort and id; the id of a word is its text in lower case with hyphens."""
        lists: dict[str, tuple[str | Relation, ...]] = {
            "individual": self.individuals,
            "property": self.properties,
            "relation": self.relations,
            "agent": self.agents,
            "item": self.items,
        }
        return {sort: {word_id(word): word for word in words} for sort, words in lists.items()}

    def word(self, sort: str, word: str) -> str | Relation:
        """Looks a word up.

        Args:
            sort: The sort of the symbol that it stands for.
            word: The word's id.

        Returns:
            The word: a text, or both phrases of a relation.

        Raises:
            IsodistillError: If the pack has no such word.
        """
        try:
            return self.words[sort][word]
        except KeyError:
            raise IsodistillError(
                f"The domain pack {self.id!r} has no {sort} with the id {word!r}; use one of its own words."
            ) from None

    @model_validator(mode="before")
    @classmethod
    def _fill_templates(cls, data: Any) -> Any:
        """Adds the plain templates and puts the noun into all; whatever has a wrong type is left to the validation."""
        own = data.get("templates", {}) if isinstance(data, dict) else None
        kind = data.get("kind") if isinstance(data, dict) else None
        if not isinstance(own, dict) or not isinstance(kind, dict):
            return data
        words = {"{noun}": kind.get("singular"), "{nouns}": kind.get("plural"), "{who}": data.get("who", "that")}

        def filled(template: Any) -> Any:
            if isinstance(template, str):
                for slot, word in words.items():
                    template = template.replace(slot, str(word))
            return template

        every = {**_plain_templates(), **own}
        templates = {
            name: [filled(entry) for entry in entries] if isinstance(entries, list | tuple) else entries
            for name, entries in every.items()
        }
        return {**data, "templates": templates}

    @model_validator(mode="after")
    def _check(self) -> Pack:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"the id {self.id!r} must be lower-case letters, digits, hyphens and underscores")
        for sort, words in self.words.items():
            total = len(getattr(self, {"property": "properties"}.get(sort, f"{sort}s")))
            if total != len(words):
                raise ValueError(f"two words of the sort {sort} have the same id")
            if len(words) < MIN_WORDS[sort]:
                raise ValueError(f"needs at least {MIN_WORDS[sort]} words of the sort {sort}, has {len(words)}")
            for word in words.values():
                for text in (word.less, word.greater) if isinstance(word, Relation) else (word,):
                    pattern = _PROPERTY if sort == "property" else _PHRASE
                    if not pattern.fullmatch(text):
                        raise ValueError(f"the {sort} {text!r} must be plain words, without digits or punctuation")
        phrases = [phrase for relation in self.relations for phrase in (relation.less, relation.greater)]
        if len(set(phrases)) != len(phrases):
            raise ValueError("each phrase of a relation must belong to that relation alone")
        if len(self.leads) < MIN_TEMPLATES or not all(re.fullmatch(r"[A-Z][a-z]+( [a-z]+)*:", x) for x in self.leads):
            raise ValueError(f"needs at least {MIN_TEMPLATES} leads, each a capitalised phrase that ends in a colon")
        if set(self.templates) != set(STATEMENT_KINDS):
            odd = sorted(set(self.templates) ^ set(STATEMENT_KINDS))
            raise ValueError(f"templates must cover exactly the statement kinds; missing or unknown: {', '.join(odd)}")
        for name, templates in self.templates.items():
            if len(set(templates)) != len(templates) or len(templates) < MIN_TEMPLATES:
                raise ValueError(f"needs at least {MIN_TEMPLATES} different templates for {name}")
            for template in templates:
                _check_template(template, STATEMENT_KINDS[name])
        self._check_cues()
        return self

    def _check_cues(self) -> None:
        if len(self.cues) < MIN_CUE_CLASSES or any(len(group) < MIN_CUES for group in self.cues):
            raise ValueError(f"needs at least {MIN_CUES} cues for each of at least {MIN_CUE_CLASSES} answer classes")
        if len({len(group) for group in self.cues}) != 1:
            raise ValueError("needs the same number of cues for each answer class")
        for place, row in enumerate(zip(*self.cues, strict=True)):
            if len({len(cue.split()) for cue in row}) != 1:
                raise ValueError(f"cue {place} must have the same number of words in each answer class")
        flat = [cue for group in self.cues for cue in group]
        for cue in flat:
            if not re.fullmatch(r"[A-Z][a-z]*( [A-Za-z]+)*\.", cue):
                raise ValueError(f"the cue {cue!r} must be one plain sentence: a capital, words, a full stop")
        if len(set(flat)) != len(flat):
            raise ValueError("no cue may appear twice")


@lru_cache(maxsize=1)
def _plain_templates() -> dict[str, list[str]]:
    templates: dict[str, list[str]] = yaml.safe_load(_PLAIN.read_text(encoding="utf-8"))
    return templates


def word_id(word: str | Relation) -> str:
    """Names a word by its own text.

    Args:
        word: A word, or the phrases of a relation, which is named by its first.

    Returns:
        The text in lower case, with hyphens for spaces and without apostrophes.
    """
    text = word.less if isinstance(word, Relation) else word
    return text.lower().replace("'", "").replace(" ", "-")


def template_slots(template: str) -> list[str]:
    """Lists the slots of a template in reading order.

    Args:
        template: A clause with slots in braces.

    Returns:
        The slot names.

    Raises:
        ValueError: If a brace stands alone.
    """
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _check_template(template: str, kind: StatementKind) -> None:
    slots = template_slots(template)
    themes = {"item": ("item",), "relation": ("less", "greater"), None: ()}[kind.theme]
    found = Counter(slots)
    wanted = set(kind.slots)
    if any(count > 1 for count in found.values()) or set(found) - set(themes) != wanted:
        raise ValueError(f"the template {template!r} of {kind.name} must have each of {sorted(wanted)} once")
    if themes and sum(found[theme] for theme in themes) != 1:
        raise ValueError(f"the template {template!r} of {kind.name} must have {{{'} or {'.join(themes)}}} once")
    text = re.sub(r"\{\w+\}", "", template)
    if not re.fullmatch(r"[a-z ,']*", text) or template != template.strip():
        raise ValueError(f"the template {template!r} must be a clause in lower case without final punctuation")


def read_pack(path: Path) -> Pack:
    """Reads a domain pack from a file.

    Args:
        path: A YAML file as described at `Pack`.

    Returns:
        The pack.

    Raises:
        IsodistillError: If the file cannot be read, is not YAML, or breaks a rule.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    # PyYAML lets the errors of its converters through: of dates, numbers and tags, and of nesting without end.
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise IsodistillError(f"The domain pack {path} cannot be read: {reason}; mend the file.") from None
    return build_pack(data, path.name)


def build_pack(data: Any, name: str) -> Pack:
    """Checks a domain pack's data.

    Args:
        data: What its YAML file holds; untrusted.
        name: Named in errors, for example the file's name.

    Returns:
        The pack.

    Raises:
        IsodistillError: If it breaks a rule.
    """
    try:
        return Pack.model_validate(data)
    except ValidationError as error:
        field, reason = first_fault(error, "the pack", Pack.model_fields)
        raise IsodistillError(f"In the domain pack {name}, {field}: {reason}; mend the file.") from None
