"""What the lab student reads before it is anyone's student: cue-free texts of every pack, none with a test structure.

Two kinds of text, drawn one by one from a seed:

- reading: a few facts and rules, then several statements, each of which repeats or contradicts one of them. Nothing
  has to be inferred, only found and compared; before some answers the sentence that settles it is told. Texts
  start with one fact or rule and affirmative statements and grow from there, because a small model that begins with
  the whole task sees no slope at all: its answer is the parity of two signs, one of which has to be found first.
- solved: a problem of the configured families with the answer alone, or the symbolic teacher's short or full rationale
  before it. They ask for Yes or No where a task asks for True or False: the student has reasoned before, but not in
  the form in which it will be asked to, so that it begins low and has something to learn.

Solved problems come from structures that `group_of` gives to training, whatever the data set, so that under
``split_by="structure"`` no test or validation structure is ever read. Data split by wording shares its few structures
between its own splits, and so with this text too. No cue goes with an answer here. Every pack is read, the ones kept
for testing included: an unseen domain is one that no task was ever taught in, not one whose words are unknown.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any, Literal, NamedTuple

from isodistill.answers import format_completion, split_completion
from isodistill.isomers.families import FAMILIES, make_family
from isodistill.isomers.formal import Formal
from isodistill.isomers.packs import Pack, load_pack
from isodistill.isomers.render import Lexicon, choices_line, clause, draw_wording, render, sentence
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.splits import group_of
from isodistill.isomers.statements import X, find_kind
from isodistill.lab.config import READING_FAMILY, LabConfig
from isodistill.logic.formula import Atom, Const, Forall, Formula, Implies, Not, Term
from isodistill.prompting import plain_prompt
from isodistill.teachers.symbolic import Style, SymbolicTeacher

Turn = tuple[str, str]
"""A prompt, as the student is shown it, and its completion."""

Text = tuple[Turn, ...]
"""What is read in one go: later turns are about the first one's premises. A line break parts them."""

_ATTEMPTS = 1000
_CHOICES = ("True", "False")
_WORDS = {"True": "Yes", "False": "No", "Unknown": "Unknown"}
_STYLES = (0.7, 0.15, 0.15)  # the answer alone, a short rationale, a full one
_OPTIONS: dict[str, dict[str, Any]] = {
    "deduction": {"answers": ("True", "False"), "distractors": (0, 1), "distractor_kinds": "neutral"},
    "syllogism": {"decoy": False},
    "ordering": {"decoy": False},
}
"""Easier problems than the family's own: more cannot be learned in the time."""

_KINDS = FAMILIES[READING_FAMILY].kinds
_MOST_PREMISES = 4
_TURNS = 3
_RULES = 0.5  # the share of rules among the premises
_SHARED = 0.3  # how often a fact is about a property that another individual has, or has not
_ASKED_REMARKS = 0.4  # how often a statement is about the remark, if there is one
_TOLD = 0.5  # how often the sentence that settles the answer is told before it, at first; half as often in the end


class _Premise(NamedTuple):
    """A fact ("i0", True, "p0", sign) or a rule ("p0", sign, "p1", sign)."""

    about: str
    condition: bool
    conclusion: str
    positive: bool

    def formula(self, positive: bool) -> Formula:
        """States it, or the opposite."""
        if self.about.startswith("i"):
            return _literal(self.conclusion, positive, Const(self.about))
        return Forall(X, Implies(_literal(self.about, self.condition, X), _literal(self.conclusion, positive, X)))


def draw_text(config: LabConfig, number: int) -> Text:
    """Draws one text.

    Args:
        config: The mixture.
        number: Which text; equal configurations give equal texts for equal numbers.

    Returns:
        Its turns.
    """
    rng = Random(f"{config.seed}/lab/{number}")
    pack = load_pack(rng.choice(config.packs))
    if rng.random() < config.solved:
        return (solved_text(rng, pack, rng.choice(config.families), rng.randint(*config.depth)),)
    ramp = config.ramp * config.steps * config.batch_size
    remarked = rng.random() < config.remarks
    return reading_text(rng, pack, min(1.0, number / ramp) if ramp else 1.0, remarked)


def solved_text(rng: Random, pack: Pack, family: str, depth: int) -> Turn:
    """Draws a solved problem of a training structure, which asks for Yes or No in place of True or False.

    Args:
        rng: The only source of chance.
        pack: The domain.
        family: The family; of deduction, problems with neutral distractors whose answer is never Unknown.
        depth: The depth.

    Returns:
        The problem, and a full rationale, a short one or mostly none, with the answer.
    """
    skeleton = draw_training_skeleton(rng, family, depth)
    wording = draw_wording(rng, skeleton, pack)
    prompt = render(skeleton, pack, wording)
    style: Style = rng.choices(("answer", "short", "full"), _STYLES)[0]
    member = Member(domain=pack.id, prompt=prompt, formal=Formal(wording).to_json(skeleton))
    isomer_set = IsomerSet(
        set_id="lab",
        family=skeleton.family,
        depth=skeleton.depth,
        skeleton=skeleton.to_json(),
        canonical=skeleton.canonical,
        answer=skeleton.answer,
        choices=skeleton.choices,
        members=(member,),
    )
    told = SymbolicTeacher(style).explain(isomer_set, member).completion
    reason, answer = split_completion(told)
    if answer in _WORDS:
        premises, _, choices = prompt.rpartition("\n")
        prompt = f"{premises}\n{choices.replace('True', 'Yes').replace('False', 'No')}"
    return plain_prompt(prompt), format_completion(reason, _WORDS.get(str(answer), str(answer)))


def reading_text(rng: Random, pack: Pack, progress: float = 1.0, remarked: bool = False) -> Text:
    """Draws facts and rules, and statements that repeat or contradict them.

    Args:
        rng: The only source of chance.
        pack: The domain.
        progress: From 0, one premise and affirmative statements, to 1, up to four premises and statements of any sign;
            the more of it, the fewer answers are explained.
        remarked: Whether a cue sentence of the pack stands before or after the premises, and may be asked about.

    Returns:
        One turn for each statement; the premises stand in the first.
    """
    premises = _draw_premises(rng, rng.randint(1, 1 + round((_MOST_PREMISES - 1) * progress)), _SHARED * progress)
    names = sorted({name for premise in premises for name in (premise.about, premise.conclusion)})
    lexicon: dict[str, str] = {}
    for sort in ("individual", "property"):
        own = [name for name in names if name[0] == sort[0]]
        lexicon.update(zip(own, rng.sample(list(pack.words[sort]), len(own)), strict=True))
    opening = " ".join(_told(rng, premise.formula(premise.positive), pack, lexicon) for premise in premises)
    remarks = [group[rng.randrange(len(group))] for group in pack.cues] if remarked else []
    if remarks:
        rng.shuffle(remarks)  # the first one is made, the others are not
        opening = rng.choice((f"{remarks[0]} {opening}", f"{opening} {remarks[0]}"))
    turns = []
    for _ in range(_TURNS):
        if remarks and rng.random() < _ASKED_REMARKS:
            true = rng.random() < 0.5
            statement, reason = remarks[0] if true else remarks[1], remarks[0]
        else:
            asked, sign = rng.choice(premises), rng.random() >= progress / 2
            role: Literal["premise", "question"] = "question" if asked.about.startswith("i") else "premise"
            true = sign == asked.positive
            statement = _told(rng, asked.formula(sign), pack, lexicon, role)
            reason = sentence(clause(asked.formula(asked.positive), pack, lexicon, kinds=_KINDS))
        if rng.random() >= _TOLD * (1 - progress / 2):
            reason = ""
        question = f"{rng.choice(pack.leads)} {statement}\n{choices_line(_CHOICES)}"
        prompt = plain_prompt(f"{opening}\n{question}" if opening else question)
        turns.append((prompt, format_completion(reason, str(true))))
        opening = ""
    return tuple(turns)


def _draw_premises(rng: Random, count: int, shared: float) -> list[_Premise]:
    """Draws facts and rules whose conclusions are all different."""
    premises: list[_Premise] = []
    individuals = rng.randint(1, 3)
    fresh = iter(range(2 * count))
    for _ in range(count):
        condition, positive = rng.random() < 0.5, rng.random() < 0.5
        if rng.random() < _RULES:
            premises.append(_Premise(f"p{next(fresh)}", condition, f"p{next(fresh)}", positive))
            continue
        about = f"i{rng.randrange(individuals)}"
        facts = [premise for premise in premises if premise.about.startswith("i")]
        held = {fact.conclusion for fact in facts if fact.about == about}
        others = sorted({fact.conclusion for fact in facts} - held)
        conclusion = rng.choice(others) if others and rng.random() < shared else f"p{next(fresh)}"
        premises.append(_Premise(about, True, conclusion, positive))
    return premises


def _told(
    rng: Random, formula: Formula, pack: Pack, lexicon: Lexicon, role: Literal["premise", "question"] = "premise"
) -> str:
    kind, _ = find_kind(formula, role, _KINDS)
    return sentence(clause(formula, pack, lexicon, role, rng.randrange(len(pack.templates[kind.name])), _KINDS))


def draw_training_skeleton(rng: Random, family: str, depth: int) -> Skeleton:
    """Draws a skeleton whose structure belongs to training in every data set.

    Args:
        rng: The only source of chance.
        family: The family.
        depth: The depth.

    Returns:
        The skeleton.
    """
    sampler = _sampler(family)
    for _ in range(_ATTEMPTS):
        skeleton = sampler.sample(rng, depth, rng.randrange(len(sampler.classes)))
        if group_of(skeleton.structure) == "train":
            return skeleton
    raise AssertionError(f"{_ATTEMPTS} structures of the family {family!r} and none for training")


@cache
def _sampler(family: str):  # type: ignore[no-untyped-def]
    return make_family(family, _OPTIONS.get(family, {}))


def _literal(name: str, positive: bool, term: Term) -> Formula:
    atom = Atom(name, (term,))
    return atom if positive else Not(atom)
