"""What every importer hands over: problems, and what was dropped and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a data set from elsewhere.

    Args:
        domain: The domain it belongs to.
        prompt: The problem's text.
        answer: The answer, on one line; empty where only the completion tells it.
        completion: The rationale and the answer line; empty until a teacher has written it.
        set_id: The isomer set it is a member of; empty where the source has no sets.
        family: What kind of problem it is.
        choices: The closed answer set; empty where the answer is free.
        formal: JSON for machines: formulas, or what a scorer needs.
        canonical: The canonical form of its logic, where it is known.
    """

    domain: str
    prompt: str
    answer: str
    completion: str = ""
    set_id: str = ""
    family: str = ""
    choices: tuple[str, ...] = ()
    formal: str = ""
    canonical: str = ""


@dataclass
class Imported:
    """The problems of one split, and an account of all others.

    Args:
        problems: What was kept.
        dropped: How many were not, by reason.
        notes: What else a reader should know, a sentence each.
    """

    problems: list[Problem] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def keep(self, problem: Problem) -> None:
        """Keeps a problem, unless its prompt or domain is empty or its answer has several lines.

        Args:
            problem: The problem.
        """
        if not problem.prompt.strip():
            self.dropped["the prompt is empty"] += 1
        elif not problem.domain.strip():
            self.dropped["the domain is empty"] += 1
        elif "\n" in problem.answer:
            # An answer line holds one line: such an answer could never be read back from a completion.
            self.dropped["the answer has more than one line"] += 1
        else:
            self.problems.append(problem)
