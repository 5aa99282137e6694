"""What a distillation will ask for, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isodistill.teachers.collect import Collector, Problem
from isodistill.teachers.meter import estimate_tokens


@dataclass(frozen=True)
class Plan:
    """Requests and tokens that are still to be paid for.

    Args:
        problems: Different problems in all.
        settled: Those that the store settles without a request.
        least_requests: If every first attempt is accepted.
        most_requests: If none is, apart from requests that are sent again because of errors.
        prompt_tokens: Tokens read for one request, on average.
        completion_tokens: Tokens written for one request, on average.
        measured: Whether that average was measured on replies in the store, or is the limit of a reply.
    """

    problems: int
    settled: int
    least_requests: int
    most_requests: int
    prompt_tokens: float
    completion_tokens: float
    measured: bool

    def tokens(self, requests: int) -> tuple[int, int]:
        """Estimates what a number of requests takes.

        Args:
            requests: The number.

        Returns:
            Tokens read and tokens written.
        """
        return round(requests * self.prompt_tokens), round(requests * self.completion_tokens)


def make_plan(collector: Collector, work: Mapping[str, Sequence[Problem]], instruction: str, max_tokens: int) -> Plan:
    """Counts what the store does not have.

    Args:
        collector: The teacher, the plan of attempts and the store.
        work: The problems of each split.
        instruction: The text before each problem.
        max_tokens: The most tokens of a reply.

    Returns:
        The plan. Texts that stand in several splits count once, as they are asked for once.
    """
    problems = {problem.digest: problem for split in work.values() for problem in split}
    outcomes = collector.replay(list(problems.values()))
    open_ones = [outcome for outcome in outcomes if outcome.next_attempts]
    sampling, teacher = collector.sampling, collector.teacher
    most = sampling.samples + sampling.retries if teacher.varies else 1
    lengths = [estimate_tokens(instruction + outcome.problem.member.prompt) + 16 for outcome in open_ones]
    mean = None
    if collector.store is not None:
        mean = collector.store.mean_tokens(teacher.kind, teacher.model, teacher.prompt_version)
    return Plan(
        problems=len(problems),
        settled=len(problems) - len(open_ones),
        least_requests=sum(len(outcome.next_attempts) for outcome in open_ones),
        most_requests=sum(most - len(outcome.attempts) for outcome in open_ones),
        prompt_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        completion_tokens=max_tokens if mean is None else mean,
        measured=mean is not None,
    )
