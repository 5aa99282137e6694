"""Asks a teacher for proposals and readings: the collector of distillation, with another judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from isodistill.isomers.sets import IsomerSet, Member
from isodistill.teachers.base import Request
from isodistill.teachers.collect import Collector, Problem
from isodistill.teachers.judge import Judgement
from isodistill.traces.record import ACCEPTED
from isodistill.writing.examine import Proposal, examine_proposal, examine_reading
from isodistill.writing.prompt import read_request, write_request
from isodistill.writing.reply import Rejected
from isodistill.writing.sources import Source

Examine = Callable[[Request, str, str], object]
"""Given a request, the reply's text and why it ends; raises `Rejected` where the reply is not accepted."""


@dataclass
class ExaminingCollector(Collector):
    """A collector whose replies are examined instead of searched for an answer line.

    Store, budget, attempts, claims and resumption are those of `Collector`.

    Args:
        examine: What is made of a reply.
    """

    examine: Examine = field(kw_only=True)

    def judgement(self, request: Request, text: str, finish: str) -> Judgement:
        """Examines a reply (see `Collector.judgement`)."""
        try:
            self.examine(request, text, finish)
        except Rejected as rejected:
            return Judgement(rejected.reason, "", None)
        return Judgement(ACCEPTED, text, None)


@dataclass(frozen=True)
class Order:
    """A member that is wanted.

    Args:
        source: The problem.
        domain: The domain.
        timeout_ms: The limit of each question to z3, in milliseconds.
    """

    source: Source
    domain: str
    timeout_ms: int

    def writing(self) -> Problem:
        """The request for a proposal."""
        source = self.source
        return self._problem(write_request(source.text, source.premises, source.question, source.symbols, self.domain))

    def reading(self, proposal: Proposal) -> Problem:
        """The request for a back-translation, from which the formulas cannot be told.

        Args:
            proposal: The proposal.
        """
        formulas = (*proposal.premises, proposal.question)
        return self._problem(read_request(proposal.sentences, proposal.conclusion, formulas, proposal.symbols))

    def examined(self, text: str, finish: str) -> Proposal:
        """Examines a proposal; see `examine_proposal`.

        Args:
            text: The reply; untrusted.
            finish: Why it ends.
        """
        return examine_proposal(text, finish, self.source, self.timeout_ms)

    def _problem(self, text: str) -> Problem:
        member = Member(domain=self.domain, prompt=text, formal="")
        given = self.source.isomer_set
        return Problem(
            IsomerSet(
                set_id=given.set_id,
                family=given.family,
                depth=given.depth,
                skeleton="",
                canonical="",
                answer=given.answer,
                choices=given.choices,
                members=(member,),
            ),
            member,
        )


def examine_orders(orders: list[Order]) -> Examine:
    """Returns the examination of proposals, each against the source that it was asked for.

    Args:
        orders: Every order.

    Returns:
        A function for `ExaminingCollector`.
    """
    by_digest = {order.writing().digest: order for order in orders}

    def examine(request: Request, text: str, finish: str) -> Proposal:
        return by_digest[Problem(request.isomer_set, request.member).digest].examined(text, finish)

    return examine


def examine_readings(request: Request, text: str, finish: str) -> object:
    """Accepts whatever can be read: only then is it compared, once, so that no reading is asked for until it fits.

    Args:
        request: The request.
        text: The reply; untrusted.
        finish: Why it ends.

    Returns:
        The reading.

    Raises:
        Rejected: If it cannot be read.
    """
    return examine_reading(text, finish)
