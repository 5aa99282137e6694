"""What the lab student reads before it is anyone's student: cue-free texts of every pack, none with a test structure.

Three kinds of text, drawn one by one from a seed:

- statements: the premises of a problem of any family, then the same premises in other phrases of the same domain;
- reading: a few facts and a statement that repeats, contradicts or does not touch one of them, with its answer;
- solved: a problem of the configured families with the symbolic teacher's full or short rationale, or the answer alone.

Statements and solved problems come from structures that `group_of` gives to training, whatever the data set, so that
under ``split_by="structure"`` no test or validation structure is ever read. Data split by wording shares its few
structures between its own splits, and so with this text too. Cue sentences are never read. Every pack is read, the ones
kept for testing included: an unseen domain is one that no task was ever taught in, not one whose words are unknown.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

from isodistill.answers import format_completion
from isodistill.isomers.families import FAMILIES, make_family
from isodistill.isomers.formal import Formal
from isodistill.isomers.packs import Pack, available_packs, load_pack
from isodistill.isomers.render import Wording, clause, draw_wording, render, sentence
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.skeleton import Skeleton, Symbol
from isodistill.isomers.splits import group_of
from isodistill.lab.config import LabConfig
from isodistill.logic.formula import Atom, Const, Formula, Not
from isodistill.prompting import plain_prompt
from isodistill.teachers.symbolic import Style, SymbolicTeacher
from isodistill.teachers.tellings.voice import VERDICTS

Text = tuple[str, str]
"""A prompt and its completion; the prompt is empty for text that only tells."""

_ATTEMPTS = 1000


def draw_text(config: LabConfig, number: int) -> Text:
    """Draws one text.

    Args:
        config: The mixture.
        number: Which text; equal configurations give equal texts for equal numbers.

    Returns:
        The prompt, as the student is shown it, and the completion.
    """
    rng = Random(f"{config.seed}/lab/{number}")
    pack = load_pack(rng.choice(available_packs()))
    if number < config.lists * config.steps * config.batch_size:
        return list_text(rng, pack)
    kind = rng.random()
    if kind < config.solved:
        return solved_text(rng, pack, rng.choice(config.families), rng.randint(*config.depth))
    if kind < config.solved + config.reading:
        return reading_text(rng, pack)
    return statements_text(rng, pack)


def solved_text(rng: Random, pack: Pack, family: str, depth: int) -> Text:
    """Draws a solved problem of a training structure.

    Args:
        rng: The only source of chance.
        pack: The domain.
        family: The family, with its default options.
        depth: The depth.

    Returns:
        The problem, and a full rationale, a short one or none, with the answer.
    """
    skeleton = draw_training_skeleton(rng, family, depth)
    wording = draw_wording(rng, skeleton, pack)
    prompt = render(skeleton, pack, wording)
    style: Style | None = rng.choice((None, "short", "full"))
    if style is None:
        return plain_prompt(prompt), format_completion("", skeleton.answer)
    return plain_prompt(prompt), _explained(skeleton, pack, wording, prompt, style)


def reading_text(rng: Random, pack: Pack) -> Text:
    """Draws facts and a statement on one of them: nothing has to be inferred.

    Args:
        rng: The only source of chance.
        pack: The domain.

    Returns:
        The problem and its answer.
    """
    pairs = [(f"c{i}", f"p{j}") for i in range(3) for j in range(3)]
    facts = {pair: rng.random() < 0.5 for pair in rng.sample(pairs, rng.randint(1, 4))}
    asked, stated = rng.choice(list(facts)), rng.random() < 0.7
    choices: tuple[str, ...] = ("True", "False")
    answer = str(facts[asked] == stated)
    if rng.random() < 0.5:
        choices = (*choices, "Unknown")
        if rng.random() < 1 / 3:
            asked, answer = rng.choice([pair for pair in pairs if pair not in facts]), "Unknown"
    names = dict.fromkeys(name for pair in (*facts, asked) for name in pair)
    skeleton = Skeleton(
        family="deduction",
        depth=0,
        symbols=tuple(Symbol(name, "property" if name[0] == "p" else "individual") for name in names),
        premises=tuple(_literal(pair, positive) for pair, positive in facts.items()),
        question=_literal(asked, stated),
        answer=answer,
        choices=choices,
        proof=(),
    )
    wording = draw_wording(rng, skeleton, pack)
    fact = "" if answer == "Unknown" else sentence(clause(_literal(asked, facts[asked]), pack, wording.lexicon))
    rationale = f"{fact} {VERDICTS[answer]}" if fact and rng.random() < 0.5 else ""
    return plain_prompt(render(skeleton, pack, wording)), format_completion(rationale, answer)


def statements_text(rng: Random, pack: Pack) -> Text:
    """Draws the premises of a problem, told twice in different phrases.

    Args:
        rng: The only source of chance.
        pack: The domain.

    Returns:
        An empty prompt and the two lines.
    """
    skeleton = draw_training_skeleton(rng, rng.choice(list(FAMILIES)), 1)
    skeleton = replace(skeleton, premises=tuple(rng.sample(skeleton.premises, min(2, len(skeleton.premises)))))
    wording = draw_wording(rng, skeleton, pack)
    other = replace(draw_wording(rng, skeleton, pack), lexicon=wording.lexicon)
    return "", "\n".join(render(skeleton, pack, each).split("\n")[0] for each in (wording, other))


def list_text(rng: Random, pack: Pack) -> Text:
    """Draws a list of words of all sorts, told twice: every word of a pack comes up, and copying is learnt early.

    Args:
        rng: The only source of chance.
        pack: The domain.

    Returns:
        An empty prompt and the two lines.
    """
    line = " ".join(rng.sample(_words(pack), rng.randint(4, 10)))
    return "", f"{line}\n{line}"


@cache
def _words(pack: Pack) -> list[str]:
    texts = (word for sort in pack.words.values() for word in sort.values() if isinstance(word, str))
    return sorted({word for text in texts for word in text.split()})


def draw_training_skeleton(rng: Random, family: str, depth: int) -> Skeleton:
    """Draws a skeleton whose structure belongs to training in every data set.

    Args:
        rng: The only source of chance.
        family: The family, with its default options.
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
    return make_family(family)


def _literal(pair: tuple[str, str], positive: bool) -> Formula:
    atom = Atom(pair[1], (Const(pair[0]),))
    return atom if positive else Not(atom)


def _explained(skeleton: Skeleton, pack: Pack, wording: Wording, prompt: str, style: Style) -> str:
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
    return SymbolicTeacher(style).explain(isomer_set, member).completion
