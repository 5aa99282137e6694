"""Counting sets: sizes that are given, and sizes that follow from parts, unions and the rest."""

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
from isodistill.isomers.statements import STATEMENT_KINDS
from isodistill.logic.formula import Const, Equals, Formula, Int

LEAST_SIZE = 2
"""Every set and every number of members has at least 2, so that plurals are right."""

MAX_ATTEMPTS = 500


class Counting(NumericFamily):
    """Sizes of sets that overlap, fill or complete each other, and a size to find.

    A set is what one property singles out. The operations are: two parts make up a set without overlap (the set or a
    part may be the unknown), two sets overlap in n members and together make up a third (inclusion and exclusion,
    again with either unknown), a set has n members more than one that it contains, and two sets share out all n
    individuals. A set is used in one operation at most, so sets of these sizes always exist. Answers are balanced
    between even and odd; a cue points at the parity.

    Args:
        distractors: The least and the most number of extra sentences, each about a size that is not needed.
        start: The least and the most of a given size.
        limit: No size reaches this.
    """

    name: ClassVar[str] = "counting"
    kinds: ClassVar[tuple[str, ...]] = ("set_size", "set_parts", "set_union", "set_total", "set_more", "set_count")

    distractors: Range = (0, 2)
    start: Range = (5, 40)
    limit: int = Field(default=1000, gt=50, le=1000)

    @model_validator(mode="after")
    def _check(self) -> Counting:
        if not LEAST_SIZE <= self.start[0] <= self.start[1] < self.limit:
            raise ValueError(f"start must lie between {LEAST_SIZE} and limit")
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
            IsodistillError: If sizes below the limit do not reach this depth.
        """
        for _ in range(MAX_ATTEMPTS):
            sizes = _Sizes(rng, self)
            current: str | None = sizes.given()
            for _ in range(depth):
                current = sizes.computed(current) if current else None
            if current is None:
                continue
            needed = list(sizes.steps)
            for _ in range(rng.randint(*self.distractors)):
                if rng.random() < 0.5:
                    sizes.given()
                else:
                    sizes.computed(rng.choice(sizes.unused()))
            if sizes.fit():
                skeleton = self._skeleton(rng, sizes, needed, current, depth)
                if self.shortcut_class(skeleton) == answer_index:
                    return with_standard_names(skeleton)
        raise IsodistillError(
            f"No counting problem of depth {depth} with {self.classes[answer_index]} answer stays below the limit "
            f"{self.limit}; lower depth or raise limit."
        )

    def _skeleton(self, rng: Random, sizes: _Sizes, needed: list[str], asked: str, depth: int) -> Skeleton:
        premises = sizes.premises
        step = {name: len(premises) + place for place, name in enumerate(needed)}
        proof = tuple(
            ProofStep(
                Equals(Const(name), Int(sizes.values[name])),
                (sizes.place[name], *(step.get(source, sizes.place[source]) for source in sizes.steps[name])),
                "calculation",
            )
            for name in needed
        )
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(Symbol(name, "property") for name in sizes.values),
            premises=tuple(premises),
            question=Equals(Const(asked), ANSWER_VARIABLE),
            answer=str(sizes.values[asked]),
            choices=(),
            proof=proof,
        )
        return shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises)))


class _Sizes:
    """The sets of a problem in the making."""

    def __init__(self, rng: Random, family: Counting) -> None:
        self._rng, self._family = rng, family
        self.premises: list[Formula] = []
        self.values: dict[str, int] = {}
        self.place: dict[str, int] = {}
        self.steps: dict[str, tuple[str, ...]] = {}
        self._total: int | None = None

    def fit(self) -> bool:
        """Tells whether sets of these sizes exist: each in bounds, and none larger than the total, if one is told."""
        largest = max(self.values.values())
        return largest < self._family.limit and (self._total is None or largest <= self._total < self._family.limit)

    def unused(self) -> list[str]:
        """Names the sets from whose size no other has been computed."""
        used = {source for sources in self.steps.values() for source in sources}
        return [name for name in self.values if name not in used]

    def given(self) -> str:
        """Adds a set of a given size and returns its name."""
        value = self._rng.randint(*self._family.start)
        return self._add("set_size", {}, "A", value, value)

    def computed(self, source: str) -> str | None:
        """Adds a set whose size follows from that of a set that is there; ``None`` where no size would be in bounds."""
        rng, value = self._rng, self.values[source]
        ways = ["parts", "part", "union", "member of a union", "more", "fewer"]
        way = rng.choice(ways if self._total is not None else [*ways, "total"])
        if way == "total":
            self._total = max(self.values.values()) + rng.randint(2, 20)
            known, unknown = rng.choice([("A", "B"), ("B", "A")])
            return self._result("set_total", {known: source}, unknown, self._total - value, self._total)
        if way in ("more", "fewer"):
            number = rng.randint(2, 20)
            if way == "more":
                return self._result("set_more", {"B": source}, "A", value + number, number)
            return self._result("set_more", {"A": source}, "B", value - number, number)
        other = self.given()
        size = self.values[other]
        one, two = rng.sample(("B", "C"), 2)
        whole, part = (source, other) if value > size else (other, source)
        if way == "parts":
            return self._result("set_parts", {one: source, two: other}, "A", value + size)
        if way == "part":
            return self._result("set_parts", {"A": whole, one: part}, two, abs(value - size))
        if way == "union":
            if min(value, size) <= LEAST_SIZE:
                return None
            shared = rng.randint(2, min(value, size, 21) - 1)
            return self._result("set_union", {one: source, two: other}, "A", value + size - shared, shared)
        if self.values[part] <= LEAST_SIZE:
            return None
        shared = rng.randint(2, min(self.values[part], 21) - 1)
        return self._result("set_union", {"A": whole, one: part}, two, abs(value - size) + shared, shared)

    def _result(
        self,
        kind: str,
        filling: dict[str, str],
        unknown: str,
        value: int,
        number: int = 0,
    ) -> str | None:
        if value < LEAST_SIZE:
            return None
        name = self._add(kind, filling, unknown, value, number)
        self.steps[name] = tuple(filling.values())
        return name

    def _add(self, kind: str, filling: dict[str, str], unknown: str, value: int, number: int) -> str:
        name = f"Q{len(self.values)}"
        self.place[name] = len(self.premises)
        self.premises.append(STATEMENT_KINDS[kind].build({**filling, unknown: name, "n": str(number)}))
        self.values[name] = value
        return name
