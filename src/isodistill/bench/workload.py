"""What is timed: one batch of real isomer problems, the same for every case, under any number of domains."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from isodistill.errors import IsodistillError
from isodistill.prompting import render_prompt


@dataclass(frozen=True)
class Workload:
    """The sequences of one optimizer step.

    Args:
        sequences: Pairs of a prompt and its completion.
        tokens: The tokens of all of them, for the student's tokenizer.
    """

    sequences: list[tuple[str, str]]
    tokens: int

    def sets(self, domains: int) -> Dataset:
        """Deals the sequences to K domains: the same texts whatever K is, only their labels differ.

        Args:
            domains: K, a divisor of the number of sequences.

        Returns:
            Isomer sets of K members each.

        Raises:
            IsodistillError: If K does not divide the number of sequences.
        """
        if len(self.sequences) % domains:
            raise IsodistillError(
                f"{len(self.sequences)} sequences cannot be dealt to {domains} domains: choose a divisor, or other"
                " tokens"
            )
        rows = []
        for start in range(0, len(self.sequences), domains):
            members = [
                {"domain": f"domain {place:02}", "prompt": prompt, "completion": completion}
                for place, (prompt, completion) in enumerate(self.sequences[start : start + domains])
            ]
            rows.append({"set_id": f"set {start}", "members": members})
        return Dataset.from_list(rows)

    def flat(self, tokenizer: Any) -> Dataset:
        """Lists the sequences as the prompts and completions that TRL's own trainer takes.

        Args:
            tokenizer: The student's tokenizer; prompts are rendered with its chat template, as our trainer renders
                them, so that both see the same tokens.

        Returns:
            The prompts and completions.
        """
        rows = [
            {"prompt": render_prompt(tokenizer, prompt, None), "completion": text} for prompt, text in self.sequences
        ]
        return Dataset.from_list(rows)


def make_workload(tokenizer: Any, tokens: int, sequences: int, seed: int = 0) -> Workload:
    """Draws deduction problems with the symbolic teacher's short rationale, as near as can be to a number of tokens.

    Args:
        tokenizer: The student's tokenizer.
        tokens: The number of tokens wanted.
        sequences: The number of sequences.
        seed: Seed of the problems.

    Returns:
        The workload: sequences of the length nearest to tokens / sequences, longer and shorter ones mixed as they come.
    """
    from isodistill.isomers.config import make_config
    from isodistill.isomers.generate import generate
    from isodistill.isomers.store import read_split
    from isodistill.teachers import make_teacher
    from isodistill.teachers.distil import distil

    config = make_config(
        sets=120,
        validation_sets=0,
        test_sets=0,
        unseen_domains=(),
        depth=(1, 3),
        max_sets_per_skeleton=8,
        seed=seed,
        audit=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        generate(config, Path(folder) / "raw")
        distil(Path(folder) / "raw", make_teacher("symbolic", style="short"), Path(folder) / "taught")
        members = [member for each in read_split(Path(folder) / "taught", "train") for member in each.members]
    lengths = [_length(tokenizer, member.prompt, member.completion) for member in members]
    aim = tokens / sequences
    # A window of the sorted lengths has some spread, as real batches have; the best one is nearest in sum.
    order = sorted(range(len(members)), key=lambda place: lengths[place])
    starts = range(max(1, len(order) - 2 * sequences))
    windows = [order[start : start + 2 * sequences : 2] for start in starts]
    chosen = min(windows, key=lambda window: abs(sum(lengths[place] for place in window) / len(window) - aim))
    return Workload(
        [(members[place].prompt, members[place].completion) for place in chosen],
        sum(lengths[place] for place in chosen),
    )


def _length(tokenizer: Any, prompt: str, completion: str) -> int:
    text = render_prompt(tokenizer, prompt, None)
    return len(tokenizer(text + completion, add_special_tokens=False)["input_ids"]) + 1  # and the end token
