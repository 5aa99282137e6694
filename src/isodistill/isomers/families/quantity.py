"""Word problems: amounts that are given, and amounts that are computed from others step by step."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pydantic import Field, model_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.families.base import NumericFamily, Range
from isodistill.isomers.skeleton import (
    ANSWER_VARIABLE,
    ProofStep,
    Skeleton,
    Symbol,
    shuffled_premises,
    with_standard_names,
)
from isodistill.logic.formula import Arith, Const, Equals, Formula, Int

LEAST_VALUE = 2
"""Every amount is at least 2, so that plural nouns are right."""

MAX_ATTEMPTS = 500


class Quantity(NumericFamily):
    """A given amount, then one operation after another, each on the amount before it, and a number to find.

    The operations are: n more, n fewer, n times as many, and as many as two others together. Every amount on the way
    is at least 2 and below `limit`. Answers are balanced between even and odd; a cue points at the parity.

    Args:
        distractors: The least and the most number of extra sentences, each about an amount that is not needed.
        start: The least and the most of a given amount.
        limit: No amount reaches this.
    """

    name: ClassVar[str] = "quantity"
    kinds: ClassVar[tuple[str, ...]] = ("amount", "more", "fewer", "times", "together", "how_many")

    distractors: Range = (0, 2)
    start: Range = (3, 40)
    limit: int = Field(default=1000, gt=50, le=1000)

    @model_validator(mode="after")
    def _check(self) -> Quantity:
        if not LEAST_VALUE <= self.start[0] <= self.start[1] < self.limit:
            raise ValueError(f"start must lie between {LEAST_VALUE} and limit")
        return self

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of operations, at least 1.
            answer_index: 0 for an even answer, 1 for an odd one.

        Returns:
            The skeleton.

        Raises:
            IsodistillError: If amounts below the limit do not reach this depth.
        """
        for _ in range(MAX_ATTEMPTS):
            skeleton = self._attempt(rng, depth)
            if skeleton is not None and self.shortcut_class(skeleton) == answer_index:
                return with_standard_names(skeleton)
        raise IsodistillError(
            f"No quantity problem of depth {depth} with {self.classes[answer_index]} answer stays below the limit "
            f"{self.limit}; lower depth or raise limit."
        )

    def _attempt(self, rng: Random, depth: int) -> Skeleton | None:
        given = _Amounts(rng, self)
        current = given.start()
        for _ in range(depth):
            following = given.computed(current)
            if following is None:
                return None
            current = following
        needed = list(given.steps)
        for _ in range(rng.randint(*self.distractors)):
            if rng.random() < 0.5:
                given.start()
            elif given.computed(rng.choice(list(given.values))) is None:
                return None
        premises = given.premises
        first_step = {name: len(premises) + place for place, name in enumerate(needed)}
        proof = tuple(
            ProofStep(
                Equals(Const(name), Int(given.values[name])),
                (
                    given.place[name],
                    *(first_step.get(source, given.place[source]) for source in given.steps[name]),
                ),
                "calculation",
            )
            for name in needed
        )
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=(*(Symbol(name, "agent") for name in given.values), Symbol("theme", "item")),
            premises=tuple(premises),
            question=Equals(Const(current), ANSWER_VARIABLE),
            answer=str(given.values[current]),
            choices=(),
            proof=proof,
        )
        return shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises)))


class _Amounts:
    """The amounts of a problem in the making."""

    def __init__(self, rng: Random, family: Quantity) -> None:
        self._rng, self._family = rng, family
        self.premises: list[Formula] = []
        self.values: dict[str, int] = {}
        self.place: dict[str, int] = {}
        self.steps: dict[str, tuple[str, ...]] = {}

    def start(self) -> str:
        """Adds a given amount and returns its name."""
        value = self._rng.randint(*self._family.start)
        return self._add(Int(value), value)

    def computed(self, source: str) -> str | None:
        """Adds an amount computed from one that is there and returns its name, or ``None`` if it is out of bounds."""
        rng, value, term = self._rng, self.values[source], Const(source)
        operation = rng.choice(("more", "fewer", "times", "together"))
        sources: tuple[str, ...] = (source,)
        if operation == "more":
            number = rng.randint(2, 20)
            name = self._add(Arith("+", (term, Int(number))), value + number)
        elif operation == "fewer":
            number = rng.randint(2, 20)
            name = self._add(Arith("-", (term, Int(number))), value - number)
        elif operation == "times":
            number = rng.randint(2, 5)
            name = self._add(Arith("*", (Int(number), term)), value * number)
        else:
            others = [known for known in self.values if known != source]
            other = rng.choice(others) if others and rng.random() < 0.5 else self.start()
            sources = (source, other) if rng.random() < 0.5 else (other, source)
            name = self._add(Arith("+", (Const(sources[0]), Const(sources[1]))), value + self.values[other])
        self.steps[name] = sources
        return name if LEAST_VALUE <= self.values[name] < self._family.limit else None

    def _add(self, term: Arith | Int, value: int) -> str:
        name = f"Q{len(self.values)}"
        self.place[name] = len(self.premises)
        self.premises.append(Equals(Const(name), term))
        self.values[name] = value
        return name
