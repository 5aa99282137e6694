"""Proof that a set is what it claims to be; what fails is an error that names the rule it broke."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import load_pack
from isodistill.isomers.parse import expected_choices_line, parse_prompt
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.skeleton import Skeleton, asked_constant
from isodistill.logic.formula import Equals, Int, Not
from isodistill.logic.printer import format_formula
from isodistill.logic.solver import entails, status, unique_value

LENGTH_TOLERANCE = 0.35
"""How far the number of words of a member may lie from the set's median, as a share of the median."""


def verify_skeleton(skeleton: Skeleton) -> None:
    """Proves the answer and every step of the proof.

    Args:
        skeleton: The problem.

    Raises:
        IsodistillError: If z3 finds another answer (rule "label"), a step does not follow from what it uses, or the
            last step does not settle the question (rule "proof").
    """
    asked = asked_constant(skeleton.question)
    found = status(skeleton.premises, skeleton.question) if asked is None else None
    if asked is not None:
        found = str(unique_value(skeleton.premises, asked))
    if found != skeleton.answer or (skeleton.choices and skeleton.answer not in skeleton.choices):
        raise IsodistillError(
            f"Rule label: z3 finds {found}, the skeleton says {skeleton.answer} ({skeleton.canonical}); mend it."
        )
    for place, step in enumerate(skeleton.proof):
        if any(use >= len(skeleton.premises) + place for use in step.uses):
            raise IsodistillError(f"Rule proof: step {place} uses a later step; let it use earlier ones only.")
        if not entails(skeleton.facts(step.uses), step.conclusion):
            raise IsodistillError(
                f"Rule proof: step {place}, {format_formula(step.conclusion)}, does not follow from what it uses "
                f"({skeleton.canonical}); mend the proof."
            )
    if skeleton.answer == "Unknown":
        return
    goal = skeleton.question
    if asked is not None:
        goal = Equals(asked, Int(int(skeleton.answer)))
    elif skeleton.answer == "False":
        goal = Not(goal)
    if not skeleton.proof or not entails([skeleton.proof[-1].conclusion], goal):
        raise IsodistillError(
            f"Rule proof: the last step does not settle the question ({skeleton.canonical}); complete the proof."
        )


def verify_member(skeleton: Skeleton, member: Member, set_id: str = "") -> None:
    """Proves that a text says what the skeleton says, by reading it back, and that it can be written again.

    Args:
        skeleton: The set's skeleton.
        member: The member.
        set_id: Named in errors.

    Raises:
        IsodistillError: If the text, read by the parser, is another problem (rule "round trip"), its record does not
            reproduce it (rule "replay"), or its cue is not the recorded one (rule "cue").
    """
    where = f"Set {set_id!r}, domain {member.domain!r}"
    pack = load_pack(member.domain)
    formal = member.load_formal(set_id)
    try:
        replay = formal.render(skeleton, pack)
    except (IndexError, KeyError, ValueError):
        replay = ""
    if replay != member.prompt:
        raise IsodistillError(f"{where} breaks the rule replay: its record does not write its text; generate it again.")
    reading = parse_prompt(member.prompt, pack, None if formal.cue is None else formal.cue.text)
    theme = skeleton.theme
    same_theme = reading.theme == (None if theme is None else formal.wording.lexicon.get(theme.name))
    same_choices = reading.choices_line == expected_choices_line(skeleton.choices)
    if reading.canonical != skeleton.canonical or not same_theme or not same_choices:
        raise IsodistillError(
            f"{where} breaks the rule round trip: the text reads as {reading.canonical}, the skeleton is "
            f"{skeleton.canonical}; mend the pack's templates."
        )
    if reading.cues != (() if formal.cue is None else (formal.cue.text,)) or bool(member.cue) != bool(reading.cues):
        raise IsodistillError(
            f"{where} breaks the rule cue: the text's cue is not the recorded one; generate it again."
        )


def lengths_fit(words: Sequence[int]) -> bool:
    """Tells whether the members of a set are about equally long.

    Args:
        words: The number of words of each member, without cues.

    Returns:
        ``True`` if each lies within `LENGTH_TOLERANCE` of the median.
    """
    median = statistics.median(words)
    return all(abs(count - median) <= LENGTH_TOLERANCE * median for count in words)


def verify_set(isomer_set: IsomerSet) -> None:
    """Proves the skeleton, then every member, then that the members differ by nothing but their words.

    Args:
        isomer_set: The set.

    Raises:
        IsodistillError: If the set breaks a rule: label, proof, round trip, replay, cue, record, length or numbers.
    """
    skeleton, name = isomer_set.logic, isomer_set.set_id
    stated = (isomer_set.family, isomer_set.depth, isomer_set.canonical, isomer_set.answer, isomer_set.choices)
    found = (skeleton.family, skeleton.depth, skeleton.canonical, skeleton.answer, skeleton.choices)
    if stated != found:
        raise IsodistillError(f"Set {name!r} breaks the rule record: its columns differ from its skeleton; rebuild it.")
    try:
        verify_skeleton(skeleton)
    except IsodistillError as error:
        raise IsodistillError(f"Set {name!r}: {error}") from None
    verify_surface(isomer_set)


def verify_surface(isomer_set: IsomerSet) -> None:
    """Proves everything about a set but its skeleton: for several versions of a set, whose skeleton is proved once.

    Args:
        isomer_set: The set.

    Raises:
        IsodistillError: If a member breaks a rule, or the members differ in length or in their numbers.
    """
    skeleton, name = isomer_set.logic, isomer_set.set_id
    lengths, numbers = {}, {}
    for member in isomer_set.members:
        verify_member(skeleton, member, name)
        cue = member.load_formal(name).cue
        lengths[member.domain] = len(member.prompt.split()) - (len(cue.text.split()) if cue else 0)
        numbers[member.domain] = sorted(re.findall(r"\d+", member.prompt))
    if not lengths_fit(list(lengths.values())):
        raise IsodistillError(
            f"Set {name!r} breaks the rule length: its members have {lengths} words, more than "
            f"{LENGTH_TOLERANCE:.0%} from their median; draw other templates."
        )
    if any(found != numbers[isomer_set.members[0].domain] for found in numbers.values()):
        raise IsodistillError(f"Set {name!r} breaks the rule numbers: they differ between domains; generate it again.")
