"""A skeleton together with the words to tell it in."""

from __future__ import annotations

from dataclasses import dataclass

from isodistill.isomers.packs import Pack
from isodistill.isomers.render import Lexicon, clause, sentence
from isodistill.isomers.skeleton import ProofStep, Skeleton
from isodistill.logic.formula import Formula

VERDICTS = {
    "True": "The statement says the same, so it is true.",
    "False": "The statement says the opposite, so it is false.",
}
"""The last sentence before the answer line, where the proof settles a statement."""


@dataclass(frozen=True)
class Voice:
    """A skeleton together with the words to tell it in.

    Args:
        skeleton: The problem.
        pack: The domain.
        lexicon: The word for each symbol.
        full: Whether each step cites what it uses.
    """

    skeleton: Skeleton
    pack: Pack
    lexicon: Lexicon
    full: bool

    def say(self, formula: Formula) -> str:
        """States a formula as a plain clause.

        Args:
            formula: A formula of the skeleton, or one of the same shapes.

        Returns:
            The clause, without capital and full stop.
        """
        return clause(formula, self.pack, self.lexicon)

    def word(self, name: str, sort: str) -> str:
        """Looks up the word for a symbol.

        Args:
            name: The symbol.
            sort: Its sort.

        Returns:
            The word's text.
        """
        return str(self.pack.word(sort, self.lexicon[name]))

    def step(self, place: int) -> str:
        """Tells one proof step: what it uses, then what follows; what the step before concluded is not repeated.

        Args:
            place: The step's index in the proof.

        Returns:
            A sentence.
        """
        step: ProofStep = self.skeleton.proof[place]
        if not self.full:
            return sentence(self.say(step.conclusion))
        before = len(self.skeleton.premises) + place - 1
        fresh = tuple(use for use in step.uses if not (place and use == before))
        used = ", and ".join(self.say(fact) for fact in self.skeleton.facts(fresh))
        return sentence(f"{used}, so {self.say(step.conclusion)}")
