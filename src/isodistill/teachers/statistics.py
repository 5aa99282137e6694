"""What a teacher can and cannot do, by family and domain: one that is weaker in a domain biases the set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from isodistill.teachers.collect import Outcome


@dataclass
class GroupStatistics:
    """The outcomes of one family in one domain.

    Args:
        problems: Problems asked.
        accepted: Problems with an accepted trace.
        first_try: Problems whose first attempt was accepted.
        attempts: Attempts at all problems.
        words: Words of the accepted rationales and answer lines.
        reasons: Rejected attempts and missing replies by reason.
    """

    problems: int = 0
    accepted: int = 0
    first_try: int = 0
    attempts: int = 0
    words: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Returns rates and means as plain data."""
        return {
            "problems": self.problems,
            "accepted": self.accepted,
            "pass_rate": self.accepted / self.problems if self.problems else None,
            "first_try_rate": self.first_try / self.problems if self.problems else None,
            "mean_attempts": self.attempts / self.problems if self.problems else None,
            "mean_words": self.words / self.accepted if self.accepted else None,
            "reasons": dict(sorted(self.reasons.items())),
        }


Statistics = dict[tuple[str, str], GroupStatistics]
"""Outcomes by (family, domain)."""


def gather(outcomes: Iterable[Outcome]) -> Statistics:
    """Counts outcomes.

    Args:
        outcomes: One for each problem.

    Returns:
        The counts by family and domain, sorted.
    """
    groups: dict[tuple[str, str], GroupStatistics] = defaultdict(GroupStatistics)
    for outcome in outcomes:
        group = groups[outcome.problem.isomer_set.family, outcome.problem.member.domain]
        group.problems += 1
        group.attempts += len(outcome.attempts)
        for attempt, (_, judgement) in outcome.attempts.items():
            group.first_try += attempt == 0 and judgement.accepted
            if not judgement.accepted:
                group.reasons[judgement.verdict] += 1
        if outcome.failure is not None:
            group.reasons[outcome.failure.reason] += 1
        if outcome.lacks_agreement:
            group.reasons["low agreement"] += 1
        if (completion := outcome.completion) is not None:
            group.accepted += 1
            group.words += len(completion.split())
    return dict(sorted(groups.items()))


def as_rows(statistics: Statistics) -> list[dict[str, Any]]:
    """Returns the counts as plain data.

    Args:
        statistics: What `gather` returned.

    Returns:
        One mapping for each family and domain.
    """
    return [{"family": family, "domain": domain, **group.as_dict()} for (family, domain), group in statistics.items()]
