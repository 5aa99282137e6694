"""Chains of rules about one individual, with negation and distractors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal, NamedTuple

from isodistill.isomers.families.base import Family, Range, Verdicts
from isodistill.isomers.skeleton import ProofStep, Skeleton, Symbol, shuffled_premises, with_standard_names
from isodistill.isomers.statements import X
from isodistill.logic.formula import Atom, Const, Forall, Formula, Implies, Not, Var, constants, predicates


class Signed(NamedTuple):
    """A property or its absence (a literal without its individual).

    Args:
        name: The property.
        positive: Whether it is there.
    """

    name: str
    positive: bool

    def of(self, term: Const | Var) -> Formula:
        """States it of a term."""
        atom = Atom(self.name, (term,))
        return atom if self.positive else Not(atom)

    def opposite(self) -> Signed:
        """Turns it round."""
        return Signed(self.name, not self.positive)


Rule = tuple[Signed, Signed]
"""Condition and conclusion."""

SUBJECT = Const("subject")
"""The individual that the statement is about."""


@dataclass
class _Line:
    """A chain from a fact to a conclusion, and what hangs on it.

    Args:
        chain: The properties, from the fact's to the conclusion's.
        facts: What is known; the chain's own fact is the first.
        rules: The links, in an order in which they can be applied one after another.
        name: Begins the names of what only this chain speaks of.
    """

    chain: list[Signed]
    facts: list[Formula]
    rules: list[Rule]
    name: str

    @classmethod
    def along(cls, chain: list[Signed], name: str) -> _Line:
        return cls(chain, [chain[0].of(SUBJECT)], list(itertools.pairwise(chain)), name)

    @property
    def premises(self) -> list[Formula]:
        return [*self.facts, *(_rule(*rule) for rule in self.rules)]


class Deduction(Family):
    """A fact about an individual, a chain of rules that leads on from it, and a statement to judge.

    The sign of every literal (fact, conditions, conclusions, statement) is drawn for itself, whatever the answer, so
    that neither negation words nor their number tell the answer. Beside the chain stands a decoy: a chain as long, from
    another fact to the opposite conclusion, which leads nowhere. So a rule that concludes on the property asked about
    tells nothing by itself: which of the two chains holds, has to be found link by link. Where the answer is Unknown,
    neither does.

    Each of the two chains is forked: it has its shorter end twice, alike link by link, and only one of them joins on to
    the rest, the right one or the wrong one. So no count of what stands where tells which. The other end, or without a
    decoy the chain with the answer Unknown, fails to join on in one of these ways:

    - polarity: the rule asks for the opposite of what is known;
    - converse: the rule runs the other way round;
    - gap: the rule asks for a property of which nothing is known;
    - individual: the fact is about someone else.

    Distractors are attached to one chain at one place at most and by properties that appear nowhere else, so they can
    neither prove nor refute the statement, nor shorten the proof.

    Args:
        distractors: The least and the most number of extra sentences.
        negation: Whether literals may be negated. Without it, only the last property of a chain may be, or that of its
            other end, and that only if ``"False"`` is among the answers.
        statement_negation: Whether the statement to judge may be negated. Without it problems are easier, and whether
            the last rule is negated tells True from False: the surface audit objects unless it is switched off.
        answers: The answers that occur, at least two of True, False and Unknown.
        distractor_kinds: ``"mixed"``: facts on the same or another individual, rules that lead elsewhere, rules
            towards the chain (of either polarity) whose condition is not known, side chains; ``"neutral"``: unrelated
            facts only; ``"decoy"``: as ``"mixed"``, beside the decoy. Without a decoy problems are a third shorter, and
            the sign of the last rule answers two in three (docs/isomers.md, Limits).
    """

    name: ClassVar[str] = "deduction"
    kinds: ClassVar[tuple[str, ...]] = (
        *("fact", "fact_not", "rule", "rule_then_not", "rule_if_not", "rule_if_not_then_not", "judge", "judge_not"),
    )

    distractors: Range = (1, 3)
    negation: bool = True
    statement_negation: bool = True
    answers: Verdicts = ("True", "False", "Unknown")
    distractor_kinds: Literal["decoy", "mixed", "neutral"] = "decoy"

    @property
    def classes(self) -> tuple[str, ...]:
        """The answers that occur."""
        return self.answers

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of rules in the chain, at least 1.
            answer_index: The index of the answer in `answers`.

        Returns:
            The skeleton.
        """
        answer = self.classes[answer_index]
        chain = [Signed(f"P{place}", self._sign(rng)) for place in range(depth)]
        statement = Signed(f"P{depth}", self._last_sign(rng) if self.statement_negation else True)
        # Where the answer is settled, the statement's fair coin settles the conclusion's sign: both stay fair.
        last = {"True": statement, "False": statement.opposite()}.get(answer)
        chain.append(last or Signed(statement.name, self._last_sign(rng)))

        lines = [_Line.along(chain, "")]
        if self.distractor_kinds == "decoy":
            lines.append(self._decoy(rng, chain))
            for line in lines:
                self._fork(rng, line, crossed=answer == "Unknown" or line is not lines[0])
        elif answer == "Unknown":
            way = rng.choice(["converse", "gap", "individual", *(["polarity"] if self.negation else [])])
            self._break(rng, lines[0], way, rng.randrange(depth))
        premises = [premise for line in lines for premise in line.premises]
        premises += self._distractors(rng, [line.chain for line in lines])
        # What an Unknown problem lets one derive, it does on both chains; a proof needs no more than its own.
        proof = _derived(lines if answer == "Unknown" else lines[:1], len(premises))
        symbols = {name: Symbol(name, "property") for premise in premises for name in predicates(premise)}
        symbols |= {name: Symbol(name, "individual") for premise in premises for name in constants(premise)}
        symbols[SUBJECT.name] = Symbol(SUBJECT.name, "individual")
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(symbols.values()),
            premises=tuple(premises),
            question=statement.of(SUBJECT),
            answer=answer,
            choices=self.classes,
            proof=tuple(proof),
        )
        return with_standard_names(shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises))))

    def _sign(self, rng: Random) -> bool:
        return rng.random() < 0.5 if self.negation else True

    def _last_sign(self, rng: Random) -> bool:
        return rng.random() < 0.5 if self.negation or "False" in self.answers else True

    def _decoy(self, rng: Random, chain: list[Signed]) -> _Line:
        """Draws a chain to the opposite conclusion."""
        end = chain[-1].opposite() if self.negation or "False" in self.answers else chain[-1]
        return _Line.along([*(Signed(f"Q{place}", self._sign(rng)) for place in range(len(chain) - 1)), end], "decoy ")

    def _fork(self, rng: Random, line: _Line, crossed: bool) -> None:
        """Doubles the shorter end of a chain, and joins one of the two on to the rest.

        Args:
            rng: The only source of chance.
            line: The chain, whole; changed in place.
            crossed: Whether the end with the asked property, or with the fact, is the one that does not join on.
        """
        link, depth = rng.randrange(len(line.rules)), len(line.rules)
        joint = line.chain[link]
        late = link == 0 or link * 2 >= depth
        ways = ["gap", *(["polarity"] if self.negation else [])]
        # The last rule keeps its direction: whether it concludes on what is asked is to be seen at once.
        ways += ["converse"] if late and link < depth - 1 else []
        way = rng.choice(ways)
        loose = joint.opposite() if way == "polarity" else Signed(f"{line.name}loose", joint.positive)
        if not late:
            start = [Signed(f"{line.name}start {n}", one.positive) for n, one in enumerate(line.chain[:link])]
            line.facts.append(start[0].of(Const(f"{line.name}other")))
            line.rules[link:link] = itertools.pairwise([*start, loose])
            if crossed:
                line.rules[2 * link] = (loose, line.chain[link + 1])
            return
        end = [Signed(f"{line.name}end {n}", one.positive) for n, one in enumerate(line.chain[link + 1 :])]
        inner = list(itertools.pairwise(end))
        right, wrong = line.chain[link + 1], end[0]
        if crossed:
            right, wrong = wrong, right
        joined = (joint, right)
        apart = (wrong, joint) if way == "converse" else (loose, wrong)
        line.rules[link] = apart if crossed else joined
        line.rules += [joined if crossed else apart, *inner]
        if link == 0 and way == "gap" and rng.random() < 0.5:
            line.facts.append(loose.of(Const(f"{line.name}other")))

    def _break(self, rng: Random, line: _Line, way: str, link: int) -> None:
        """Breaks a chain at its fact or at a rule, so that nothing follows from there on."""
        if way == "individual":
            line.facts[0] = line.chain[0].of(Const(f"{line.name}other"))
            return
        condition, conclusion = line.rules[link]
        if way == "converse":
            line.rules[link] = (conclusion, condition)
        elif way == "gap":
            line.rules[link] = (Signed(f"{line.name}gap{link}", self._sign(rng)), conclusion)
        else:
            line.rules[link] = (condition.opposite(), conclusion)

    def _distractors(self, rng: Random, chains: list[list[Signed]]) -> list[Formula]:
        """Draws extra sentences; each brings properties and individuals of its own (D0, D1, ... and E0, E1, ...)."""
        count = rng.randint(*self.distractors)
        made: list[Formula] = []
        while len(made) < count:
            new, other = Signed(f"D{len(made)}", self._sign(rng)), Const(f"E{len(made)}")
            ways = ["same", "other"]
            if self.distractor_kinds != "neutral":
                ways += ["other on the chain", "from the chain", "towards the chain"]
                ways += ["from the opposite"] if self.negation else []
                ways += ["side chain"] if len(made) + 2 <= count else []
            way = rng.choice(ways)
            chain = chains[0] if len(chains) == 1 else rng.choice(chains)
            place = rng.randrange(len(chain))
            if way == "same":
                made.append(new.of(SUBJECT))
            elif way == "other":
                made.append(new.of(other))
            elif way == "other on the chain":
                made.append(Signed(chain[place].name, self._sign_at(rng, place, chain)).of(other))
            elif way == "from the chain":
                made.append(_rule(chain[place], new))
            elif way == "from the opposite":
                made.append(_rule(chain[place].opposite(), new))
            elif way == "towards the chain":
                place = rng.randrange(1, len(chain))
                made.append(_rule(new, Signed(chain[place].name, self._sign_at(rng, place, chain))))
            else:
                made += [new.of(SUBJECT), _rule(new, Signed(f"D{len(made)}b", self._sign(rng)))]
        return made

    def _sign_at(self, rng: Random, place: int, chain: list[Signed]) -> bool:
        return self._last_sign(rng) if place == len(chain) - 1 else self._sign(rng)


def _derived(lines: list[_Line], premises: int) -> tuple[ProofStep, ...]:
    """Applies the rules of chains, whose premises stand first among all, to what is known of the subject.

    Args:
        lines: The chains.
        premises: The number of all premises.

    Returns:
        A step for each rule that can be applied.
    """
    steps: list[ProofStep] = []
    first = 0
    for line in lines:
        places = {fact: first + place for place, fact in enumerate(line.facts)}
        for place, (condition, conclusion) in enumerate(line.rules, start=first + len(line.facts)):
            known = places.get(condition.of(SUBJECT))
            if known is not None:
                places[conclusion.of(SUBJECT)] = premises + len(steps)
                steps.append(ProofStep(conclusion.of(SUBJECT), (known, place), "modus ponens"))
        first += len(line.premises)
    return tuple(steps)


def _rule(condition: Signed, conclusion: Signed) -> Formula:
    return Forall(X, Implies(condition.of(X), conclusion.of(X)))
