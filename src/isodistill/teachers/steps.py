"""Checks a rationale against the proof: no statement in it may go beyond what the problem entails."""

from __future__ import annotations

import re
from functools import lru_cache

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import load_pack
from isodistill.isomers.parse import Reading, parse_prompt
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.logic.formula import Formula, predicates
from isodistill.logic.solver import entails

_SENTENCE_ENDS = re.compile(r"[.!?;](?:\s+|$)|\n+")
_JOINTS = re.compile(r"(, (?:(?:and|so|but|hence|therefore|which means(?: that)?) )?)")
_OPENINGS = re.compile(
    r"^(?:(?:[-*•]|\d+[.)]|step \d+:?|so|then|thus|hence|therefore|since|because|as|and|next|first|now|finally"
    r"|it follows that|we know that|we conclude that|this means that)[,:]?\s+)+",
    re.IGNORECASE,
)
_MOST_CLAUSES = 8


def check_steps(isomer_set: IsomerSet, member: Member, rationale: str) -> str | None:
    """Reads every statement of a rationale that is in the problem's own language, and proves it from the premises.

    Sentences in other words are passed over: a free text says much that no formula says. So a rationale that passes
    contradicts nothing that can be read, and one that fails claims something that does not follow.

    Args:
        isomer_set: The set.
        member: The member.
        rationale: The chain of thought; untrusted text.

    Returns:
        ``"unsupported step"``, or ``None`` where every readable statement follows, or the member is not in the
        language of a domain pack.
    """
    reading = _read(member.prompt, member)
    if reading is None:
        return None
    formulas = [formula for sentence in _SENTENCE_ENDS.split(rationale) for formula in _statements(sentence, member)]
    talks_of_things = bool(_predicates((*reading.premises, reading.question)))
    for formula in formulas:
        if _predicates((formula,)) and not talks_of_things:
            continue  # a problem in numbers has no formulas about things to prove it from
        if not _follows(reading.premises, formula):
            return "unsupported step"
    return None


def _statements(sentence: str, member: Member) -> list[Formula]:
    """Reads a sentence, as much of it at once as can be read: a part of a statement may mean something else."""
    parts = _JOINTS.split(sentence)[: 2 * _MOST_CLAUSES - 1]  # clauses at the even places, joints at the odd
    found = []
    start = 0
    while start < len(parts):
        for end in range(len(parts), start, -2):
            if (formula := _statement("".join(parts[start:end]), member)) is not None:
                found.append(formula)
                break
        else:
            end = start + 1
        start = end + 1
    return found


def _statement(clause: str, member: Member) -> Formula | None:
    """Reads a clause as the only premise of the member's problem, or else as its question."""
    clause = _OPENINGS.sub("", clause.strip()).strip(" .,")
    if not clause or len(clause) > 300:
        return None
    told, *asked = member.prompt.split("\n")
    text = f"{clause[0].upper()}{clause[1:]}."
    as_premise = _read("\n".join([text, *asked]), member)
    if as_premise is not None and len(as_premise.premises) == 1:
        return as_premise.premises[0]
    lead = next((lead for lead in load_pack(member.domain).leads if asked[0].startswith(f"{lead} ")), None)
    if lead is None:
        return None
    as_question = _read("\n".join([told, f"{lead} {text}", *asked[1:]]), member)
    return None if as_question is None else as_question.question


def _read(text: str, member: Member) -> Reading | None:
    try:
        cue = member.load_formal("").cue if member.cue else None
        return parse_prompt(text, load_pack(member.domain), None if cue is None else cue.text)
    except IsodistillError:
        return None


def _predicates(formulas: tuple[Formula, ...]) -> set[str]:
    return {name for formula in formulas for name in predicates(formula)}


@lru_cache(maxsize=4096)
def _follows(premises: tuple[Formula, ...], formula: Formula) -> bool:
    return formula in premises or entails(premises, formula)
