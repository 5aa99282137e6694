"""The data of a study: generated and told once, and the parts of it that single cells read."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from isodistill.errors import IsodistillError
from isodistill.evaluation.compare import is_ood_split
from isodistill.evaluation.items import TRAINING_SPLITS
from isodistill.isomers.config import GenerationConfig, prepare
from isodistill.isomers.generate import generate
from isodistill.isomers.store import PACKS_FOLDER, available_splits, replacing
from isodistill.study.cells import Cell
from isodistill.study.config import DataEntry
from isodistill.study.folder import StudyFolder
from isodistill.teachers import make_teacher
from isodistill.teachers.distil import distil

Progress = Callable[[str, int, int], None]
_Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class DataFacts:
    """What the plan needs to know of a data set.

    Attributes:
        digest: What its contents hang on.
        domains: The training domains.
    """

    digest: str
    domains: tuple[str, ...]


def check_data(name: str, entry: DataEntry) -> None:
    """Finds what is wrong with a data entry before any work is done.

    Args:
        name: The data set's name.
        entry: The entry.

    Raises:
        IsodistillError: if a pack, family, teacher option or folder is unknown, or a split that every study needs is
            missing.
    """
    try:
        if entry.generate is not None:
            prepare(entry.generate)
            make_teacher("symbolic", **entry.teacher)
            splits = [split.name for split in entry.generate.splits()]
        else:
            splits = list(available_splits(Path(str(entry.path))))
    except IsodistillError as error:
        raise IsodistillError(f"data.{name}: {error}") from None
    if "train" not in splits or set(splits) <= set(TRAINING_SPLITS):
        raise IsodistillError(f"data.{name} needs the split train and a test split; it has {', '.join(splits)}")


def facts(name: str, entry: DataEntry) -> DataFacts:
    """Reads what the plan needs to know.

    Args:
        name: The data set's name.
        entry: The entry.

    Returns:
        The facts.

    Raises:
        IsodistillError: if the data set at a path cannot be read.
    """
    if entry.generate is not None:
        said = entry.model_dump(mode="json", exclude={"students", "draw_of", "training"})
        content = json.dumps(said, sort_keys=True).encode()
        return DataFacts(hashlib.sha256(content).hexdigest()[:16], entry.generate.domains)
    digest = hashlib.sha256()
    folder = Path(str(entry.path)) / "data"
    try:
        for file in sorted(folder.glob("*.parquet")):
            digest.update(file.name.encode() + file.read_bytes())
        table = pq.read_table(folder / "train.parquet")
    except (OSError, pa.ArrowException) as error:
        raise IsodistillError(f"data.{name}: {folder / 'train.parquet'} cannot be read ({error})") from None
    if "members" in table.column_names:
        column = pc.struct_field(pc.list_flatten(table["members"]), "domain")
    else:
        column = table["domain"]
    return DataFacts(digest.hexdigest()[:16], tuple(sorted(column.unique().to_pylist())))


class StudyData:
    """Where the cells' data stand.

    Args:
        folder: The study.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def whole(self, name: str) -> Path:
        """Returns the distilled data set."""
        path = self._folder.config.data[name].path
        return self._folder.root / "data" / name if path is None else Path(path)

    def part(self, kind: str, name: str, digest: str) -> Path:
        """Returns a part of a data set; its last folder has the data set's own name."""
        return self._folder.root / "parts" / f"{kind}-{digest[:8]}" / name

    def training(self, cell: Cell) -> Path:
        """Returns what a cell is trained on."""
        if cell.held_out is not None:
            return self.part(f"without-{cell.held_out}", cell.data, cell.data_digest)
        if cell.arm.kind == "no_cue":
            return self.part("no-cue", cell.data, cell.data_digest)
        return self.whole(cell.data)

    def validation(self, cell: Cell) -> Path:
        """Returns where a trial's validation split stands."""
        return self.training(cell) if cell.held_out is not None else self.whole(cell.data)

    def oracle(self, cell: Cell) -> Path:
        """Returns the test sets that are laid aside for the rule ``oracle``."""
        return self.part(f"oracle-{cell.oracle_share:g}", cell.data, cell.data_digest)

    def test(self, cell: Cell) -> Path:
        """Returns the test sets that a final run is evaluated on."""
        if not cell.oracle_share:
            return self.whole(cell.data)
        return self.part(f"test-{cell.oracle_share:g}", cell.data, cell.data_digest)

    def is_made(self, name: str, known: DataFacts) -> bool:
        """Tells whether the problems of a data set stand, those without a cue for its control among them.

        Args:
            name: The data set's name.
            known: Its facts.

        Returns:
            Whether they do; what is only copied out of them, for trials, is not looked at.
        """
        config = self._folder.config
        needed = [self.whole(name)]
        if "no_cue" in config.controls and config.data[name].generate is not None:
            needed.append(self.part("no-cue", name, known.digest))
        return all(place.exists() for place in needed)

    def make(self, name: str, known: DataFacts, progress: Progress | None = None) -> None:
        """Makes what is missing of a data set and its parts.

        Args:
            name: The data set's name.
            known: Its facts.
            progress: Told the stage, how many problems are done, and how many there are.

        Raises:
            IsodistillError: if it cannot be made, or a part would be empty.
        """
        config = self._folder.config
        entry = config.data[name]
        with FileLock(self._folder.lock_file(f"data-{name}")):
            if entry.generate is not None:
                self._generate(entry.generate, entry.teacher, self.whole(name), progress)
            whole = self.whole(name)
            if "no_cue" in config.controls and entry.generate is not None:
                plain = entry.generate.model_copy(update={"shortcut": None})
                self._generate(plain, entry.teacher, self.part("no-cue", name, known.digest), progress)
            rules = () if config.search is None else config.search.rules
            if config.search is not None and "validation" not in available_splits(whole):
                raise IsodistillError(f"data.{name} has no split 'validation', on which trials are chosen: add one")
            if "leave_one_domain_out" in rules:
                for domain in known.domains:
                    self._leave_out(whole, self.part(f"without-{domain}", name, known.digest), domain)
            if config.search is not None and "oracle" in rules:
                share = config.search.oracle_share
                for kind, aside in (("oracle", True), ("test", False)):
                    self._share(whole, self.part(f"{kind}-{share:g}", name, known.digest), share, aside)

    def _generate(
        self, generation: GenerationConfig, teacher: dict[str, Any], out: Path, progress: Progress | None
    ) -> None:
        if out.exists():
            return
        problems = out.parent / f"{out.name}.problems"
        if not problems.exists():
            generate(generation, problems, progress)
        distil(problems, make_teacher("symbolic", **teacher), out, progress)
        shutil.rmtree(problems)

    @staticmethod
    def _leave_out(whole: Path, out: Path, domain: str) -> None:
        """Writes the training sets without a domain, and the validation sets with no other."""

        def members(rows: _Rows, inside: bool) -> _Rows:
            shown = [
                row | {"members": [m for m in row["members"] if (m["domain"] == domain) == inside]} for row in rows
            ]
            # Where each set is told in some of the domains (`told_in`), those that lost a member go.
            most = max((len(row["members"]) for row in shown), default=0)
            return [row for row in shown if len(row["members"]) == most]

        _write_part(
            whole, out, {"train": lambda rows: members(rows, False), "validation": lambda rows: members(rows, True)}
        )

    @staticmethod
    def _share(whole: Path, out: Path, share: float, aside: bool) -> None:
        """Writes the test sets that are laid aside (out of distribution only), or the others."""
        splits = [split for split in available_splits(whole) if split not in TRAINING_SPLITS]

        def some(rows: _Rows) -> _Rows:
            chosen = laid_aside([row["set_id"] for row in rows], share)
            return [row for row in rows if (row["set_id"] in chosen) == aside]

        _write_part(whole, out, {split: some for split in splits if not aside or is_ood_split(split)})


def laid_aside(set_ids: Iterable[str], share: float) -> set[str]:
    """Chooses the sets that the rule ``oracle`` may read, by their ids alone.

    Splits that show the same problems lay the same ones aside.

    Args:
        set_ids: The sets of a split.
        share: The share to choose, in (0, 1); at least one set.

    Returns:
        The chosen ids.
    """
    ranked = sorted(set(set_ids), key=lambda set_id: hashlib.sha256(f"oracle/{set_id}".encode()).digest())
    return set(ranked[: max(1, math.floor(share * len(ranked)))])


def _write_part(
    whole: Path, out: Path, keep: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]
) -> None:
    if out.exists():
        return
    if not keep:
        raise IsodistillError(f"{whole} has no test split out of distribution, which the rule oracle reads")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as target:
        (target / "data").mkdir(parents=True, exist_ok=True)
        for extra in ("README.md", PACKS_FOLDER):
            if (whole / extra).is_dir():
                shutil.copytree(whole / extra, target / extra)
            elif (whole / extra).is_file():
                shutil.copy2(whole / extra, target / extra)
        for split, choose in keep.items():
            table = pq.read_table(whole / "data" / f"{split}.parquet")
            if "members" not in table.column_names:
                raise IsodistillError(f"{whole} holds flat rows, and the rules of this study need isomer sets")
            rows = choose(table.to_pylist())
            if not rows or not rows[0]["members"]:
                raise IsodistillError(f"split {split!r} of {whole} has too few sets or domains to be shared out")
            pq.write_table(type(table).from_pylist(rows, schema=table.schema), target / "data" / f"{split}.parquet")
