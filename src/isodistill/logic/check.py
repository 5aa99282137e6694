"""Does an annotation in first-order logic reproduce its labels? Each row parsed, repaired, solved and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from isodistill.errors import IsodistillError
from isodistill.logic.folio import FolioRow, folio_row
from isodistill.logic.formula import Formula, Not
from isodistill.logic.notation import NotationError
from isodistill.logic.repairs import parse_with_repairs
from isodistill.logic.solver import UndecidedError, consistent, entails

CHECK_TIMEOUT_MS = 2000
"""How long each of the three questions to z3 may take, in milliseconds."""

Outcome = Literal["True", "False", "Unknown", "unchecked", "unparsed", "inconsistent", "timeout", "ill-formed"]
"""What the solver says of a conclusion, or why it says nothing."""

Progress = Callable[[str, int, int], None]
"""Told the stage, how many rows are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class PlacedRepair:
    """A repair and the formula it was made in.

    Args:
        row: The row, counted from 0.
        formula: ``"premise 0"`` and so on, or ``"conclusion"``.
        what: What was done.
        column: Where, counted from 1.
        text: The formula as it was given.
    """

    row: int
    formula: str
    what: str
    column: int
    text: str


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """What was found out about a row.

    Args:
        row: Its number, counted from 0.
        label: Its label; ``None`` where it has none, or no formula for its conclusion to be compared with it.
        outcome: What the solver says; ``"unchecked"`` where the row has no formula for its conclusion.
        repairs: The repairs; none where every formula is well-formed as it is.
        problem: Why there is no verdict, in a sentence; empty where there is one.
        conclusion: The conclusion in English.
        premises: The parsed premises, none where one could not be parsed.
        question: The parsed conclusion, or ``None``.
    """

    row: int
    label: str | None
    outcome: Outcome
    repairs: tuple[PlacedRepair, ...]
    problem: str
    conclusion: str
    premises: tuple[Formula, ...]
    question: Formula | None

    @property
    def agrees(self) -> bool:
        """Whether the solver reproduces the label."""
        return self.label is not None and self.outcome == self.label


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found out about a file.

    Args:
        rows: The rows in order.
        timeout_ms: The time limit of each question to z3, in milliseconds.
    """

    rows: tuple[CheckedRow, ...]
    timeout_ms: int

    @property
    def disagreeing(self) -> tuple[CheckedRow, ...]:
        """The rows with a label that is not reproduced, for whatever reason."""
        return tuple(row for row in self.rows if row.label is not None and not row.agrees)

    def to_json(self) -> dict[str, Any]:
        """Returns counts, and the lists behind them, as plain data."""
        outcomes = Counter(row.outcome for row in self.rows)
        repairs = [repair for row in self.rows for repair in row.repairs]
        return {
            "rows": len(self.rows),
            "parsed_strict": sum(row.outcome != "unparsed" and not row.repairs for row in self.rows),
            "parsed": len(self.rows) - outcomes["unparsed"],
            "repairs": len(repairs),
            "checked": sum(row.label is not None for row in self.rows),
            "agree": sum(row.agrees for row in self.rows),
            "timeouts": outcomes["timeout"],
            "inconsistent": outcomes["inconsistent"],
            "timeout_ms": self.timeout_ms,
            "disagreeing": [
                {
                    "row": row.row,
                    "label": row.label,
                    "outcome": row.outcome,
                    "problem": row.problem,
                    "conclusion": row.conclusion,
                }
                for row in self.disagreeing
            ],
            "repaired": [asdict(repair) for repair in repairs],
            "unparsed": [{"row": row.row, "problem": row.problem} for row in self.rows if row.outcome == "unparsed"],
        }


def check_rows(
    rows: Sequence[Mapping[str, Any]],
    where: str,
    timeout_ms: int = CHECK_TIMEOUT_MS,
    progress: Progress | None = None,
) -> CheckReport:
    """Checks rows in FOLIO's format: every formula parsed, the premises consistent, the label reproduced.

    Args:
        rows: The rows; see `folio_row`.
        where: What they come from, named in errors.
        timeout_ms: The time limit of each question to z3, in milliseconds.
        progress: Called after each row.

    Returns:
        What was found out. A formula that cannot be read is a finding, not an error.

    Raises:
        IsodistillError: If a field is missing or has another type; before anything is solved.
    """
    read = [folio_row(row, f"row {number} of {where}") for number, row in enumerate(rows)]
    checked = []
    for number, row in enumerate(read):
        checked.append(check_row(row, number, timeout_ms))
        if progress is not None:
            progress("rows", number + 1, len(read))
    return CheckReport(tuple(checked), timeout_ms)


def check_row(row: FolioRow, number: int = 0, timeout_ms: int = CHECK_TIMEOUT_MS) -> CheckedRow:
    """Checks one row.

    Args:
        row: The row.
        number: Its number, counted from 0.
        timeout_ms: The time limit of each question to z3, in milliseconds.

    Returns:
        What was found out.
    """
    repairs: list[PlacedRepair] = []

    def read(text: str, name: str) -> Formula:
        formula, made = parse_with_repairs(text, f"{name} of row {number}")
        repairs.extend(PlacedRepair(number, name, repair.what, repair.column, text) for repair in made)
        return formula

    premises: tuple[Formula, ...] = ()
    question: Formula | None = None
    problem = ""
    try:
        premises = tuple(read(text, f"premise {place}") for place, text in enumerate(row.formulas))
        if row.conclusion_formula is not None:
            question = read(row.conclusion_formula, "conclusion")
        outcome = _outcome(premises, question, timeout_ms)
    except NotationError as error:
        outcome, problem, premises, question = "unparsed", str(error), (), None
    except UndecidedError as error:
        outcome, problem = "timeout", str(error)
    except IsodistillError as error:
        # For example a predicate that takes numbers here and individuals there.
        outcome, problem = "ill-formed", str(error)
    if outcome == "inconsistent":
        problem = "The premises contradict each other, so any conclusion would follow."
    label = None if row.conclusion_formula is None else row.label
    return CheckedRow(number, label, outcome, tuple(repairs), problem, row.conclusion, premises, question)


def _outcome(premises: tuple[Formula, ...], question: Formula | None, timeout_ms: int) -> Outcome:
    if not consistent(premises, timeout_ms):
        return "inconsistent"
    if question is None:
        return "unchecked"
    if entails(premises, question, timeout_ms):
        return "True"
    return "False" if entails(premises, Not(question), timeout_ms) else "Unknown"
