"""What a benchmark is: problems from elsewhere, how their answers are asked for, and who judges these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from isodistill.evaluation.items import EvalItem
from isodistill.importers.problems import Problem
from isodistill.importers.scoring import score_answer

Way = Literal["likelihood", "generation"]
"""A way to put a problem to a student: compare the likelihoods of its choices, or let it write."""

ANSWER_LINE = "End with a line 'Answer: X', where X is the answer alone."
"""The instruction for problems without choices."""


@dataclass(frozen=True)
class Benchmark:
    """Problems that are ready to be put to a student.

    Args:
        name: The name in results, which the names of its splits start with.
        title: The title.
        source: The path, hub id or task that the problems come from.
        license: Its licence, an SPDX identifier in the hub's spelling.
        instruction: A line to put after each problem, which says how the answer is to be given; empty for none.
        items: The problems; those of one split stand together.
    """

    name: str
    title: str
    source: str
    license: str
    instruction: str
    items: tuple[EvalItem, ...]

    @property
    def splits(self) -> dict[str, list[EvalItem]]:
        """The problems by split, in order."""
        found: dict[str, list[EvalItem]] = {}
        for item in self.items:
            found.setdefault(item.split, []).append(item)
        return found

    def scorer(self, item: EvalItem, given: str | None) -> float:
        """Scores an answer.

        Args:
            item: One of the problems.
            given: The answer, or ``None`` where there is none; untrusted text.

        Returns:
            The score in [0, 1]; 1 for a right answer.
        """
        return score_answer(item.family, item.prompt, item.answer, item.formal, given)


@dataclass(frozen=True)
class BenchmarkKind:
    """An entry of the registry.

    Args:
        name: The name that `--benchmark` takes.
        title: The title.
        about: What it asks, in a sentence.
        argument: What stands after the name and a colon.
        default: What stands there by default, or ``None`` where it must be given.
        ways: The ways in which it can be put to a student; none where another harness decides.
        license: The licence of the problems.
        build: Makes the benchmark from the argument; ``None`` where another harness runs it.
    """

    name: str
    title: str
    about: str
    argument: str
    default: str | None
    ways: tuple[Way, ...]
    license: str
    build: Callable[[str], Benchmark] | None


def ask_for(choices: tuple[str, ...]) -> str:
    """Writes the instruction for problems with choices.

    Args:
        choices: The choices, at least two.

    Returns:
        For example ``"End with a line 'Answer: X', where X is Yes or No."``.
    """
    return f"End with a line 'Answer: X', where X is {', '.join(choices[:-1])} or {choices[-1]}."


def item_of(problem: Problem, split: str) -> EvalItem:
    """Turns an imported problem into one for the evaluation.

    Args:
        problem: The problem; it has an answer and a set.
        split: The split's name.

    Returns:
        The item.
    """
    return EvalItem(
        split=split,
        set_id=problem.set_id,
        domain=problem.domain,
        family=problem.family,
        depth=0,
        prompt=problem.prompt,
        answer=problem.answer,
        choices=problem.choices,
        formal=problem.formal,
    )
