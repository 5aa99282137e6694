"""How a problem is put to a student: the same text in training, in distillation and in evaluation."""

from __future__ import annotations

from typing import Any

Message = dict[str, str]


def prompt_messages(prompt: str, system_prompt: str | None = None) -> list[Message]:
    """Wraps a problem as a conversation that ends with the user's turn.

    Args:
        prompt: The problem's text.
        system_prompt: An instruction put before it, or ``None`` for the chat template's own default.

    Returns:
        Messages in the format of TRL and of `apply_chat_template`.
    """
    messages = [{"role": "system", "content": system_prompt}] if system_prompt is not None else []
    return [*messages, {"role": "user", "content": prompt}]


def render_prompt(tokenizer: Any, prompt: str, system_prompt: str | None = None) -> str:
    """Renders a problem as the text that comes right before the student's completion.

    Args:
        tokenizer: A transformers tokenizer; its chat template is used where it has one.
        prompt: The problem's text.
        system_prompt: An instruction put before it, or ``None`` for the chat template's own default.

    Returns:
        The rendered text. Without a chat template: the system prompt, the prompt and a line break.
    """
    if getattr(tokenizer, "chat_template", None):
        messages = prompt_messages(prompt, system_prompt)
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return plain_prompt(prompt, system_prompt)


def plain_prompt(prompt: str, system_prompt: str | None = None) -> str:
    """Renders a problem for a student without a chat template.

    Args:
        prompt: The problem's text.
        system_prompt: An instruction put on a line before it, or ``None``.

    Returns:
        The text, ending with a line break.
    """
    return f"{system_prompt}\n{prompt}\n" if system_prompt else f"{prompt}\n"
