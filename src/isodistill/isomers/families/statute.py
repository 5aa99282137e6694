"""Rules with exceptions that take priority, as statutes have them, applied to one individual."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from isodistill.isomers.families.base import Family, Range, Verdicts
from isodistill.isomers.families.deduction import Signed
from isodistill.isomers.skeleton import ProofStep, Skeleton, Symbol, shuffled_premises, with_standard_names
from isodistill.isomers.statements import STATEMENT_KINDS
from isodistill.logic.formula import Const, Formula, constants, predicates

SUBJECT = Const("subject")


class Statute(Family):
    """Provisions in a hierarchy, facts about an individual, and a statement about it to judge.

    A provision is two sentences: a rule ("every A contract is B, unless that contract is C") and an exception that
    prevails over it ("as an exception, no A contract that is C is B"). Whether C applies is a fact, or is settled by
    another provision, whose exception may be settled by a third, and so on. Each sentence names its exception, so it
    holds as it stands, in classical logic, and a solver can prove the answer from the sentences alone.

    The sign of every conclusion, of the innermost fact and of the statement is drawn for itself, whatever the answer.
    Where the answer is Unknown, a fact is missing, so that a provision, or the choice between its two sentences, stays
    open. Beside the provisions that lead to the statement stands one that leads elsewhere and needs facts of the same
    sort: it lacks one where the statement can be settled, and lacks none where it cannot. So no count of what stands
    where tells the answer.

    Args:
        shared: The chance that a provision applies under the same condition A as the one before.
        distractors: The least and the most number of extra facts and provisions that settle nothing.
        answers: The answers that occur.
        decoy: Whether there is the provision beside. Without it problems are shorter, but symbols that stand once tell
            six answers of ten (docs/isomers.md, Limits): where the answer is Unknown, one of the facts is about another
            individual or another property.
    """

    name: ClassVar[str] = "statute"
    kinds: ClassVar[tuple[str, ...]] = (
        *("fact", "fact_not", "unless", "unless_not", "override", "override_not", "judge", "judge_not"),
    )

    shared: float = 0.5
    distractors: Range = (0, 2)
    answers: Verdicts = ("True", "False", "Unknown")
    decoy: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The answers that occur."""
        return self.answers

    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of provisions that are applied one after another, at least 1.
            answer_index: The index of the answer in `answers`.

        Returns:
            The skeleton.
        """
        answer = self.classes[answer_index]
        conditions = ["A0"]
        for place in range(1, depth):
            conditions.append(conditions[-1] if rng.random() < self.shared else f"A{place}")
        # Provision n decides property S(n + 1) by whether S(n) applies; S0 is a fact.
        status = [Signed(f"S{place}", rng.random() < 0.5) for place in range(depth)]
        statement = Signed(f"S{depth}", rng.random() < 0.5)
        last = {"True": statement, "False": statement.opposite()}.get(answer)
        status.append(last or Signed(statement.name, rng.random() < 0.5))

        facts = [Signed(name, True).of(SUBJECT) for name in dict.fromkeys(conditions)]
        facts.append(status[0].of(SUBJECT))
        applied, beside = depth, list[Formula]()
        if self.decoy:
            applied, beside = _beside(rng, facts, conditions, missing=answer == "Unknown")
        elif answer == "Unknown":
            applied = self._open(rng, facts, conditions)
        premises = [*facts, *beside]
        proof: list[ProofStep] = []
        pairs = []
        for place in range(depth):
            exception, decided = status[place], status[place + 1]
            # What the exception says is what was decided, if it applies; the rule says the opposite.
            says = decided if exception.positive else decided.opposite()
            pairs.append(len(premises))
            premises += _provision(conditions[place], says, exception.name)
        premises += self._distractors(rng, [f"S{place}" for place in range(depth + 1)])
        order = list(dict.fromkeys(conditions))
        for place in range(applied):
            known = len(order) if place == 0 else len(premises) + place - 1
            rule = pairs[place] + int(status[place].positive)
            uses = (order.index(conditions[place]), known, rule)
            name = "exception" if status[place].positive else "rule with exception"
            proof.append(ProofStep(status[place + 1].of(SUBJECT), uses, name))
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

    def _open(self, rng: Random, facts: list[Formula], conditions: list[str]) -> int:
        """Puts a useless fact in the place of a needed one; returns how many provisions can still be applied."""
        place = rng.randrange(len(facts))
        name, positive = _signed(facts[place])
        if rng.random() < 0.5:
            facts[place] = Signed(name, positive).of(Const("other"))
        else:
            facts[place] = Signed("gap", positive).of(SUBJECT)
        if place == len(facts) - 1:
            return 0
        return conditions.index(list(dict.fromkeys(conditions))[place])

    def _distractors(self, rng: Random, chain: list[str]) -> list[Formula]:
        """Draws extra facts, and provisions of which the condition, a property of its own, is not known."""
        made: list[Formula] = []
        count = rng.randint(*self.distractors)
        while len(made) < count:
            new = Signed(f"D{len(made)}", rng.random() < 0.5)
            if len(made) + 2 <= count and rng.random() < 0.5:
                # Nothing makes the individual D..., so the provision cannot be applied, whatever it decides.
                made += _provision(new.name, Signed(f"D{len(made)}b", new.positive), rng.choice(chain))
            else:
                made.append(new.of(SUBJECT if rng.random() < 0.5 else Const(f"E{len(made)}")))
        return made


def _beside(rng: Random, facts: list[Formula], conditions: list[str], missing: bool) -> tuple[int, list[Formula]]:
    """Puts a provision beside those that lead to the statement; one of the two has a useless fact for a needed one.

    The needed fact is one that a single provision asks for, and beyond depth 1 not the last provision: what that one
    lacks is to be seen from the statement.

    Args:
        rng: The only source of chance.
        facts: What the provisions need: their conditions in order, then the innermost exception. Changed in place.
        conditions: The condition of each provision.
        missing: Whether the provisions that lead to the statement lack the fact.

    Returns:
        How many provisions can be applied, and the sentences beside.
    """
    order = list(dict.fromkeys(conditions))
    single = [
        name for name in order if conditions.count(name) == 1 and (name != conditions[-1] or len(conditions) == 1)
    ]
    place = rng.choice([*(order.index(name) for name in single), len(order)])
    condition, exception = Signed("beside condition", True), Signed("beside exception", rng.random() < 0.5)
    beside = _provision(condition.name, Signed("beside decided", rng.random() < 0.5), exception.name)
    given, asked = (condition, exception) if place == len(order) else (exception, condition)
    lacking = _signed(facts[place]) if missing else asked
    useless = lacking.of(Const("other")) if rng.random() < 0.5 else Signed("gap", lacking.positive).of(SUBJECT)
    beside += [given.of(SUBJECT), asked.of(SUBJECT) if missing else useless]
    if not missing:
        return len(conditions), beside
    facts[place] = useless
    return (0 if place == len(order) else conditions.index(order[place])), beside


def _signed(fact: Formula) -> Signed:
    name = predicates(fact)[0]
    return Signed(name, fact == Signed(name, True).of(SUBJECT))


def _provision(condition: str, exceptionally: Signed, exception: str) -> list[Formula]:
    """Writes a rule and the exception that prevails over it.

    Args:
        condition: When the provision applies.
        exceptionally: What holds under the exception; the rule says the opposite.
        exception: The property that makes the exception.

    Returns:
        Both sentences.
    """
    filling = {"A": condition, "B": exceptionally.name, "C": exception}
    rule, override = ("unless_not", "override") if exceptionally.positive else ("unless", "override_not")
    return [STATEMENT_KINDS[rule].build(filling), STATEMENT_KINDS[override].build(filling)]
