"""What a teaching model is told before a problem."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.prompting import Message, prompt_messages

SYSTEM = """\
You solve reasoning problems. Use only what the problem states, never knowledge of the world.
Reason in short sentences, one step in each. Then end with one last line of this form and write nothing after it:
Answer: X
X is the final answer alone: one of the choices that the problem names, or a plain number."""
"""The system message of every teaching model unless another is given."""


@dataclass(frozen=True)
class Instruction:
    """A system message and solved examples.

    Args:
        system: The system message.
        shots: Problems and completions that come before the problem as earlier turns of the conversation.
    """

    system: str = SYSTEM
    shots: tuple[tuple[str, str], ...] = ()

    @property
    def version(self) -> str:
        """Names the instruction by its content, so that changed words never pass for the old ones."""
        text = json.dumps([self.system, *self.shots], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def text(self) -> str:
        """Everything that comes before each problem, to count its length by."""
        return "\n".join([self.system, *(part for shot in self.shots for part in shot)])

    def messages(self, prompt: str) -> list[Message]:
        """Puts a problem to the model.

        Args:
            prompt: The problem's text.

        Returns:
            A conversation that ends with the user's turn.
        """
        turns = [
            {"role": role, "content": text}
            for shot in self.shots
            for role, text in zip(("user", "assistant"), shot, strict=True)
        ]
        system, user = prompt_messages(prompt, self.system)
        return [system, *turns, user]


def read_instruction(system: Path | None = None, shots: Path | None = None) -> Instruction:
    """Reads an instruction from files.

    Args:
        system: A text file with the system message, or ``None`` for the usual one.
        shots: Lines of JSON, each with a ``prompt`` and a ``completion``, or ``None`` for no examples.

    Returns:
        The instruction.

    Raises:
        IsodistillError: If a file cannot be read, or a line is not an example.
    """
    words = SYSTEM if system is None else _read(system).strip()
    examples = []
    for number, line in enumerate([] if shots is None else _read(shots).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
            pair = (example["prompt"], example["completion"])
        except (ValueError, KeyError, TypeError):
            pair = (None, None)
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise IsodistillError(
                f"the examples {shots}, line {number}: give a JSON object with the texts 'prompt' and 'completion'"
            )
        examples.append(pair)
    return Instruction(words, tuple(examples))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IsodistillError(f"the instruction {path} cannot be read ({error}): give a text file") from None
