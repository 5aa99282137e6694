"""What generation costs: time, rejected draws, peak memory, and what the surface of what was made tells."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from isodistill.errors import IsodistillError
from isodistill.isomers.card import AuditRow, read_card
from isodistill.isomers.config import make_config
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.generate import generate
from isodistill.isomers.packs import TRAINING_PACKS

if TYPE_CHECKING:
    from isodistill.bench.timing import Progress

PARTS: dict[str, tuple[tuple[str, ...], int]] = {"families": (tuple(FAMILIES), 200), "large": (("deduction",), 10_000)}
"""Each part's families and number of sets: enough to be probed; and as many as a large study has."""

MEMORY_LIMIT = 2048.0
"""The peak resident memory, in MiB, that a generation should stay below."""

# Runs alone in a fresh process: a peak never falls again, and a second family would find the packs already read.
_SCRIPT = """
import json, sys
from isodistill.bench.generation import measure_generation

print(measure_generation(json.loads(sys.argv[1])).model_dump_json())
"""


class GenerationRun(BaseModel):
    """What one generation cost.

    Attributes:
        config: The whole generation config as plain data.
        sets: The number of sets.
        texts: The number of texts.
        seconds: CPU seconds of drawing, wording, proving, reading back and writing down.
        audit_seconds: CPU seconds of putting the pieces together and of the audit for the card.
        draws: How many skeletons were drawn.
        rejected: Those of them that were not used, by reason.
        peak_mib: The peak resident memory of the process, in MiB.
        surfaces: What the surface of each domain tells, as on the card.
    """

    config: dict[str, Any]
    sets: int
    texts: int
    seconds: float
    audit_seconds: float
    draws: int
    rejected: dict[str, int]
    peak_mib: float
    surfaces: tuple[AuditRow, ...]

    @property
    def sets_per_second(self) -> float:
        """Sets in a CPU second, the audit left out."""
        return self.sets / self.seconds


class GenerationCosts(BaseModel):
    """What one part of the benchmark found.

    Attributes:
        part: One of `PARTS`.
        seed: The seed of the data.
        domains: The domains of every set.
        limit_mib: The peak resident memory that is aimed at, in MiB.
        processor: The processor's name.
        versions: Versions of Python and the libraries.
        runs: One entry for each generation.
    """

    part: str
    seed: int
    domains: tuple[str, ...]
    limit_mib: float
    processor: str
    versions: dict[str, str]
    runs: tuple[GenerationRun, ...]


def bench_generation(
    part: str,
    sets: int | None = None,
    seed: int = 0,
    max_sets_per_skeleton: int = 1,
    progress: Progress = lambda case: None,
) -> GenerationCosts:
    """Generates a training split of each family of a part at its default options, each in a process of its own.

    Args:
        part: One of `PARTS`.
        sets: The number of sets of each family; ``None`` for the part's own.
        seed: The seed of the data.
        max_sets_per_skeleton: How many sets may share a skeleton; above 1 where a family has too few skeletons.
        progress: Told each case before it runs.

    Returns:
        The costs. A surface that the audit objects to is measured and not refused.

    Raises:
        IsodistillError: If there is no such part, or a process fails; its last lines are in the message.
    """
    if part not in PARTS:
        raise IsodistillError(f"There is no part {part!r}; choose among {', '.join(PARTS)}.")
    families, usual = PARTS[part]
    count = usual if sets is None else sets
    jobs = [
        {
            "family": family,
            "domains": TRAINING_PACKS,
            "unseen_domains": (),
            "sets": count,
            "validation_sets": 0,
            "test_sets": 0,
            "seed": seed,
            "max_sets_per_skeleton": max_sets_per_skeleton,
            "audit": False,
        }
        for family in families
    ]
    for job in jobs:
        make_config(**job)
    runs = []
    for job in jobs:
        progress(f"{job['family']}: {count} sets in {len(TRAINING_PACKS)} domains")
        runs.append(_run(job))
    # Not before: a process begins with the peak of the one that started it, and torch is large.
    from isodistill.bench.timing import this_machine

    return GenerationCosts(
        part=part,
        seed=seed,
        domains=TRAINING_PACKS,
        limit_mib=MEMORY_LIMIT,
        processor=this_machine().processor,
        versions={"python": sys.version.split()[0]}
        | {name: metadata.version(name) for name in ("isodistill", "numpy", "pyarrow", "z3-solver")},
        runs=tuple(runs),
    )


def measure_generation(values: dict[str, Any]) -> GenerationRun:
    """Generates a data set into a folder that is removed again, and measures this process.

    Args:
        values: The fields of the generation config.

    Returns:
        What it cost. The peak memory is that of the process since it began.

    Raises:
        IsodistillError: If the config is wrong or the problem space is too small.
    """
    config = make_config(**values)
    start = drawn = time.process_time()

    def clock(group: str, done: int, total: int) -> None:
        nonlocal drawn
        drawn = time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "data"
        report = generate(config, out, clock)
        end = time.process_time()
        info = read_card(out / "README.md")[0]
    assert info is not None
    sets = sum(report.splits.values())
    return GenerationRun(
        config=info.config,
        sets=sets,
        texts=report.members,
        seconds=drawn - start,
        audit_seconds=end - drawn,
        draws=sets + sum(report.rejected.values()),
        rejected=report.rejected,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        surfaces=info.audit,
    )


def _run(job: dict[str, Any]) -> GenerationRun:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, json.dumps(job)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise IsodistillError("the measuring process failed: " + " | ".join(done.stderr.strip().splitlines()[-3:]))
    return GenerationRun.model_validate_json(done.stdout.strip().splitlines()[-1])
