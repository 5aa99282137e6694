"""Asks a teacher until every problem has a verified trace or none can be had, and pays for nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isodistill.answers import format_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.teachers.base import Failure, Reply, Request, Teacher
from isodistill.teachers.interrupt import Interrupt
from isodistill.teachers.judge import MAX_CHARACTERS, Check, Judgement, judge
from isodistill.teachers.sampling import Sampling
from isodistill.traces import Recipe, TraceRecord, TraceStore, problem_digest
from isodistill.traces.record import canonical_json

if TYPE_CHECKING:
    from isodistill.teachers.server_signals import SignalKeeper

POLL_SECONDS = 1.0
"""How often to look whether another process has the reply that it is waiting for."""


@dataclass(frozen=True)
class Problem:
    """A member of a set, as a problem for a teacher.

    Args:
        isomer_set: The set.
        member: The member.
    """

    isomer_set: IsomerSet
    member: Member

    @property
    def digest(self) -> str:
        """The problem's name by content."""
        return problem_digest(self.member.prompt, self.isomer_set.answer)


@dataclass
class Outcome:
    """What has come of one problem.

    Args:
        problem: The problem.
        sampling: The plan of attempts.
        attempts: The replies and what is made of them, by the attempt's number.
        failure: Why the last request got no reply, if it did not.
    """

    problem: Problem
    sampling: Sampling
    varies: bool = True
    attempts: dict[int, tuple[TraceRecord, Judgement]] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def lacks_agreement(self) -> bool:
        """Whether too few of the samples gave the verified answer."""
        sampled = [self.attempts[place][1] for place in range(self.sampling.samples) if place in self.attempts]
        if len(sampled) < self.sampling.samples:
            return False
        return sum(judgement.right for judgement in sampled) < self.sampling.min_agreement * len(sampled)

    @property
    def chosen(self) -> int | None:
        """The attempt whose trace is kept, or ``None`` while there is none."""
        accepted = [place for place in sorted(self.attempts) if self.attempts[place][1].accepted]
        if not accepted or self.missing_samples or self.lacks_agreement:
            return None
        if self.sampling.choose == "shortest":
            return min(accepted, key=lambda place: len(self.attempts[place][1].rationale.split()))
        return accepted[0]

    @property
    def completion(self) -> str | None:
        """The text that a student is trained to write, with the verified answer, or ``None``."""
        if self.chosen is None:
            return None
        return format_completion(self.attempts[self.chosen][1].rationale, self.problem.isomer_set.answer)

    @property
    def missing_samples(self) -> list[int]:
        """The attempts that are always made and are not there yet."""
        return [place for place in range(self.sampling.samples if self.varies else 1) if place not in self.attempts]

    @property
    def next_attempts(self) -> list[int]:
        """The attempts to make now; none when the problem is settled."""
        if self.failure is not None:
            return []
        if missing := self.missing_samples:
            return missing
        if self.chosen is not None or self.lacks_agreement or not self.varies:
            return []
        last = self.sampling.samples + self.sampling.retries
        return [next(place for place in range(last + 1) if place not in self.attempts)][: len(self.attempts) < last]


Progress = Callable[[int, int], None]
"""Told how many problems are settled, and how many there are."""


@dataclass
class Collector:
    """Collects the traces of one teacher.

    Args:
        teacher: Who writes.
        sampling: The plan of attempts.
        store: Where replies are kept; without one they are kept for this run alone. What a teacher says the same way
            whenever it is asked is not kept: it costs nothing, and a newer version may say it better.
        checks: Further checks of a rationale.
        keeper: Keeps the token distributions that come with the replies, or ``None``.
    """

    teacher: Teacher
    sampling: Sampling
    store: TraceStore | None = None
    checks: tuple[Check, ...] = ()
    keeper: SignalKeeper | None = None

    def __post_init__(self) -> None:
        """Keeps no replies of a teacher that does not vary."""
        if not self.teacher.varies:
            self.store = None
        self._refusal: IsodistillError | None = None

    def collect(self, problems: Sequence[Problem], progress: Progress | None = None) -> list[Outcome]:
        """Asks for whatever the store does not have.

        Args:
            problems: The problems; those with equal text are asked once.
            progress: Called whenever a problem is settled.

        Returns:
            An outcome for each problem, in order.

        Raises:
            IsodistillError: If the teacher gives up or the budget is spent; the store keeps what came before.
            KeyboardInterrupt: If the user interrupts; what was in flight is waited for and kept.
        """
        outcomes = self.replay(problems)
        try:
            self._ask(outcomes, progress)
        finally:
            if self.store is not None:
                self.store.release_claims()
        return outcomes

    def replay(self, problems: Sequence[Problem]) -> list[Outcome]:
        """Takes from the store what is there, and asks for nothing.

        Args:
            problems: The problems.

        Returns:
            An outcome for each problem, in order; those with `Outcome.next_attempts` are not settled.
        """
        outcomes = [Outcome(problem, self.sampling, self.teacher.varies) for problem in problems]
        by_digest = {outcome.problem.digest: outcome for outcome in outcomes}
        pending = list(by_digest.values())
        while pending and self.store is not None:
            wanted = {
                self.recipe(request).key: (outcome, request)
                for outcome in pending
                for request in (self._request(outcome, place) for place in outcome.next_attempts)
            }
            found = self.store.find(list(wanted))
            for key, record in found.items():
                outcome, request = wanted[key]
                self._judge(outcome, request, record)
            pending = list({id(wanted[key][0]): wanted[key][0] for key in found}.values())
        return [by_digest[outcome.problem.digest] for outcome in outcomes]

    def recipe(self, request: Request) -> Recipe:
        """Names what determines the reply to a request.

        Args:
            request: The request.

        Returns:
            The recipe that the reply is kept under.
        """
        parameters = {**self.teacher.parameters(request), "attempt": request.attempt}
        return Recipe(
            problem=_problem(request).digest,
            teacher=self.teacher.kind,
            model=self.teacher.model,
            parameters=canonical_json(parameters),
            prompt_version=self.teacher.prompt_version,
        )

    def _ask(self, outcomes: list[Outcome], progress: Progress | None) -> None:
        by_digest = {outcome.problem.digest: outcome for outcome in outcomes}
        told = -1
        with Interrupt() as interrupt:
            while self._refusal is None:
                requests = [
                    self._request(outcome, place) for outcome in by_digest.values() for place in outcome.next_attempts
                ]
                settled = sum(not by_digest[outcome.problem.digest].next_attempts for outcome in outcomes)
                if progress is not None and settled != told:
                    progress(settled, len(outcomes))
                    told = settled
                if not requests:
                    break
                waiting = len(outcomes) - settled
                for request, reply in self._answers(requests, interrupt):
                    outcome = by_digest[_problem(request).digest]
                    self._book(outcome, request, reply)
                    if not outcome.next_attempts:
                        waiting -= 1  # an equal text elsewhere is counted when the round ends
                        if progress is not None and len(outcomes) - waiting > told:
                            told = len(outcomes) - waiting
                            progress(told, len(outcomes))
                interrupt.check()
        if self._refusal is not None:
            raise self._refusal
        if self.keeper is not None:
            self.keeper.check()

    def _request(self, outcome: Outcome, place: int) -> Request:
        problem = outcome.problem
        return Request(
            problem.isomer_set,
            problem.member,
            attempt=place,
            temperature=self.sampling.temperature_of(place),
            seed=self.sampling.seed_of(problem.digest, place),
        )

    def _answers(
        self, requests: Iterable[Request], interrupt: Interrupt
    ) -> Iterator[tuple[Request, Reply | Failure | TraceRecord]]:
        """Yields a reply, a failure, or another process's record for each request."""
        left = list(requests)
        while left and not interrupt.pressed and self._refusal is None:
            taken: list[Request] = []
            done: list[Request] = []
            yield from self.teacher.write(self._claimed(left, taken, done, interrupt))
            for request in done:
                assert self.store is not None
                key = self.recipe(request).key
                yield request, self.store.find([key])[key]
            left = taken
            if left:
                time.sleep(POLL_SECONDS)

    def _claimed(
        self, requests: list[Request], taken: list[Request], done: list[Request], interrupt: Interrupt
    ) -> Iterator[Request]:
        """Hands out what no other process is asking for, one at a time as the teacher becomes free."""
        for request in requests:
            if interrupt.pressed or self._refusal is not None:
                return
            claim = "mine" if self.store is None else self.store.claim(self.recipe(request).key, self.teacher.patience)
            if claim == "mine":
                yield request
            else:
                (taken if claim == "taken" else done).append(request)

    def _book(self, outcome: Outcome, request: Request, reply: Reply | Failure | TraceRecord) -> None:
        if isinstance(reply, TraceRecord):
            self._judge(outcome, request, reply)
        elif isinstance(reply, Failure):
            outcome.failure = reply
            if self.store is not None:
                self.store.add_failure(self.recipe(request), reply.reason, reply.detail)
        else:
            judgement = self.judgement(request, reply.text, reply.finish)
            record = TraceRecord(
                recipe=self.recipe(request),
                set_id=request.isomer_set.set_id,
                family=request.isomer_set.family,
                domain=request.member.domain,
                prompt=request.member.prompt,
                expected=request.isomer_set.answer,
                attempt=request.attempt,
                # One character more than is read: a reply that was cut here stays too long.
                text=reply.text[: MAX_CHARACTERS + 1],
                answer=judgement.answer,
                verdict=judgement.verdict,
                finish=reply.finish,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                seconds=reply.seconds,
                created=time.time(),
            )
            # Before the reply: whoever finds a reply in the store finds its distributions too.
            if self.keeper is not None and judgement.right:
                self._keep_tokens(self.keeper, request, judgement, reply)
            if self.store is not None:
                self.store.add(record)
            outcome.attempts[request.attempt] = (record, judgement)

    def _keep_tokens(self, keeper: SignalKeeper, request: Request, judgement: Judgement, reply: Reply) -> None:
        """Keeps the distributions; a refusal waits until what is in flight is here, and then ends the run."""
        completion = format_completion(judgement.rationale, request.isomer_set.answer)
        try:
            keeper.keep(request.member.prompt, completion, judgement.rationale, reply)
        except IsodistillError as error:
            self._refusal = self._refusal or error

    def _judge(self, outcome: Outcome, request: Request, record: TraceRecord) -> None:
        # Judged anew: the checks may differ from those of the run that wrote it.
        judgement = self.judgement(request, record.text, record.finish)
        outcome.attempts[request.attempt] = (record, judgement)

    def judgement(self, request: Request, text: str, finish: str) -> Judgement:
        """Judges a reply; another kind of collector judges in its own way.

        Args:
            request: What was asked for.
            text: The reply; untrusted.
            finish: Why it ends, see `Reply`.

        Returns:
            The judgement.
        """
        # A teacher that always says the same gives no rationale by intention, never by bad luck.
        bare = not self.teacher.varies
        return judge(text, finish, request.isomer_set, request.member, self.checks, bare=bare)


def require_replies(
    outcomes: Sequence[Outcome], teacher: Teacher, store: TraceStore | None, asked: str = "problems"
) -> None:
    """Stops where requests went unanswered: dropping their sets would let an outage shape the data.

    Args:
        outcomes: What `Collector.collect` returned.
        teacher: Who was asked.
        store: Where the replies are, or ``None``.
        asked: What was asked, in the plural.

    Raises:
        IsodistillError: If a problem has no reply for a reason that may pass.
    """
    lost = [outcome.failure for outcome in outcomes if outcome.failure is not None and not outcome.failure.permanent]
    if lost:
        kept = "" if store is None else f" (every reply so far is kept in {store.path})"
        raise IsodistillError(
            f"{len(lost)} of {len(outcomes)} {asked} got no reply from the teacher {teacher.name!r}, the first because"
            f" of {lost[0].reason}: {lost[0].detail}; mend that and run the same command again{kept}."
        )


def _problem(request: Request) -> Problem:
    return Problem(request.isomer_set, request.member)
