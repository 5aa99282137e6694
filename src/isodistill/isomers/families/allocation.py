"""Places in a row, one for each individual, and clues that leave one arrangement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import ClassVar, NamedTuple

from pydantic import model_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.families.base import Family, Range
from isodistill.isomers.skeleton import ProofStep, Skeleton, Symbol, shuffled_premises, with_standard_names
from isodistill.isomers.statements import STATEMENT_KINDS, row_formula
from isodistill.logic.formula import Const, Equals, Formula, Int, Not

MAX_PEOPLE = 8
"""Arrangements are enumerated: 8 individuals have 40,320 of them."""

MAX_EXCLUDING = 3
"""No so many clues (at depth 1 and 2: no `depth`) exclude the place of a false statement."""

MAX_ATTEMPTS = 2000

TRIES = 200
"""How often an arrangement is looked for with somebody at one place, the right one asked about and the wrong one."""


class Clue(NamedTuple):
    """A statement about one or two places.

    Args:
        kind: A statement kind: at, not_at, before, next_after, places_after or adjacent.
        first: An individual.
        second: Another one, or -1 for the kinds that speak of one.
        number: The number in it, or 0.
    """

    kind: str
    first: int
    second: int = -1
    number: int = 0

    def holds(self, places: Sequence[int]) -> bool:
        """Tells whether an arrangement satisfies the clue.

        Args:
            places: The place of each individual.

        Returns:
            ``True`` if it does.
        """
        first = places[self.first]
        if self.second < 0:
            return (first == self.number) == (self.kind == "at")
        ahead = first - places[self.second]
        if self.kind == "places_after":  # most clues are of this kind
            return ahead == self.number
        if self.kind == "before":
            return ahead < 0
        return ahead == 1 or (ahead == -1 and self.kind == "adjacent")

    def names(self, place: int) -> bool:
        """Tells whether the clue says of a place who is there, or who is not.

        Args:
            place: The place.

        Returns:
            ``True`` if it does.
        """
        return self.second < 0 and self.number == place

    @property
    def formula(self) -> Formula:
        """The clue as a formula."""
        filling = {"i": f"T{self.first}", "j": f"T{self.second}", "n": str(self.number)}
        return STATEMENT_KINDS[self.kind].build(filling)


class Allocation(Family):
    """Some individuals fill the places of a row; clues leave one arrangement; is somebody in a certain place?

    A first clue gives somebody's place. From it a chain of `depth` steps leads to the individual asked about, each
    fixing one further place by one to three clues: a distance, a neighbour and a side, or the one place that is left.
    Every clue of the chain is needed for the answer, and where the statement is false, more than `depth` clues (from
    depth 3 on, more than 3) are needed to exclude the place that it names: none says so by itself. No clue says who is,
    or is not, at the place asked about. Further clues fix everybody else. The same clues serve either answer.

    Args:
        others: The least and the most number of individuals beside those of the chain, at least 2: with fewer, hardly
            any place is left open by three clues. A row has eight places at most, so deep problems have fewer.
        distractors: The least and the most number of clues more than the arrangement needs.
    """

    name: ClassVar[str] = "allocation"
    kinds: ClassVar[tuple[str, ...]] = (
        *("row", "at", "not_at", "before", "next_after", "places_after", "adjacent", "judge_at"),
    )
    max_depth: ClassVar[int | None] = MAX_PEOPLE - 3  # the first of the chain, and two others

    others: Range = (2, 3)
    distractors: Range = (0, 1)

    @model_validator(mode="after")
    def _check(self) -> Allocation:
        if self.others[0] < 2:
            raise ValueError("others must be at least 2")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Whether the statement is true; a place is never unknown, since there is one arrangement."""
        return ("True", "False")

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of places that are fixed one after another, at least 1.
            answer_index: The index of the answer in `classes`.

        Returns:
            The skeleton.

        Raises:
            IsodistillError: If the depth is beyond `max_depth`, or no clues were found.
        """
        if self.max_depth is not None and depth > self.max_depth:
            raise IsodistillError(f"An allocation has a depth of {self.max_depth} at most, not {depth}; lower it.")
        people = min(MAX_PEOPLE, depth + 1 + rng.randint(*self.others))
        for _ in range(MAX_ATTEMPTS):
            first, right, wrong = rng.sample(range(1, people + 1), 3)
            if not _exchangeable(self.distractors, people, depth, first, *sorted((right, wrong))):
                continue
            made = self.arranged(rng, people, depth, first, right, wrong)
            if made is not None:
                return self._skeleton(rng, *made, (right, wrong)[answer_index])
        raise IsodistillError(f"No allocation of depth {depth} was found; lower depth.")

    def arranged(
        self, rng: Random, people: int, depth: int, first: int, right: int, wrong: int
    ) -> tuple[list[int], list[list[Clue]], list[Clue]] | None:
        """Draws places and clues, whatever the answer will be.

        Args:
            rng: The only source of chance.
            people: How many individuals there are.
            depth: The depth.
            first: The place of individual 0.
            right: The place of individual `depth`.
            wrong: Another place, which few clues are not to exclude for that individual.

        Returns:
            The place of each individual, the clues of each step, and all clues; ``None`` if none were found in `TRIES`
            tries.
        """
        for _ in range(TRIES):
            places = rng.sample([place for place in range(1, people + 1) if place not in (first, right)], people - 2)
            places.insert(0, first)
            places.insert(depth, right)
            steps = _chain(rng, places, depth)
            if any(clue.names(right) or clue.names(wrong) for clue in itertools.chain.from_iterable(steps)):
                continue
            clues = self._completed(rng, places, steps, {right, wrong})
            if clues is not None and wrong in _deep_places(people, clues, depth, min(depth, MAX_EXCLUDING)):
                return places, steps, clues
        return None

    def _completed(
        self, rng: Random, places: list[int], steps: list[list[Clue]], unnamed: set[int]
    ) -> list[Clue] | None:
        """Adds clues until one arrangement is left, and a few more; ``None`` if a clue of the chain is not needed."""
        people, target = len(places), len(steps) - 1
        needed = list(itertools.chain.from_iterable(steps))
        clues = list(needed)
        candidates = [
            clue for clue in _unnaming(people, frozenset(unnamed)) if clue.holds(places) and clue not in needed
        ]
        # A clue about one place of somebody else would often give that place away: the weaker ones come first.
        rng.shuffle(candidates)
        candidates.sort(key=lambda clue: clue.kind == "at")
        wanted = rng.randint(*self.distractors)
        left = _left(people, clues)
        # What each of the chain's clues leaves when it is the one that is missing: it must not fix the target.
        without = [_left(people, [clue for clue in clues if clue != spare]) for spare in needed]
        for clue in candidates:
            alone = left.bit_count() == 1
            if alone and wanted == 0:
                break
            mask = _mask(people, clue)
            if alone:
                if clue.kind == "at":
                    continue
                wanted -= 1
            elif not left & ~mask:
                continue
            trimmed = [each & mask for each in without]
            if not any(_fixed(people, each, target) for each in trimmed):
                clues.append(clue)
                left, without = left & mask, trimmed
        settled = left.bit_count() == 1 and not any(_fixed(people, each, target) for each in without)
        return clues if settled else None

    def _skeleton(
        self,
        rng: Random,
        places: list[int],
        steps: list[list[Clue]],
        clues: list[Clue],
        asked: int,
    ) -> Skeleton:
        people, depth = len(places), len(steps) - 1
        names = [f"T{person}" for person in rng.sample(range(people), people)]
        premises = [row_formula(names, people), *(clue.formula for clue in clues)]
        answer = "True" if places[depth] == asked else "False"
        proof: list[ProofStep] = []
        known = [1]  # where each place that is fixed so far stands: the first clue gives the first
        for person, group in enumerate(steps[1:], start=1):
            cited = [1 + clues.index(clue) for clue in group]
            if group[0].kind == "not_at":
                rule, uses = "elimination", [0, *known, *cited]
            else:
                # Being next to somebody at an end of the row fixes a place, if one knows where the row ends.
                at_end = len(group) == 1 and group[0].kind == "adjacent"
                rule, uses = "position", [*([0] if at_end else []), known[-1], *cited]
            proof.append(ProofStep(_at(person, places[person]), tuple(uses), rule))
            known.append(len(premises) + len(proof) - 1)
        if answer == "False":
            proof.append(ProofStep(Not(_at(depth, asked)), (known[-1],), "another place"))
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(Symbol(f"T{person}", "individual") for person in range(people)),
            premises=tuple(premises),
            question=_at(depth, asked),
            answer=answer,
            choices=self.classes,
            proof=tuple(proof),
        )
        order = [0, *rng.sample(range(1, len(premises)), len(premises) - 1)]
        return with_standard_names(shuffled_premises(skeleton, order))


def _at(person: int, place: int) -> Formula:
    return Equals(Const(f"T{person}"), Int(place))


def _chain(rng: Random, places: list[int], depth: int) -> list[list[Clue]]:
    """Draws the clues of each step: the first gives the place of individual 0, step n fixes individual n."""
    steps = [[Clue("at", 0, -1, places[0])]]
    for person in range(1, depth + 1):
        groups = [way(rng, places, person) for way in (_distance, _neighbour, _elimination)]
        steps.append(rng.choice([group for group in groups if group]))
    return steps


def _distance(rng: Random, places: list[int], person: int) -> list[Clue]:
    """Fixes a place by its distance from the one fixed before."""
    ahead = places[person] - places[person - 1]
    pair = (person, person - 1) if ahead > 0 else (person - 1, person)
    return [Clue("next_after", *pair) if abs(ahead) == 1 else Clue("places_after", *pair, abs(ahead))]


def _neighbour(rng: Random, places: list[int], person: int) -> list[Clue]:
    """Fixes a place by being next to the one fixed before, and by what rules out its other side, if there is one."""
    here, before = places[person], places[person - 1]
    if abs(here - before) != 1:
        return []
    adjacent = Clue("adjacent", *rng.sample((person, person - 1), 2))
    other = 2 * before - here
    if not 1 <= other <= len(places):
        return [adjacent]
    side = Clue("before", *((person, person - 1) if here < before else (person - 1, person)))
    return [adjacent, rng.choice([side, Clue("not_at", person, -1, other)])]


def _elimination(rng: Random, places: list[int], person: int) -> list[Clue]:
    """Fixes a place as the only one that is left, where the places fixed before leave at most two others open."""
    taken = {places[earlier] for earlier in range(person)}
    rest = [place for place in range(1, len(places) + 1) if place not in taken and place != places[person]]
    return [Clue("not_at", person, -1, place) for place in rest] if len(rest) <= 2 else []


@lru_cache(maxsize=10_000)
def _exchangeable(distractors: Range, people: int, depth: int, first: int, one: int, other: int) -> bool:
    """Tells whether either of two places may be the right one and the other the wrong one, with somebody at a third.

    Only such places are asked about: else a look at the first clue and the statement would tell the answer in three
    cases of four. Most places further apart than two never go together.
    """
    if abs(one - other) > 2:
        return False
    family = Allocation(distractors=distractors)
    rng = Random(f"{people}/{depth}/{first}/{one}/{other}")
    pairs = ((one, other), (other, one))
    return all(family.arranged(rng, people, depth, first, *pair) is not None for pair in pairs)


@lru_cache(maxsize=16)
def _all_clues(people: int) -> tuple[Clue, ...]:
    one = [Clue(kind, person, -1, place) for kind in ("at", "not_at") for person, place in _grid(people)]
    pairs = list(itertools.permutations(range(people), 2))
    two = [Clue(kind, *pair) for kind in ("before", "next_after") for pair in pairs]
    two += [Clue("places_after", *pair, gap) for pair in pairs for gap in range(2, people)]
    return (*one, *two, *(Clue("adjacent", *pair) for pair in itertools.combinations(range(people), 2)))


@lru_cache(maxsize=1024)
def _unnaming(people: int, places: frozenset[int]) -> tuple[Clue, ...]:
    return tuple(clue for clue in _all_clues(people) if not any(map(clue.names, places)))


def _grid(people: int) -> list[tuple[int, int]]:
    return list(itertools.product(range(people), range(1, people + 1)))


@lru_cache(maxsize=20_000)
def _mask(people: int, clue: Clue) -> int:
    """Marks the arrangements that satisfy a clue: one bit for each."""
    if clue.kind == "at":
        return _place_masks(people)[clue.first, clue.number]
    everything = (1 << len(_arrangements(people))) - 1
    if clue.kind == "not_at":
        return everything & ~_place_masks(people)[clue.first, clue.number]
    mask = 0
    at = _place_masks(people)
    for one, other in itertools.permutations(range(1, people + 1), 2):
        spots = [0] * people
        spots[clue.first], spots[clue.second] = one, other
        if clue.holds(spots):
            mask |= at[clue.first, one] & at[clue.second, other]
    return mask


@lru_cache(maxsize=16)
def _arrangements(people: int) -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.permutations(range(1, people + 1)))


@lru_cache(maxsize=16)
def _place_masks(people: int) -> dict[tuple[int, int], int]:
    masks = {}
    for person, place in _grid(people):
        bits = "".join("1" if row[person] == place else "0" for row in reversed(_arrangements(people)))
        masks[person, place] = int(bits, 2)
    return masks


def _left(people: int, clues: Sequence[Clue]) -> int:
    """Marks the arrangements that satisfy all clues."""
    mask = (1 << len(_arrangements(people))) - 1
    for clue in clues:
        mask &= _mask(people, clue)
    return mask


def _deep_places(people: int, clues: Sequence[Clue], target: int, count: int) -> set[int]:
    """Finds the places, the true one among them, that no `count` clues exclude for the target."""
    at = _place_masks(people)
    places = set(range(1, people + 1))
    for chosen in itertools.combinations(clues, count):
        left = _left(people, chosen)
        places = {place for place in places if left & at[target, place]}
    return places


def _fixed(people: int, left: int, person: int) -> bool:
    """Tells whether somebody has one place in all arrangements that are left."""
    masks = _place_masks(people)
    return any(not left & ~masks[person, place] for place in range(1, people + 1))
