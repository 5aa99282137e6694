"""TRL's forward pass, seen at the labelled positions: cheaper on a CPU, and open to the penalties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isodistill.errors import IsodistillError
from isodistill.methods import Forward

TokenLoss = Callable[[torch.Tensor], torch.Tensor]
"""From the logits at the N labelled positions, (N, V), to each one's loss, (N,)."""


@dataclass
class LabelledPass:
    """One forward pass at the N labelled positions.

    Attributes:
        inputs: What to pass to the model, with shift_labels of shape (1, N).
        hidden: After the pass, the hidden states that predict the labels, (1, N, hidden).
        outputs: After the pass, TRL's outputs.
        log_probs: After the pass, log p(label), (N,), without gradient, where the loss is another.
        losses: After the pass, each label's loss, (N,), where it is not the cross-entropy.
    """

    inputs: dict[str, Any]
    hidden: torch.Tensor | None = None
    outputs: Any = None
    log_probs: torch.Tensor | None = None
    losses: torch.Tensor | None = None


@contextmanager
def labelled_pass(
    model: nn.Module, inputs: dict[str, Any], losses_of: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Iterator[LabelledPass]:
    """Lets the head see only the hidden states that predict a label, and keeps what the pass computed.

    TRL's fused head spares the other positions itself where it runs Triton kernels; on a CPU it multiplies every
    position, prompts included, with the vocabulary, which costs a small student dearly. The model's backbone gets a
    forward hook for the duration of the block that keeps the N positions with a label, and the labels are passed as
    ``shift_labels``, a public argument of the fused head. The loss is the same up to round-off.

    Another loss takes the place of the fused head's negative log-probabilities, which TRL then adds up and divides as
    it does with those: over micro-batches and processes alike.

    Args:
        model: The causal language model without wrappers.
        inputs: The batch, with labels (batch, length).
        losses_of: Each label's loss from the hidden states (N, hidden); ``None`` means the cross-entropy.

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

    def keep_outputs(module: nn.Module, args: Any, output: Any) -> Any:
        labelled.outputs = output
        if losses_of is not None and labelled.hidden is not None:
            labelled.log_probs = output.log_probs.detach().squeeze(0)
            labelled.losses = losses_of(labelled.hidden.squeeze(0))
            output.log_probs = -labelled.losses.view_as(output.log_probs)
        return output

    backbone: Any = getattr(model, "base_model")  # noqa: B009  (a property of transformers, a module of torch)
    handles = [backbone.register_forward_hook(keep_labelled), model.register_forward_hook(keep_outputs)]
    try:
        yield labelled
    finally:
        for handle in handles:
            handle.remove()


def forward_view(
    model: nn.Module, labelled: LabelledPass, batch: dict[str, torch.Tensor], token_loss: TokenLoss | None = None
) -> Forward:
    """Shows a finished pass to the penalties.

    With another loss than the cross-entropy, log_probs is minus that loss, so that the domains' losses are its means.
    In place of the entropy stands what makes -(log_probs + entropy) the loss's derivative in a scale of the logits,
    as it is for the cross-entropy.

    Args:
        model: The causal language model without wrappers.
        labelled: The pass.
        batch: The collated batch, with labels, domain_ids, set_ids and answer_positions.
        token_loss: The loss, if it is not the cross-entropy and a penalty reads its derivative.

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
    log_probs, entropy = labelled.outputs.log_probs.squeeze(0), labelled.outputs.entropy.squeeze(0)
    if token_loss is not None:
        entropy = -log_probs - _scale_slopes(head(states), token_loss)
    return Forward(
        domain_ids=batch["domain_ids"],
        set_ids=batch["set_ids"],
        rows=mask.nonzero()[:, 0],
        labels=labels[mask],
        log_probs=log_probs,
        entropy=entropy,
        logits_at=lambda index: head(states[index]),
        answers=order[rows, batch["answer_positions"].to(labels.device) - 1],
        hidden=states,
    )


def _scale_slopes(logits: torch.Tensor, token_loss: TokenLoss) -> torch.Tensor:
    """The derivative of each label's loss at c logits in c, at c = 1: (N,), with gradient."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scale = torch.ones(len(logits), 1, dtype=dtype, device=logits.device, requires_grad=True)
    (slopes,) = torch.autograd.grad(token_loss(logits * scale).sum(), scale, create_graph=True)
    return slopes.squeeze(1)


def refuse_scaled_logits(config: Any, reader: str, model: str = "student") -> None:
    """Refuses a model whose logits are more than a linear map of the hidden states.

    Args:
        config: The model's text configuration.
        reader: The option that reads logits, for the error.
        model: What the model is, for the error.

    Raises:
        IsodistillError: if the configuration scales or caps the logits.
    """
    for name in ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise IsodistillError(
                f"{reader} reads the logits, which this {model} changes after its head ({name}): choose another, or"
                f" another {model}"
            )


def scores_every_position(device: torch.device) -> bool:
    """Tells whether TRL's fused head scores positions without a label on this device.

    Args:
        device: The model's device.

    Returns:
        ``True`` on a CPU.
    """
    return device.type == "cpu"
