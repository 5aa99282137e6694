"""Spares the language-model head the positions that carry no label, on devices where TRL scores every one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def label_positions_only(model: nn.Module, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lets the head see only the hidden states that predict a label.

    TRL's fused head does so itself where it runs Triton kernels; on a CPU it multiplies every position, prompts
    included, with the vocabulary, which costs a small student dearly. The model's backbone gets a forward hook
    for the duration of the block that keeps the N positions with a label, and the labels are passed as
    ``shift_labels``, a public argument of the fused head. The loss is the same up to round-off.

    Args:
        model: The causal language model without wrappers.
        inputs: The batch, with labels (batch, length).

    Yields:
        The inputs to pass to the model in the block, with shift_labels of shape (1, N).
    """
    labels = inputs["labels"][:, 1:]  # (batch, length - 1)
    mask = labels != -100

    def keep_labelled(module: nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, :-1][mask].unsqueeze(0)  # (1, N, hidden)
        return output

    backbone: Any = getattr(model, "base_model")  # noqa: B009  (a property of transformers, a module of torch)
    handle = backbone.register_forward_hook(keep_labelled)
    try:
        yield {**inputs, "shift_labels": labels[mask].unsqueeze(0)}
    finally:
        handle.remove()


def scores_every_position(device: torch.device) -> bool:
    """Tells whether TRL's fused head scores positions without a label on this device.

    Args:
        device: The model's device.

    Returns:
        ``True`` on a CPU.
    """
    return device.type == "cpu"
