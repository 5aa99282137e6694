"""Generation of whole data sets: sampled, worded, verified, split and written."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.audit import ProbeResult, surface_probe
from isodistill.isomers.card import CardInfo
from isodistill.isomers.families import Family, make_family
from isodistill.isomers.formal import Cue, Formal
from isodistill.isomers.packs import TRAINING_PACKS, UNSEEN_PACKS, Pack, load_pack
from isodistill.isomers.render import Wording, draw_wording, readable, render
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.shortcut import CueMode, Shortcut, check_packs, cue_text
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.splits import SPLITS, Group, SplitBy, SplitSpec, group_of
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


def _depths(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= bounds[0] <= bounds[1]:
        raise ValueError("depths must be (least, most) with 1 <= least <= most")
    return bounds


Depths = Annotated[tuple[int, int], AfterValidator(_depths)]


class GenerationConfig(BaseModel):
    """Everything that determines a data set.

    Args:
        family: The problem family.
        options: The family's options by name.
        domains: The training domains, ids of domain packs.
        unseen_domains: Domains for testing only.
        sets: The number of training sets.
        validation_sets: The number of validation sets.
        test_sets: The number of test problems, and of deeper ones.
        depth: The least and the most depth.
        deeper: The least and the most depth of the split ``deeper``; by default the next two depths.
        shortcut: The shortcut to plant, if any.
        seed: The seed: equal configs give equal data.
        max_sets_per_skeleton: How many sets may share a skeleton, each in other words; more than one is needed where
            short problems leave fewer skeletons than sets.
        split_by: ``"structure"``: train, validation and test share no structure; ``"wording"``: they may, but no
            problem appears twice in the same words. Short problems, which have few structures, need the latter.
        audit: Whether it is an error if a linear probe on word counts can tell the answer (the cue left out).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = "deduction"
    options: dict[str, Any] = Field(default_factory=dict)
    domains: tuple[str, ...] = TRAINING_PACKS
    unseen_domains: tuple[str, ...] = UNSEEN_PACKS
    sets: int = Field(default=500, ge=1)
    validation_sets: int = Field(default=100, ge=0)
    test_sets: int = Field(default=200, ge=0)
    depth: Depths = (1, 3)
    deeper: Depths | None = None
    shortcut: Shortcut | None = None
    seed: int = 0
    max_sets_per_skeleton: int = Field(default=1, ge=1)
    split_by: SplitBy = "structure"
    audit: bool = True

    @model_validator(mode="after")
    def _check(self) -> GenerationConfig:
        every = (*self.domains, *self.unseen_domains)
        if not self.domains or len(set(every)) != len(every):
            raise ValueError("domains must name at least one pack, and no pack twice among domains and unseen_domains")
        if self.deeper is not None and self.deeper[0] <= self.depth[1]:
            raise ValueError("deeper must begin above depth")
        return self

    @property
    def deeper_depths(self) -> tuple[int, int]:
        """The least and the most depth of the split ``deeper``."""
        return self.deeper or (self.depth[1] + 1, self.depth[1] + 2)

    def count(self, group: Group) -> int:
        """Tells how many problems a group has."""
        return {"train": self.sets, "validation": self.validation_sets}.get(group, self.test_sets)

    def splits(self) -> tuple[SplitSpec, ...]:
        """Lists the splits that the data set will have, in order."""
        return tuple(
            split
            for split in SPLITS
            if self.count(split.group)
            and not (split.only_with_shortcut and self.shortcut is None)
            and not (split.unseen and not self.unseen_domains)
        )


def make_config(**values: Any) -> GenerationConfig:
    """Builds a config from plain values, with errors for people.

    Args:
        **values: The fields of `GenerationConfig`.

    Returns:
        The config, with family, options, domains and shortcut checked.

    Raises:
        IsodistillError: If a field is unknown or has a wrong value.
    """
    try:
        config = GenerationConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the combination of fields"
        raise IsodistillError(
            f"In the generation config, {place}: {first['msg'].removeprefix('Value error, ')}; mend it."
        ) from None
    _prepare(config)
    return config


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

    skeletons: Counter[str] = field(default_factory=Counter)
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
    family, packs = _prepare(config)
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


def _prepare(config: GenerationConfig) -> tuple[Family, dict[str, Pack]]:
    family = make_family(config.family, config.options)
    packs = {name: load_pack(name) for name in (*config.domains, *config.unseen_domains)}
    if config.shortcut is not None:
        check_packs(list(packs.values()), len(family.classes))
        for domain in config.domains:
            config.shortcut.rate_in(domain)
    return family, packs


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
        if ledger.skeletons[skeleton.canonical] >= config.max_sets_per_skeleton:
            ledger.rejected["skeleton already used"] += 1
            continue
        wordings = _draw_wordings(config, packs, skeleton, place, ledger)
        if wordings is None:
            continue
        ledger.skeletons[skeleton.canonical] += 1
        name = hashlib.sha256(f"{place}/{skeleton.canonical}".encode()).hexdigest()[:12]
        return _Problem(f"{family.name}-{name}", place, skeleton, wordings)
    raise IsodistillError(
        f"No new problem for set {index + 1} of {config.count(group)} of the group {group!r} (family {family.name!r}, "
        f"depth {depth}, answer {family.classes[answer_index]}) in {MAX_ATTEMPTS} draws: the space of skeletons is too "
        f"small; raise max_sets_per_skeleton (now {config.max_sets_per_skeleton}), depth or distractors, set split_by to "
        "'wording', or ask for fewer sets."
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
    problems = {isomer_set.set_id: isomer_set for sets in splits.values() for isomer_set in sets}
    # Test problems stand in several splits on purpose: each text counts once for its problem and domain.
    shown = {
        (isomer_set.set_id, member.domain, member.prompt)
        for sets in splits.values()
        for isomer_set in sets
        for member in isomer_set.members
    }
    texts = Counter(prompt for _, _, prompt in shown)
    skeletons = Counter(isomer_set.canonical for isomer_set in problems.values())
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
