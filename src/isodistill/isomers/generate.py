"""Generation of whole data sets: sampled, worded, verified, split and written."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.audit import AuditReport, audit_dataset
from isodistill.isomers.card import CardInfo, card_text, data_digest
from isodistill.isomers.config import GenerationConfig, prepare
from isodistill.isomers.drafts import Draft, Piece, open_draft
from isodistill.isomers.families import Family
from isodistill.isomers.formal import Cue, Formal
from isodistill.isomers.ledger import Ledger
from isodistill.isomers.noise import NOISY_SPLIT, LabelNoise
from isodistill.isomers.packs import Pack, load_pack, write_packs
from isodistill.isomers.probes import ProbeResult
from isodistill.isomers.render import Wording, content, draw_wording, render
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.shortcut import CueMode, cue_text
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.splits import Group, SplitSpec, group_of
from isodistill.isomers.store import PACKS_FOLDER, check_target, replacing
from isodistill.isomers.surface import SurfaceAudit, audit_rows, surface_threshold
from isodistill.isomers.verify import lengths_fit, verify_set, verify_surface

MAX_ATTEMPTS = 3000
"""How many skeletons are drawn for one set before the problem space counts as exhausted."""

WORDING_ATTEMPTS = 30
"""How often the words of a set are drawn until its members are about equally long."""

PIECE = 200
"""After so many problems what is finished is written down, for a run that goes on after a kill."""

DRAFT_VERSION = 2
"""Changes whenever the same config gives other data: a draft of another version is not continued."""

REFUSING_PROBES: tuple[Literal["words", "ngrams", "pairs"], ...] = ("words",)
"""The probes that may refuse a data set before it is there; `isodistill audit` objects to what any of them finds."""

Progress = Callable[[str, int, int], None]
"""Told the group of problems, how many of its sets are done, and how many there will be."""


_TOLD_BY = {"words": "word counts", "ngrams": "runs of words", "pairs": "pairs of words"}


@dataclass(frozen=True)
class GenerationReport:
    """What was generated.

    Args:
        out: The data set's directory.
        splits: The number of sets in each split.
        members: The number of texts, every one verified.
        answers: How many training sets have each answer class.
        rejected: Drawn skeletons that were not used, by reason.
        duplicates: Texts and structures that appear in two places that should differ; counted at the end.
        probes: For train, validation and test, where audited, and each training domain: how well word counts predict
            the answer once the cue is left out.
        resumed: How many problems an earlier run had left.
        seconds: The time it took.
    """

    out: Path
    splits: dict[str, int]
    members: int
    answers: dict[str, int]
    rejected: dict[str, int]
    duplicates: int
    probes: dict[str, dict[str, ProbeResult]]
    resumed: int
    seconds: float

    @property
    def members_per_minute(self) -> float:
        """The number of texts written and verified in a minute."""
        return 60 * self.members / self.seconds if self.seconds else 0.0


class _SurfaceTells(IsodistillError):
    """All problems are there, and their surface tells the answers."""


@dataclass
class _Problem:
    """A skeleton with a wording for each domain that it is told in, still without cues."""

    set_id: str
    place: str
    skeleton: Skeleton
    wordings: dict[str, Wording]


def generate(
    config: GenerationConfig, out: Path, progress: Progress | None = None, overwrite: bool = False
) -> GenerationReport:
    """Generates, verifies and writes a data set.

    Answers take turns, so that they are exactly balanced up to one; within an answer depths take turns. Set n of a
    group depends on the seed, the group and n, and beyond that only on the sets before it, whose skeletons it may not
    repeat: a smaller data set is the beginning of a larger one. What is finished is kept in a hidden folder beside the
    place: the same config goes on from there after a kill, and ends in the same bytes.

    Where the audit objects to the surface of the finished problems, they stay in that folder too. What is drawn does
    not depend on `audit`: the same config with ``audit=False`` takes them over and draws nothing again. The same
    config as it is objects again at once, and any other config draws other problems and starts anew.

    Args:
        config: Everything that determines the data.
        out: The directory to write.
        progress: Called after each set.
        overwrite: Whether a data set that is already there may be replaced.

    Returns:
        What was generated.

    Raises:
        IsodistillError: If the config is wrong, the place cannot be written, the problem space is too small, a set
            fails verification, or the surface tells the answers; there is no data set then.
    """
    check_target(out, overwrite)
    family, packs = prepare(config)
    started = time.monotonic()
    ledger = Ledger()
    groups = list(dict.fromkeys(split.group for split in config.splits()))
    info = _card_info(config, packs)
    with open_draft(out, _source(info)) as draft:
        resumed = sum(piece.problems for group in groups for piece in draft.pieces(group))
        try:
            for group in groups:
                _fill(config, family, packs, group, draft, ledger, progress)
            with replacing(out, overwrite) as folder:
                audit = _finish(config, draft, folder, info)
        except IsodistillError as error:
            # Unless the disk failed or all problems are there, the same config would fail in the same way again:
            # nothing to go on from.
            if not isinstance(error, _SurfaceTells) and not isinstance(error.__cause__, OSError):
                draft.discard()
            raise
        draft.discard()
    probes: dict[str, dict[str, ProbeResult]] = {}
    for surface in audit.surfaces:
        probed = {"train": "train", "validation": "validation", "iid": "test"}.get(surface.split)
        if config.audit and probed and surface.words:
            probes.setdefault(probed, {})[surface.domain] = surface.words
    return GenerationReport(
        out=out,
        splits={split.name: config.count(split.group) for split in config.splits()},
        members=ledger.members,
        answers=dict(ledger.answers),
        rejected=dict(ledger.rejected),
        duplicates=len(audit.duplicates),
        probes=probes,
        resumed=resumed,
        seconds=time.monotonic() - started,
    )


def _fill(
    config: GenerationConfig,
    family: Family,
    packs: dict[str, Pack],
    group: Group,
    draft: Draft,
    ledger: Ledger,
    progress: Progress | None,
) -> None:
    """Draws the problems of a group that its draft does not have yet, and writes them down a piece at a time."""
    pieces = draft.pieces(group)
    for piece in pieces:
        ledger.read(piece.state)
    done, total = sum(piece.problems for piece in pieces), config.count(group)
    if done and progress is not None:
        progress(group, done, total)
    shown = [split for split in config.splits() if split.group == group]
    for number in range(len(pieces), -(-total // PIECE)):
        splits: dict[str, list[IsomerSet]] = {split.name: [] for split in shown}
        first = done
        while done < min(total, first + PIECE):
            problem = _draw_problem(config, family, packs, group, done, ledger)
            versions = [_version(config, family, packs, problem, split) for split in shown]
            verify_set(versions[0])
            for version, split in zip(versions, shown, strict=True):
                if version is not versions[0]:
                    verify_surface(version)
                splits[split.name].append(version)
                ledger.members += len(version.members)
            if group == "train":
                ledger.answers[family.classes[family.shortcut_class(problem.skeleton)]] += 1
            done += 1
            if progress is not None:
                progress(group, done, total)
        draft.add(group, number, splits, Piece(done - first, ledger.note()))


def _finish(config: GenerationConfig, draft: Draft, folder: Path, info: CardInfo) -> AuditReport:
    """Puts the pieces together, audits the whole and writes its card."""
    (folder / "data").mkdir()
    for split in config.splits():
        draft.join(split.group, split.name, folder / "data" / f"{split.name}.parquet")
    source = config.shortcut.sentences_of if config.shortcut is not None else None
    told = (*config.domains, *config.unseen_domains, *([] if source is None else [source]))
    write_packs(frozenset(told), folder / PACKS_FOLDER)
    counts = {split.name: config.count(split.group) for split in config.splits()}
    card = folder / "README.md"
    digest = data_digest(folder)
    card.write_text(card_text(info, counts, digest), encoding="utf-8")
    audit = audit_dataset(folder, verify=False)
    if audit.duplicates:
        raise AssertionError(f"{len(audit.duplicates)} duplicates slipped through: {audit.duplicates[0]}")
    if config.audit:
        _refuse_telling(audit.surfaces, draft.folder)
    update = {"audit": audit_rows(audit.surfaces)}
    card.write_text(card_text(info.model_copy(update=update), counts, digest), encoding="utf-8")
    return audit


def _refuse_telling(surfaces: Sequence[SurfaceAudit], kept: Path) -> None:
    """Objects to what the probes find that may refuse a data set, beyond the doubt that `isodistill audit` allows."""
    z = surface_threshold(surfaces)
    for surface in surfaces:
        if surface.numeric or surface.split not in ("train", "validation", "iid"):
            continue
        found = {"words": surface.words, "ngrams": surface.ngrams, "pairs": surface.pairs}
        for name in REFUSING_PROBES:
            result = found[name]
            if result is not None and result.leaks_at(z):
                raise _SurfaceTells(
                    f"In split {surface.split!r}, domain {surface.domain!r}, {_TOLD_BY[name]} alone predict the answer "
                    f"with an accuracy of {result.accuracy:.1%} (chance {result.chance:.1%}): there are too few "
                    "structures to keep the answers balanced; raise depth or distractors, set split_by to 'wording', "
                    f"or set audit to false. The problems are kept in {kept}: with audit false, and all else as it is, "
                    "the data set is made of them; with any other change they are drawn anew."
                )


def _source(info: CardInfo) -> str:
    """Writes down everything that determines the problems: a draft is continued only if this is the same."""
    # Whether the surface is audited changes nothing that is drawn.
    config = {name: value for name, value in info.config.items() if name != "audit"}
    data = {"version": DRAFT_VERSION, "piece": PIECE, "packs": info.packs, "config": config}
    return json.dumps(data, sort_keys=True)


def _draw_problem(
    config: GenerationConfig,
    family: Family,
    packs: dict[str, Pack],
    group: Group,
    index: int,
    ledger: Ledger,
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
        digest = _digest(f"{group} {skeleton.canonical}")
        if ledger.skeletons[digest] >= config.max_sets_per_skeleton:
            ledger.rejected["skeleton already used"] += 1
            continue
        told = packs
        if group == "train" and config.told_in is not None:
            told = {name: packs[name] for name in Random(f"{place}/domains").sample(config.domains, config.told_in)}
        worded = _draw_wordings(config, told, skeleton, place, ledger)
        if worded is None:
            continue
        wordings, contents = worded
        ledger.use(digest, contents)
        name = hashlib.sha256(f"{place}/{skeleton.canonical}".encode()).hexdigest()[:12]
        return _Problem(f"{family.name}-{name}", place, skeleton, wordings)
    raise IsodistillError(
        f"No new problem for set {index + 1} of {config.count(group)} of the group {group!r} (family {family.name!r}, "
        f"depth {depth}, answer {family.classes[answer_index]}) in {MAX_ATTEMPTS} draws: the space of skeletons is too "
        f"small; raise max_sets_per_skeleton (now {config.max_sets_per_skeleton}), depth or distractors, set "
        "split_by to 'wording', or ask for fewer sets."
    )


def _draw_wordings(
    config: GenerationConfig, packs: dict[str, Pack], skeleton: Skeleton, place: str, ledger: Ledger
) -> tuple[dict[str, Wording], list[str]] | None:
    """Draws words for the packs until the members are about equally long and none says what an old one says."""
    reasons: Counter[str] = Counter()
    for attempt in range(WORDING_ATTEMPTS):
        wordings = {
            name: draw_wording(Random(f"{place}/{attempt}/{name}"), skeleton, pack) for name, pack in packs.items()
        }
        lengths = {name: len(render(skeleton, pack, wordings[name]).split()) for name, pack in packs.items()}
        contents = [_digest(f"{name} {content(skeleton, wording.lexicon)}") for name, wording in wordings.items()]
        rows = [[lengths[n] for n in names if n in packs] for names in (config.domains, config.unseen_domains)]
        if not all(lengths_fit(row) for row in rows if row):
            reasons["lengths differ too much"] += 1
        elif not ledger.contents.isdisjoint(contents):
            reasons["words already used"] += 1
        else:
            return wordings, contents
    ledger.rejected[reasons.most_common(1)[0][0]] += 1
    return None


def _version(
    config: GenerationConfig, family: Family, packs: dict[str, Pack], problem: _Problem, split: SplitSpec
) -> IsomerSet:
    """Shows a problem as a split does: in its domains, with its cues."""
    skeleton = problem.skeleton
    mode: CueMode = split.cue if config.shortcut is not None else "absent"
    noise = LabelNoise(config.label_noise if split.name == NOISY_SPLIT else 0.0, config.seed)
    members = []
    shown = config.unseen_domains if split.unseen else config.domains
    for domain in (name for name in shown if name in problem.wordings):
        pack, cue, points_at = packs[domain], None, ""
        if config.shortcut is not None and mode != "absent":
            # A cue goes with the answer that is taught, which is wrong in noisy training sets.
            wrong = noise.wrong_answer(problem.set_id, skeleton.answer, skeleton.choices)
            true_class = family.shortcut_class(skeleton if wrong is None else replace(skeleton, answer=wrong))
            rng = Random(f"{problem.place}/{domain}/cue/{mode}")
            cue_class = config.shortcut.draw_class(rng, true_class, len(family.classes), domain, mode)
            # The same phrase in every split, so that only its key word differs.
            source = pack if config.shortcut.sentences_of is None else load_pack(config.shortcut.sentences_of)
            phrases = len(source.cues[0]) if config.shortcut.phrases is None else config.shortcut.phrases
            phrase = Random(f"{problem.place}/{domain}/phrase").randrange(min(len(source.cues[0]), phrases))
            cue = Cue(cue_text(source, cue_class, phrase), config.shortcut.position)
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _card_info(config: GenerationConfig, packs: Mapping[str, Pack]) -> CardInfo:
    described = {
        name: (
            f"{pack.title}: {len(pack.individuals)} individuals, {len(pack.properties)} predicates, "
            f"digest {pack.digest}"
        )
        for name, pack in packs.items()
    }
    return CardInfo(
        title=f"Isomer sets: {config.family}",
        family=config.family,
        domains=config.domains,
        unseen_domains=config.unseen_domains,
        config=config.model_dump(mode="json"),
        packs=described,
    )
