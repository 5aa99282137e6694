"""Generation of whole data sets: sampled, worded, verified, split and written."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from isodistill.errors import IsodistillError
from isodistill.isomers.audit import ProbeResult, surface_probe
from isodistill.isomers.card import CardInfo
from isodistill.isomers.config import GenerationConfig, prepare
from isodistill.isomers.families import Family
from isodistill.isomers.formal import Cue, Formal
from isodistill.isomers.packs import Pack
from isodistill.isomers.render import Wording, draw_wording, readable, render
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.shortcut import CueMode, cue_text
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.splits import SPLITS, Group, SplitSpec, group_of
from isodistill.isomers.store import check_target, write_dataset
from isodistill.isomers.verify import lengths_fit, verify_set, verify_surface

MAX_ATTEMPTS = 3000
"""How many skeletons are drawn for one set before the problem space counts as exhausted."""

WORDING_ATTEMPTS = 30
"""How often the words of a set are drawn until its members are about equally long."""

AUDIT_SETS = 100
"""Groups with fewer sets are not audited: they are too small to tell."""

Progress = Callable[[str, int, int], None]
"""Told the group of problems, how many of its sets are done, and how many there will be."""


@dataclass(frozen=True)
class GenerationReport:
    """What was generated.

    Args:
        out: The data set's directory.
        splits: The number of sets in each split.
        members: The number of texts, every one verified.
        answers: How many training sets have each answer class.
        rejected: Drawn skeletons that were not used, by reason.
        duplicates: Texts that appear in two places that should differ, and skeletons used more often than allowed;
            counted at the end.
        probes: For train, validation and test, where audited, and each training domain: how well word counts predict
            the answer once the cue is left out.
        seconds: The time it took.
    """

    out: Path
    splits: dict[str, int]
    members: int
    answers: dict[str, int]
    rejected: dict[str, int]
    duplicates: int
    probes: dict[str, dict[str, ProbeResult]]
    seconds: float

    @property
    def members_per_minute(self) -> float:
        """The number of texts written and verified in a minute."""
        return 60 * self.members / self.seconds if self.seconds else 0.0


@dataclass
class _Problem:
    """A skeleton with a wording for each domain, still without cues."""

    set_id: str
    place: str
    skeleton: Skeleton
    wordings: dict[str, Wording]


@dataclass
class _Ledger:
    """What has been used and rejected so far."""

    skeletons: Counter[tuple[Group, str]] = field(default_factory=Counter)
    contents: set[tuple[str, str]] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)


def generate(
    config: GenerationConfig, out: Path, progress: Progress | None = None, overwrite: bool = False
) -> GenerationReport:
    """Generates, verifies and writes a data set.

    Answers take turns, so that they are exactly balanced up to one; within an answer depths take turns. Set n of a
    group depends on the seed, the group and n, and beyond that only on the sets before it, whose skeletons it may not
    repeat: a smaller data set is the beginning of a larger one.

    Args:
        config: Everything that determines the data.
        out: The directory to write.
        progress: Called after each set.
        overwrite: Whether a data set that is already there may be replaced.

    Returns:
        What was generated.

    Raises:
        IsodistillError: If the config is wrong, the place cannot be written, the problem space is too small, or a set
            fails verification; nothing is written then.
    """
    check_target(out, overwrite)
    family, packs = prepare(config)
    started = time.monotonic()
    ledger = _Ledger()
    splits: dict[str, list[IsomerSet]] = {split.name: [] for split in config.splits()}
    answers: Counter[str] = Counter()
    probes: dict[str, dict[str, ProbeResult]] = {}
    for group in dict.fromkeys(split.group for split in config.splits()):
        total = config.count(group)
        shown = [split for split in config.splits() if split.group == group]
        bare: list[IsomerSet] = []
        for index in range(total):
            problem = _draw_problem(config, family, packs, group, index, ledger)
            versions = [_version(config, family, packs, problem, split) for split in shown]
            verify_set(versions[0])
            for version, split in zip(versions, shown, strict=True):
                if version is not versions[0]:
                    verify_surface(version)
                splits[split.name].append(version)
            bare.append(_version(config, family, packs, problem, SplitSpec("bare", group)))
            if group == "train":
                answers[family.classes[family.shortcut_class(problem.skeleton)]] += 1
            if progress is not None:
                progress(group, index + 1, total)
        if config.audit and group != "deeper" and total >= AUDIT_SETS:
            probes[group] = _audit(config, group, bare)
    duplicates = _count_duplicates(config, splits)
    if duplicates:
        raise AssertionError(f"{duplicates} duplicates slipped through")
    write_dataset(out, splits, _card_info(config), overwrite)
    return GenerationReport(
        out=out,
        splits={name: len(sets) for name, sets in splits.items()},
        members=sum(len(isomer_set.members) for sets in splits.values() for isomer_set in sets),
        answers=dict(answers),
        rejected=dict(ledger.rejected),
        duplicates=duplicates,
        probes=probes,
        seconds=time.monotonic() - started,
    )


def _draw_problem(
    config: GenerationConfig,
    family: Family,
    packs: dict[str, Pack],
    group: Group,
    index: int,
    ledger: _Ledger,
) -> _Problem:
    least, most = config.deeper_depths if group == "deeper" else config.depth
    answer_index = index % len(family.classes)
    depth = least + index // len(family.classes) % (most - least + 1)
    wanted = "test" if group == "deeper" else group
    for attempt in range(MAX_ATTEMPTS):
        place = f"{config.seed}/{group}/{index}/{attempt}"
        skeleton = family.sample(Random(place), depth, answer_index)
        if config.split_by == "structure" and group_of(skeleton.structure) != wanted:
            ledger.rejected["structure belongs to another split"] += 1
            continue
        if ledger.skeletons[group, skeleton.canonical] >= config.max_sets_per_skeleton:
            ledger.rejected["skeleton already used"] += 1
            continue
        wordings = _draw_wordings(config, packs, skeleton, place, ledger)
        if wordings is None:
            continue
        ledger.skeletons[group, skeleton.canonical] += 1
        name = hashlib.sha256(f"{place}/{skeleton.canonical}".encode()).hexdigest()[:12]
        return _Problem(f"{family.name}-{name}", place, skeleton, wordings)
    raise IsodistillError(
        f"No new problem for set {index + 1} of {config.count(group)} of the group {group!r} (family {family.name!r}, "
        f"depth {depth}, answer {family.classes[answer_index]}) in {MAX_ATTEMPTS} draws: the space of skeletons is too "
        f"small; raise max_sets_per_skeleton (now {config.max_sets_per_skeleton}), depth or distractors, set "
        "split_by to 'wording', or ask for fewer sets."
    )


def _draw_wordings(
    config: GenerationConfig, packs: dict[str, Pack], skeleton: Skeleton, place: str, ledger: _Ledger
) -> dict[str, Wording] | None:
    """Draws words for all domains until the members are about equally long and none says what an old one says."""
    reasons: Counter[str] = Counter()
    for attempt in range(WORDING_ATTEMPTS):
        wordings = {
            name: draw_wording(Random(f"{place}/{attempt}/{name}"), skeleton, pack) for name, pack in packs.items()
        }
        lengths = {name: len(render(skeleton, pack, wordings[name]).split()) for name, pack in packs.items()}
        contents = {(name, _content(skeleton, wording)) for name, wording in wordings.items()}
        rows = [row for row in (config.domains, config.unseen_domains) if row]
        if not all(lengths_fit([lengths[name] for name in row]) for row in rows):
            reasons["lengths differ too much"] += 1
        elif not ledger.contents.isdisjoint(contents):
            reasons["words already used"] += 1
        else:
            ledger.contents |= contents
            return wordings
    ledger.rejected[reasons.most_common(1)[0][0]] += 1
    return None


def _content(skeleton: Skeleton, wording: Wording) -> str:
    """Writes down what a text says in its domain's words, whatever the order of its premises and the phrasing."""
    premises = sorted(readable(premise, wording.lexicon) for premise in skeleton.premises)
    return "; ".join([*premises, readable(skeleton.question, wording.lexicon)])


def _version(
    config: GenerationConfig, family: Family, packs: dict[str, Pack], problem: _Problem, split: SplitSpec
) -> IsomerSet:
    """Shows a problem as a split does: in its domains, with its cues."""
    skeleton = problem.skeleton
    mode: CueMode = split.cue if config.shortcut is not None else "absent"
    members = []
    for domain in config.unseen_domains if split.unseen else config.domains:
        pack, cue, points_at = packs[domain], None, ""
        if config.shortcut is not None and mode != "absent":
            true_class = family.shortcut_class(skeleton)
            rng = Random(f"{problem.place}/{domain}/cue/{mode}")
            cue_class = config.shortcut.draw_class(rng, true_class, len(family.classes), domain, mode)
            # The same phrase in every split, so that only its key word differs.
            phrase = Random(f"{problem.place}/{domain}/phrase").randrange(len(pack.cues[0]))
            cue = Cue(cue_text(pack, cue_class, phrase), config.shortcut.position)
            points_at = family.classes[cue_class]
        formal = Formal(problem.wordings[domain], cue)
        members.append(
            Member(
                domain=domain,
                prompt=formal.render(skeleton, pack),
                formal=formal.to_json(skeleton),
                cue=points_at,
            )
        )
    return IsomerSet(
        set_id=problem.set_id,
        family=skeleton.family,
        depth=skeleton.depth,
        skeleton=skeleton.to_json(),
        canonical=skeleton.canonical,
        answer=skeleton.answer,
        choices=skeleton.choices,
        members=tuple(members),
    )


def _audit(config: GenerationConfig, group: str, bare: list[IsomerSet]) -> dict[str, ProbeResult]:
    """Probes the texts without cues in each domain."""
    results = {domain: surface_probe(bare, domain) for domain in config.domains}
    for domain, result in results.items():
        # The parity of a number may show in the numbers of the text without giving the number away.
        if result.leaks and bare[0].choices:
            raise IsodistillError(
                f"In group {group!r}, domain {domain!r}, word counts alone predict the answer with an accuracy of "
                f"{result.accuracy:.1%} (chance {result.chance:.1%}): there are too few structures to keep the answers "
                "balanced; raise depth or distractors, set split_by to 'wording', or set audit to false."
            )
    return results


def _count_duplicates(config: GenerationConfig, splits: dict[str, list[IsomerSet]]) -> int:
    """Counts repeated skeletons and texts afresh, from the finished sets alone."""
    groups = {split.name: split.group for split in SPLITS}
    problems = {(groups[name], row.set_id): row.canonical for name, sets in splits.items() for row in sets}
    # Test problems stand in several splits on purpose: each text counts once for its problem and domain.
    shown = {
        (isomer_set.set_id, member.domain, member.prompt)
        for sets in splits.values()
        for isomer_set in sets
        for member in isomer_set.members
    }
    texts = Counter(prompt for _, _, prompt in shown)
    skeletons = Counter((group, canonical) for (group, _), canonical in problems.items())
    extra = sum(max(0, count - config.max_sets_per_skeleton) for count in skeletons.values())
    return extra + sum(count - 1 for count in texts.values())


def _card_info(config: GenerationConfig) -> CardInfo:
    return CardInfo(
        title=f"Isomer sets: {config.family}",
        family=config.family,
        domains=config.domains,
        unseen_domains=config.unseen_domains,
        config=config.model_dump(mode="json"),
    )
