"""The account of a writing: every wanted member as kept, repaired or dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from isodistill.teachers.collect import Outcome
from isodistill.writing.reply import Mend, plain_detail

Fate = Literal["kept", "repaired", "dropped"]


@dataclass(frozen=True)
class Item:
    """What has become of one wanted member.

    Args:
        split: The split.
        set_id: The set.
        domain: The domain.
        fate: ``"kept"`` as it was written, ``"repaired"`` (accepted after mends), or ``"dropped"``.
        reason: Why it was dropped, in words that are counted; empty where it was not.
        detail: What exactly was wrong; it may quote the model.
        mends: What was mended.
    """

    split: str
    set_id: str
    domain: str
    fate: Fate
    reason: str = ""
    detail: str = ""
    mends: tuple[Mend, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data of printable text."""
        mends = [f"{mend.what} ({mend.where})" for mend in self.mends]
        return {
            "split": self.split,
            "set_id": self.set_id,
            "domain": self.domain,
            "fate": self.fate,
            **({"reason": self.reason, "detail": plain_detail(self.detail)} if self.reason else {}),
            **({"mends": [plain_detail(mend) for mend in mends]} if mends else {}),
        }


@dataclass
class Account:
    """The account of all wanted members.

    Args:
        items: The members, in order.
        replies: How many replies of each task had which verdict, retries included.
    """

    items: list[Item] = field(default_factory=list)
    replies: dict[str, Counter[str]] = field(default_factory=lambda: {"write": Counter(), "read": Counter()})

    def count_replies(self, task: Literal["write", "read"], outcomes: Iterable[Outcome]) -> None:
        """Counts verdicts.

        Args:
            task: The task.
            outcomes: What was asked for.
        """
        for outcome in outcomes:
            self.replies[task].update(judgement.verdict for _, judgement in outcome.attempts.values())

    def fates(self, domain: str | None = None) -> Counter[str]:
        """Counts fates.

        Args:
            domain: Only of this domain.

        Returns:
            How many were kept, repaired and dropped.
        """
        return Counter(item.fate for item in self.items if domain in (None, item.domain))

    def reasons(self, domain: str | None = None) -> Counter[str]:
        """Counts the reasons of what was dropped.

        Args:
            domain: Only of this domain.

        Returns:
            How often each.
        """
        dropped = (item for item in self.items if item.fate == "dropped" and domain in (None, item.domain))
        return Counter(item.reason for item in dropped)

    def mends(self) -> Counter[str]:
        """Counts what was mended in the accepted members."""
        return Counter(mend.what for item in self.items if item.fate == "repaired" for mend in item.mends)

    def as_dict(self) -> Mapping[str, Any]:
        """Returns plain data: counts by domain, mends, verdicts of all replies, and every member."""
        domains = dict.fromkeys(item.domain for item in self.items)
        return {
            "members": {
                domain: {
                    **{fate: self.fates(domain)[fate] for fate in ("kept", "repaired", "dropped")},
                    "reasons": dict(self.reasons(domain).most_common()),
                }
                for domain in domains
            },
            "mends": dict(self.mends().most_common()),
            "replies": {task: dict(sorted(verdicts.items())) for task, verdicts in self.replies.items()},
            "items": [item.as_dict() for item in self.items],
        }
