"""TRL's forward pass, seen at the labelled positions: cheaper on a CPU, and open to the penalties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isodistill.errors import IsodistillError
from isodistill.methods import Forward


@dataclass
class LabelledPass:
    """One forward pass at the N labelled positions.

    Attributes:
        inputs: What to pass to the model, with shift_labels of shape (1, N).
        hidden: After the pass, the hidden states that predict the labels, (1, N, hidden).
        outputs: After the pass, TRL's outputs.
    """

    inputs: dict[str, Any]
    hidden: torch.Tensor | None = None
    outputs: Any = None


@contextmanager
def labelled_pass(model: nn.Module, inputs: dict[str, Any]) -> Iterator[LabelledPass]:
    """Lets the head see only the hidden states that predict a label, and keeps what the pass computed.

    TRL's fused head spares the other positions itself where it runs Triton kernels; on a CPU it multiplies every
    position, prompts included, with the vocabulary, which costs a small student dearly. The model's backbone gets a
    forward hook for the duration of the block that keeps the N positions with a label, and the labels are passed as
    ``shift_labels``, a public argument of the fused head. The loss is the same up to round-off.

    Args:
        model: The causal language model without wrappers.
        inputs: The batch, with labels (batch, length).

    Yields:
        The pass, filled in while the block runs.
    """
    labels = inputs["labels"][:, 1:]  # (batch, length - 1)
    mask = labels != -100
    labelled = LabelledPass({**inputs, "shift_labels": labels[mask].unsqueeze(0)})

    def keep_labelled(module: nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, :-1][mask].unsqueeze(0)  # (1, N, hidden)
        labelled.hidden = output.last_hidden_state
        return output

    def keep_outputs(module: nn.Module, args: Any, output: Any) -> None:
        labelled.outputs = output

    backbone: Any = getattr(model, "base_model")  # noqa: B009  (a property of transformers, a module of torch)
    handles = [backbone.register_forward_hook(keep_labelled), model.register_forward_hook(keep_outputs)]
    try:
        yield labelled
    finally:
        for handle in handles:
            handle.remove()


def forward_view(model: nn.Module, labelled: LabelledPass, batch: dict[str, torch.Tensor]) -> Forward:
    """Shows a finished pass to the penalties.

    Args:
        model: The causal language model without wrappers.
        labelled: The pass.
        batch: The collated batch, with labels, domain_ids, set_ids and answer_positions.

    Returns:
        The view.
    """
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    hidden = labelled.hidden
    if hidden is None or labelled.outputs is None:
        raise RuntimeError("the model's backbone and head were not called in the labelled pass")
    states = hidden.squeeze(0)  # (N, hidden)
    order = mask.flatten().cumsum(0).view_as(mask) - 1  # the index of a position among the N
    rows = torch.arange(len(labels), device=labels.device)
    return Forward(
        domain_ids=batch["domain_ids"],
        set_ids=batch["set_ids"],
        rows=mask.nonzero()[:, 0],
        labels=labels[mask],
        log_probs=labelled.outputs.log_probs.squeeze(0),
        entropy=labelled.outputs.entropy.squeeze(0),
        logits_at=lambda index: head(states[index]),
        answers=order[rows, batch["answer_positions"].to(labels.device) - 1],
        hidden=states,
    )


def refuse_scaled_logits(config: Any, method: str) -> None:
    """Refuses a student whose logits are more than a linear map of the hidden states.

    Args:
        config: The student's text configuration.
        method: The method that reads logits.

    Raises:
        IsodistillError: if the configuration scales or caps the logits.
    """
    for name in ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise IsodistillError(
                f"method={method!r} reads the logits, which this student changes after its head ({name}): choose"
                " another method or student"
            )


def scores_every_position(device: torch.device) -> bool:
    """Tells whether TRL's fused head scores positions without a label on this device.

    Args:
        device: The model's device.

    Returns:
        ``True`` on a CPU.
    """
    return device.type == "cpu"
