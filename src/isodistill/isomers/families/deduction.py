"""Chains of rules about one individual, with negation and distractors."""

from __future__ import annotations

import itertools
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


class Deduction(Family):
    """A fact about an individual, a chain of rules that leads on from it, and a statement to judge.

    The sign of every literal (fact, conditions, conclusions, statement) is drawn for itself, whatever the answer, so
    that neither negation words nor their number tell the answer. Problems with the answer Unknown are made from the
    same chain, with as many sentences, by breaking one link:

    - polarity: the rule asks for the opposite of what is known;
    - converse: the rule runs the other way round;
    - gap: the rule asks for a property of which nothing is known;
    - individual: the fact is about someone else.

    Distractors are attached to the chain at one place at most and by properties that appear nowhere else, so they can
    neither prove nor refute the statement, nor shorten the proof.

    Args:
        distractors: The least and the most number of extra sentences.
        negation: Whether literals may be negated. Without it, only the last property of the chain may be, and
            that only if ``"False"`` is among the answers.
        statement_negation: Whether the statement to judge may be negated. Without it problems are easier, and whether
            the last rule is negated tells True from False: the surface audit objects unless it is switched off.
        answers: The answers that occur, at least two of True, False and Unknown.
        distractor_kinds: ``"mixed"``: facts on the same or another individual, rules that lead elsewhere, rules
            towards the chain (of either polarity) whose condition is not known, side chains; ``"neutral"``: unrelated
            facts only.
    """

    name: ClassVar[str] = "deduction"
    kinds: ClassVar[tuple[str, ...]] = (
        *("fact", "fact_not", "rule", "rule_then_not", "rule_if_not", "rule_if_not_then_not", "judge", "judge_not"),
    )

    distractors: Range = (1, 3)
    negation: bool = True
    statement_negation: bool = True
    answers: Verdicts = ("True", "False", "Unknown")
    distractor_kinds: Literal["mixed", "neutral"] = "mixed"

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

        subject = Const("subject")
        rules = list(itertools.pairwise(chain))
        fact, derived = chain[0].of(subject), depth
        if answer == "Unknown":
            ways = ["converse", "gap", "individual", *(["polarity"] if self.negation else [])]
            way = rng.choice(ways)
            link = rng.randrange(depth)
            condition, conclusion = rules[link]
            if way == "individual":
                fact, link = chain[0].of(Const("other")), 0
            elif way == "converse":
                rules[link] = (conclusion, condition)
            elif way == "gap":
                rules[link] = (Signed("gap", self._sign(rng)), conclusion)
            else:
                rules[link] = (condition.opposite(), conclusion)
            derived = link
        premises = [fact, *(_rule(*rule) for rule in rules), *self._distractors(rng, chain)]
        # Step n applies rule n to the fact or to the step before it, whose index counts on from the premises.
        proof = tuple(
            ProofStep(chain[n].of(subject), (0 if n == 1 else len(premises) + n - 2, n), "modus ponens")
            for n in range(1, derived + 1)
        )
        symbols = {name: Symbol(name, "property") for premise in premises for name in predicates(premise)}
        symbols |= {name: Symbol(name, "individual") for premise in premises for name in constants(premise)}
        symbols[subject.name] = Symbol(subject.name, "individual")
        skeleton = Skeleton(
            family=self.name,
            depth=depth,
            symbols=tuple(symbols.values()),
            premises=tuple(premises),
            question=statement.of(subject),
            answer=answer,
            choices=self.classes,
            proof=proof,
        )
        return with_standard_names(shuffled_premises(skeleton, rng.sample(range(len(premises)), len(premises))))

    def _sign(self, rng: Random) -> bool:
        return rng.random() < 0.5 if self.negation else True

    def _last_sign(self, rng: Random) -> bool:
        return rng.random() < 0.5 if self.negation or "False" in self.answers else True

    def _distractors(self, rng: Random, chain: list[Signed]) -> list[Formula]:
        """Draws extra sentences; each brings properties and individuals of its own (D0, D1, ... and E0, E1, ...)."""
        count = rng.randint(*self.distractors)
        made: list[Formula] = []
        while len(made) < count:
            new, other = Signed(f"D{len(made)}", self._sign(rng)), Const(f"E{len(made)}")
            ways = ["same", "other"]
            if self.distractor_kinds == "mixed":
                ways += ["other on the chain", "from the chain", "towards the chain"]
                ways += ["from the opposite"] if self.negation else []
                ways += ["side chain"] if len(made) + 2 <= count else []
            way = rng.choice(ways)
            place = rng.randrange(len(chain))
            if way == "same":
                made.append(new.of(Const("subject")))
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
                made += [new.of(Const("subject")), _rule(new, Signed(f"D{len(made)}b", self._sign(rng)))]
        return made

    def _sign_at(self, rng: Random, place: int, chain: list[Signed]) -> bool:
        return self._last_sign(rng) if place == len(chain) - 1 else self._sign(rng)


def _rule(condition: Signed, conclusion: Signed) -> Formula:
    return Forall(X, Implies(condition.of(X), conclusion.of(X)))
