"""The measures that are known for a run as a whole, since they are no mean over sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from isodistill.evaluation.results import SplitResult

Better = Literal["higher", "lower", "neither"]
"""Which direction is an improvement."""

Unit = Literal["share", "nats", "number"]
"""``"share"`` times 100 is in points."""

BY_RUN: list[tuple[str, str, Callable[[SplitResult], float | None], Better, Unit]] = [
    ("worst_domain", "accuracy of the worst domain", lambda r: r.worst_domain.value, "higher", "share"),
    (
        "worst_group",
        "accuracy of the worst domain and cue",
        lambda r: r.worst_group.value if r.worst_group else None,
        "higher",
        "share",
    ),
    ("cue_followed", "answers that follow the cue", lambda r: r.cue_followed, "neither", "share"),
    ("answered", "completions with an answer line", lambda r: r.answered, "higher", "share"),
    (
        "lcs_centred",
        "Logical Consistency Score, centred",
        lambda r: r.lcs_centred.value if r.lcs_centred else None,
        "lower",
        "number",
    ),
    ("lcs_raw", "Logical Consistency Score, raw", lambda r: r.lcs_raw.value if r.lcs_raw else None, "lower", "number"),
    ("cka", "CKA between domains", lambda r: r.cka, "higher", "number"),
    (
        "probe_domain",
        "domain read off the states by a linear probe",
        lambda r: r.probes.domain.accuracy if r.probes and r.probes.domain else None,
        "lower",
        "share",
    ),
    (
        "probe_answer",
        "answer read off the states by a linear probe",
        lambda r: r.probes.answer.accuracy if r.probes and r.probes.answer else None,
        "higher",
        "share",
    ),
    (
        "probe_answer_across_domains",
        "answer read off the states in an unseen domain",
        lambda r: r.probes.answer_across_domains.accuracy if r.probes and r.probes.answer_across_domains else None,
        "higher",
        "share",
    ),
]
"""Name, title, how a split's result holds it, which direction is better, and its unit."""
