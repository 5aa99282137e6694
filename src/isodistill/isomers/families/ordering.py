"""Comparisons of things in a strict order, and a statement about two of them to judge."""

from __future__ import annotations

import itertools
from random import Random
from typing import ClassVar

from pydantic import model_validator

from isodistill.isomers.families.base import Family, Range, Verdicts
from isodistill.isomers.skeleton import ProofStep, Skeleton, Symbol, shuffled_premises, with_standard_names
from isodistill.logic.formula import Const, Formula, Less, Not

Edge = tuple[int, int]
"""The first thing comes before the second."""


class Ordering(Family):
    """A chain of comparisons between two things, further comparisons around it, and "a comes before b" to judge.

    A chain leads up and one leads down from each of the two things, and two of the four meet: the chain upwards from
    one and downwards from the other where the two are in an order, both upwards or both downwards where the answer is
    Unknown. So whatever the answer, there are as many comparisons between as many things, all connected, which turn
    once (without the further comparisons), and the chains have to be followed to tell. No further comparison shortens
    the way between the two or settles their order.

    Args:
        extra: The least and the most number of further comparisons; without decoys at least 1 if ``"Unknown"`` may
            occur, because two things and one comparison leave nothing unknown.
        redundant: The chance that a further comparison is between things already there, where one fits.
        answers: The answers that occur, at least two of True, False and Unknown.
        decoy: Whether there are chains beside the one that is asked for. Without them problems are a third shorter, an
            Unknown problem has one link of the chain turned round, and what the two things are compared with tells
            four answers of five (docs/isomers.md, Limits).
    """

    name: ClassVar[str] = "ordering"
    kinds: ClassVar[tuple[str, ...]] = ("less", "judge_less")

    extra: Range = (1, 3)
    redundant: float = 0.3
    answers: Verdicts = ("True", "False", "Unknown")
    decoy: bool = True

    @model_validator(mode="after")
    def _check(self) -> Ordering:
        if "Unknown" in self.answers and self.extra[0] < 1 and not self.decoy:
            raise ValueError("extra must be at least 1 where Unknown is among the answers and there is no decoy")
        if not 0 <= self.redundant <= 1:
            raise ValueError("redundant must be a chance between 0 and 1")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The answers that occur."""
        return self.answers

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of comparisons on the shortest way between the two things, at least 1.
            answer_index: The index of the answer in `answers`.

        Returns:
            The skeleton.
        """
        answer = self.classes[answer_index]
        first, last = 0, depth
        edges: list[Edge] = list(itertools.pairwise(range(depth + 1)))
        things = depth + 1
        extra = rng.randint(*self.extra)
        if self.decoy:
            edges = _connected(rng, depth) if answer != "Unknown" else _unconnected(rng, depth)
            things = 1 + max(itertools.chain.from_iterable(edges))
        elif answer == "Unknown" and depth == 1:
            # One link cannot be turned round; a third thing that both precede or follow takes its place.
            edges = rng.choice([[(0, 2), (1, 2)], [(2, 0), (2, 1)]])
            things, extra = 3, extra - 1
        elif answer == "Unknown":
            link = rng.randrange(depth)
            edges[link] = (link + 1, link)
        wanted = None if answer == "Unknown" else depth
        for _ in range(extra):
            edge = self._redundant(rng, edges, things, (first, last), wanted)
            if edge is None:
                place, new = rng.randrange(things), things
                edge = (place, new) if rng.random() < 0.5 else (new, place)
                things += 1
            edges.append(edge)

        premises = [_less(edge) for edge in edges]
        ends = (last, first) if answer == "False" else (first, last)
        if answer == "Unknown" and rng.random() < 0.5:
            ends = (last, first)
        proof = () if answer == "Unknown" else _proof(depth, len(premises), refuted=answer == "False")
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=(*(Symbol(f"T{thing}", "individual") for thing in range(things)), Symbol("theme", "relation")),
            premises=tuple(premises),
            question=_less(ends),
            answer=answer,
            choices=self.classes,
            proof=proof,
        )
        return with_standard_names(shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises))))

    def _redundant(self, rng: Random, edges: list[Edge], things: int, asked: Edge, wanted: int | None) -> Edge | None:
        """Draws a comparison between things already there that changes nothing about the question, if one is due."""
        if rng.random() >= self.redundant:
            return None
        fitting = [
            edge
            for edge in itertools.permutations(range(things), 2)
            if edge not in edges
            and way_length(edges, edge[1], edge[0]) is None
            and way_length([*edges, edge], *asked) == wanted
            and way_length([*edges, edge], asked[1], asked[0]) is None
        ]
        return rng.choice(fitting) if fitting else None


def _connected(rng: Random, depth: int) -> list[Edge]:
    """Draws a chain from thing 0 to thing `depth`, a decoy below its lower end and one above its upper end.

    The outer end of one of the decoys turns back, as the chains of `_unconnected` do where they meet: so how often the
    comparisons turn, which can be counted without following any chain, is the same for every answer.
    """
    below = _share(rng, depth)
    edges = list(itertools.pairwise(range(depth + 1)))
    edges += _path(0, list(range(depth + 1, depth + 1 + below)), up=False)
    edges += _path(depth, list(range(depth + 1 + below, 2 * depth + 1)), up=True)
    turns = [(depth + below, True)] * (below > 0) + [(2 * depth, False)] * (below < depth)
    end, up = rng.choice(turns)
    return [*edges, *_path(end, [2 * depth + 1], up)]


def _unconnected(rng: Random, depth: int) -> list[Edge]:
    """Draws two chains from things 0 and `depth` to a common thing above (or below) both, and two the other way."""
    up = rng.random() < 0.5
    new = iter([*range(1, depth), *range(depth + 1, 3 * depth + 2)])
    # The chains to the common thing have `depth` comparisons together, or the two that they need.
    one = _share(rng, depth) if depth > 1 else 1
    top = [next(new) for _ in range(max(depth, 2) - 1)]
    edges = [*_path(0, top[:one], up), *_path(depth, [*reversed(top[one:]), top[one - 1]], up)]
    # The others have as many as the decoys of a connected pair, the one that turns back included.
    rest = 2 * depth + 1 - len(edges)
    away = rng.randint(1, rest - 1) if rest > 1 else rng.randint(0, 1)
    edges += _path(0, [next(new) for _ in range(away)], not up)
    return edges + _path(depth, [next(new) for _ in range(rest - away)], not up)


def _share(rng: Random, depth: int) -> int:
    """Deals comparisons out to two chains, at least one to each where there are two."""
    return rng.randint(1, depth - 1) if depth > 1 else rng.randint(0, 1)


def _path(start: int, things: list[int], up: bool) -> list[Edge]:
    """Leads from a thing over others, upwards or downwards."""
    return [pair if up else (pair[1], pair[0]) for pair in itertools.pairwise([start, *things])]


def way_length(edges: list[Edge], start: int, end: int) -> int | None:
    """Counts the comparisons on the shortest way from one thing to another.

    Args:
        edges: The comparisons.
        start: Where the way begins.
        end: Where it ends.

    Returns:
        The number of comparisons, or ``None`` if no way leads there.
    """
    reached, border, length = {start}, {start}, 0
    while border:
        if end in border:
            return length
        border = {after for before, after in edges if before in border} - reached
        reached |= border
        length += 1
    return None


def _less(edge: Edge) -> Formula:
    return Less(Const(f"T{edge[0]}"), Const(f"T{edge[1]}"))


def _proof(depth: int, premises: int, refuted: bool) -> tuple[ProofStep, ...]:
    steps = [
        ProofStep(_less((0, place + 1)), (0 if place == 1 else premises + place - 2, place), "transitivity")
        for place in range(1, depth)
    ]
    if refuted:
        steps.append(ProofStep(Not(_less((depth, 0))), (premises + depth - 2 if depth > 1 else 0,), "asymmetry"))
    elif depth == 1:
        steps.append(ProofStep(_less((0, 1)), (0,), "restatement"))
    return tuple(steps)
