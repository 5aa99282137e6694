"""The part of the packs' linter that reads sentences as a native reader would: number, articles, names, negation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from isodistill.isomers.packs import Pack

# Words that a vowel letter begins but no vowel sound, and the other way round.
_CONSONANT_SOUND = re.compile(r"(uni|use|usu|uti|eu|one\b|once\b|ubi)")
_SILENT_H = re.compile(r"(hour|honest|honour|heir)")
IRREGULAR_PLURALS = frozenset({"children", "criteria", "data", "feet", "geese", "mice", "men", "people", "women"})
"""Plurals that do not end in s."""

# Templates are read with their slots told apart by number: ONE and MANY for the pack's noun, NAME for a single name.
_TAGS = {
    **dict.fromkeys(("A", "B", "C"), "ADJ"),
    **dict.fromkeys(("i", "j", "k"), "NAME"),
    "row": "NAMES",
    "n": "NUM",
    "item": "MANY",
    "less": "PHRASE",
    "greater": "PHRASE",
}
_SINGULAR_VERB = "(?:is|was|has|does)"
_PLURAL_VERB = "(?:are|were|have|do)"
_CLAUSE = r"(?:^|\bthat |, |\band |\bif |\bwhere |\bwhen |\bwhenever )"
_OF = r"(?:one|none|some|any|all|each|many|most|number|set|total|sum|share)"
_HEADED = re.compile(
    rf"\b(?:{_OF} of|exception for) (?:the )?(?:ADJ )?MANY"
    rf"(?= (?:(?:that|who) are (?:not )?ADJ )?{_SINGULAR_VERB}\b)"
    rf"|^an? \w+ (?:with|of) NUM MANY(?= {_SINGULAR_VERB}\b)"
)
# What follows a count directly and is no noun.
_NO_NOUNS = r"more|fewer|times|others?|are|is|in|of|both|ADJ|NUM|MANY|ONE|NAME"
_NUMBER_RULES: tuple[tuple[str, str], ...] = (
    (r"\bthere (?:is|was) (?:exactly |only |at least |about )?(?:NUM|some|(?:ADJ )?MANY)\b", "'is' for several"),
    (r"\bthere (?:are|were) (?:exactly |only |at least )?(?:an?|one|every|(?:ADJ )?ONE)\b", "'are' for one"),
    (r"\b(?:MANY|ones|others|those|these|they) (?:is|was)\b", "'is' for several"),
    (r"\bMANY (?:has|does)\b(?! NAME)", "a verb for one after a plural"),
    (rf"\bMANY (?:that|who) {_SINGULAR_VERB}\b", "a verb for one after a plural"),
    (rf"\bMANY (?:that|who) are (?:not )?ADJ {_SINGULAR_VERB}\b", "a verb for one after a plural"),
    (rf"(?<!does )\b(?:ONE|it) (?:(?:that|who) )?{_PLURAL_VERB}\b", "a verb for several after a singular"),
    (rf"\bONE (?:that|who) is (?:not )?ADJ {_PLURAL_VERB}\b", "a verb for several after a singular"),
    (r"\b(?:NUM|all|many|several|few|these|those|both|most|other) (?:ADJ )?ONE\b", "a singular for several"),
    (rf"\b{_OF} of (?:the )?(?:ADJ )?ONE\b|\b(?:among|amongst) (?:the )?(?:ADJ )?ONE\b", "a singular for several"),
    (r"\b(?:every|each|another|an?|one|this)(?: certain)? (?:ADJ )?MANY\b", "a plural for one"),
    (r"^(?:ADJ )?ONE\b", "a singular without 'a', 'every' or the like"),
    (r"\bnumber of (?:ADJ )?MANY (?:\w+ NAME )?are\b|\bwhat are the number\b", "'are' for a number"),
    (r"\bMANY do NAME\b|\bMANY have NAME\b", "'do' for one name"),
    (r"\b(?:do|does) (?:NAME |not )(?:is|was|has|(?!as\b|always\b)\w+[^s\W]s)\b", "a verb with an s after 'do'"),
    (r"(?:\band|, |\bexactly) NUM (?:is|was|has)\b", "'is' for several"),
    (r"^(?:the |all )?NUM \w+ of an? [\w ]+? (?:is|was|has)\b", "'is' for several"),
    (r"^an? (?!total|number|group)[\w ]+? (?:with|of) NUM \w+ (?:are|were|have)\b", "'are' for one"),
    (
        rf"\bNUM (?!(?:{_NO_NOUNS})\b)\w*[^s\W] (?:of|after|before|beyond|in all|in total)\b",
        "a singular for several",
    ),
)
# What may follow a name that opens a clause beside a verb in s or ed; other words there are verbs for several.
_AFTER_NAME = re.compile(
    r"NAME|PHRASE|ADJ|NUM|MANY|ONE|and|or|nor|who|that|which|\w+(?:s|ed|ly)"
    r"|must|may|might|can|could|will|would|shall|should|ought|never|also|not|alone|only|both|either|neither|then|too"
    r"|still|now|just|again|together|combined|in|at|on|of|to|than|by|with|for|from"
    r"|did|had|came|went|held|kept|stood|lay|ran|got|took|sat|won|lost|made|gave|left|put|set|cost|beat|led|met"
)
_AFTER_NAMES = re.compile(r"\w*[^s\W]|\w*ss|always|as|besides|perhaps|sometimes")

_NEGATION = re.compile(
    r"\b(?:not|no|none|never|neither|nor|nobody|nothing|nowhere|cannot|false|untrue|wrong|fails?|lacks?|impossible)\b"
)
_NO_NEGATION = re.compile(r"\bno (?:more|fewer|less|other|doubt)\b|\bnothing but\b|\bnone other\b")
_EXCEPTION = re.compile(r"\b(?:unless|except|excepting|apart from|save|other than|but for|without|or)\b")
# How many negations a template of a kind needs. An exception counts as one in the kinds that negate their condition.
_NEGATIONS = {
    **dict.fromkeys(("fact", "rule", "judge", "some", "judge_every", "judge_some", "override"), 0),
    **dict.fromkeys(("less", "judge_less", "before", "next_after", "places_after", "at", "judge_at", "row"), 0),
    **dict.fromkeys(("amount", "more", "fewer", "times", "together", "how_many", "set_size", "set_count"), 0),
    **dict.fromkeys(("fact_not", "rule_then_not", "judge_not", "some_not", "judge_no", "judge_some_not"), 1),
    **dict.fromkeys(("override_not", "not_at", "rule_if_not", "unless"), 1),
    **dict.fromkeys(("rule_if_not_then_not", "unless_not"), 2),
}
_NEGATED_CONDITION = frozenset({"rule_if_not", "rule_if_not_then_not", "unless", "unless_not"})

_LESS_SIDE = re.compile(
    r"\b(?:before|earlier|sooner|ahead|precede[sd]|left|lower|less|fewer|smaller|shorter|lighter|younger|cheaper|milder"
    r"|cooler|colder|slower|weaker|thinner|narrower|shallower|nearer|worse|softer|quieter)\b"
)
_GREATER_SIDE = re.compile(
    r"\b(?:after|later|behind|follows|followed|succeeds|right|higher|more|greater|larger|bigger|longer|taller|heavier"
    r"|older|dearer|costlier|hotter|warmer|faster|stronger|thicker|wider|deeper|farther|further|better|harder|louder)\b"
)


@dataclass(frozen=True)
class Finding:
    """Something that a pack's author should mend.

    Args:
        rule: The rule that is broken: schema, id, duplicate, antonym, article, plural, agreement, name, spacing,
            negation, relation or reading.
        place: The field or template.
        problem: What is wrong and how to mend it, as a sentence.
    """

    rule: str
    place: str
    problem: str


def articles(pack: Pack) -> Iterator[Finding]:
    """Finds a or an before a slot, whose word may begin either way, and the wrong one before a word.

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    for name, template in _templates(pack):
        if re.search(r"\ban? \{", template):
            yield Finding("article", name, f"{template!r} has an article before a slot; write it without one.")
        yield from _wrong_articles(name, template)
    for place, texts in (
        ("individuals", pack.individuals),
        ("agents", pack.agents),
        ("relations", tuple(text for relation in pack.relations for text in (relation.less, relation.greater))),
        ("cues", tuple(cue for group in pack.cues for cue in group)),
    ):
        for text in texts:
            yield from _wrong_articles(place, text)


def _wrong_articles(place: str, text: str) -> Iterator[Finding]:
    for article, written in re.findall(r"\b([Aa]n?) ([A-Za-z][\w'-]+)", text):
        word = written.lower()
        vowel = bool(re.match(r"[aeiou]", word)) != bool(_CONSONANT_SOUND.match(word) or _SILENT_H.match(word))
        if (article.lower() == "an") != vowel:
            yield Finding("article", place, f"{text!r} has {article!r} before {written!r}; use the other article.")


def numbers(pack: Pack) -> Iterator[Finding]:
    """Finds templates whose nouns and verbs differ in number, such as "there is {n} {item}".

    Names stand for one thing each and every number is at least two.

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    for name, template in _templates(pack):
        told = next(_number_problems(_tagged(template, pack)), None)
        if told:
            yield Finding("agreement", name, f"{template!r} has {told}; mend the noun or the verb.")


def _tagged(template: str, pack: Pack) -> str:
    text = re.sub(r"\{(\w+)\}", lambda match: _TAGS[match[1]], template)
    for noun, tag in ((pack.kind.plural, "MANY"), (pack.kind.singular, "ONE")):
        # Not in "the number of ..." and "place 3", in a domain whose things are called so, nor as a part of a word.
        text = re.sub(rf"(?<![\w'-]){re.escape(noun)}(?![\w'-])(?! of\b| NUM\b)", tag, text)
    return text


def _number_problems(text: str) -> Iterator[str]:
    # "None of the samples is", "a row of 5 places is": the verb belongs to the word before "of".
    single = _HEADED.sub("", text)
    if single != text:
        single = re.sub(r"(?:that|who) are (?:not )?ADJ (?=is\b)", "", single)
    for pattern, told in _NUMBER_RULES:
        if re.search(pattern, single):
            yield told
    # "{i} and {j} have": two names that open a clause are several.
    pairs = re.sub(rf"({_CLAUSE})NAME and NAME\b", r"\1NAMES", text)
    for word in re.findall(rf"{_CLAUSE}NAME (\w+)", pairs):
        if not _AFTER_NAME.fullmatch(word):
            yield f"{word!r} after a single name"
    for word in re.findall(rf"{_CLAUSE}NAMES (\w+)", pairs):
        if not _AFTER_NAMES.fullmatch(word):
            yield f"{word!r} after several names"


def pronouns(pack: Pack) -> Iterator[Finding]:
    """Finds the relative pronoun that the pack does not use: "contracts who are".

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    one, many, other = pack.kind.singular, pack.kind.plural, {"who": "that", "that": "who"}[pack.who]
    for name, template in _templates(pack):
        if re.search(rf"\b({re.escape(one)}|{re.escape(many)}|those) {other} (is|are)\b", template):
            yield Finding("agreement", name, f"{template!r} has {other!r} for {many}; write {pack.who!r}.")


def names(pack: Pack) -> Iterator[Finding]:
    """Finds names of several things, and names that lack the capital which the others have.

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    for place, texts in (("individuals", pack.individuals), ("agents", pack.agents)):
        lasts = Counter(text.split(" ")[-1] for text in texts)
        common, count = lasts.most_common(1)[0]
        plurals = {pack.kind.plural, *(form for last in lasts for form in (f"{last}s", f"{last}es"))}
        if count > len(texts) / 2 and re.fullmatch(r"[a-z]+s", common) and not common.endswith(("ss", "us", "is")):
            plurals.add(common)
        for text in texts:
            last = text.split(" ")[-1]
            if last in plurals and last != pack.kind.singular and last[0].islower():
                yield Finding("name", place, f"{text!r} names several things; use a name of one, in the singular.")
        yield from _missing_capitals(place, texts)


def _missing_capitals(place: str, texts: tuple[str, ...]) -> Iterator[Finding]:
    """Compares names of equally many words, word by word; where nearly all have a capital, the rest lack it."""
    alike: dict[int, list[list[str]]] = defaultdict(list)
    for text in texts:
        alike[text.count(" ")].append(text.split(" "))
    capital = sum(text != text.lower() for text in texts)
    for text in texts:
        words = text.split(" ")
        group = alike[len(words) - 1]
        lacking = [
            word
            for at, word in enumerate(words)
            if word[0].islower() and sum(other[at][0].isupper() for other in group) > 0.6 * len(group)
        ]
        if lacking or (text == text.lower() and capital > 0.6 * len(texts)):
            word = lacking[0] if lacking else text
            yield Finding("name", place, f"{text!r} has no capital in {word!r} as the other names have; write one.")


def spacing(pack: Pack) -> Iterator[Finding]:
    """Finds double spaces, spaces before a comma, commas without a space after, and slots that touch a word.

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    nouns = (("kind", pack.kind.singular), ("kind", pack.kind.plural))
    for place, text in (*nouns, *_templates(pack)):
        if "  " in text or text != text.strip():
            yield Finding("spacing", place, f"{text!r} has a space too many; leave one between words.")
        if re.search(r" ,|,(?! )|^,", text):
            yield Finding("spacing", place, f"{text!r} has a comma set wrongly; write a word, the comma and a space.")
        if re.search(r"\w\{|\}[\w{]", text):
            yield Finding("spacing", place, f"{text!r} has a slot that touches a word; put a space between.")


def negations(pack: Pack) -> Iterator[Finding]:
    """Finds templates that negate too little or too much for their kind: not, no, none, never and the like.

    Left out are the kinds that say that sets do not overlap, or that nothing stands between two places: they may negate
    or not.

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    for name, template in _templates(pack):
        if name not in _NEGATIONS:
            continue
        text = _NO_NEGATION.sub("", template)
        found = len(_NEGATION.findall(text)) + (len(_EXCEPTION.findall(text)) if name in _NEGATED_CONDITION else 0)
        wanted = _NEGATIONS[name]
        if found != wanted:
            told = f"negates {_times(found)}, and {name} negates {_times(wanted)}"
            yield Finding("negation", name, f"{template!r} {told}; add or drop a word such as 'not'.")


def _times(count: int) -> str:
    return {0: "nothing", 1: "once", 2: "twice"}.get(count, f"{count} times")


def relations(pack: Pack) -> Iterator[Finding]:
    """Finds relations whose two phrases are exchanged or go the same way, where their words tell: before, younger, ...

    Args:
        pack: The pack.

    Yields:
        What was found.
    """
    for relation in pack.relations:
        less, greater = _side(relation.less), _side(relation.greater)
        told = f"less {relation.less!r} and greater {relation.greater!r}"
        if less and less == greater:
            yield Finding("relation", "relations", f"{told} go the same way; let the two be opposites.")
        elif less > 0 or greater < 0:
            yield Finding("relation", "relations", f"{told} are exchanged; put before, fewer, younger, ... under less.")


def _side(phrase: str) -> int:
    """Tells which side a phrase is on: -1 for less, 1 for greater, 0 where its words do not tell."""
    if _NEGATION.search(phrase):
        return 0
    return bool(_GREATER_SIDE.search(phrase)) - bool(_LESS_SIDE.search(phrase))


def _templates(pack: Pack) -> Iterator[tuple[str, str]]:
    for name, templates in pack.templates.items():
        for template in templates:
            yield name, template
