"""Two AdamWs that keep what a mask did to the gradient, where AdamW itself would undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

PLAIN_GRADIENT = "plain_gradient"
"""The attribute of a parameter that holds the gradient before the mask, for `MaskedAdamW`."""


class _AdamW(Optimizer):
    """AdamW; a subclass says whose square the second moment averages.

    Args:
        params: Parameters or parameter groups.
        lr: The learning rate.
        betas: beta1 and beta2.
        eps: Added to the root of the second moment.
        weight_decay: The decoupled weight decay (arXiv 1711.05101).

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0.0 or eps < 0.0 or weight_decay < 0.0 or not all(0.0 <= beta < 1.0 for beta in betas):
            name = type(self).__name__
            raise ValueError(f"{name} got lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @staticmethod
    def _square(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """What the second moment averages: one number, or one for each entry."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters once.

        Args:
            closure: Re-evaluates the loss, or ``None``.

        Returns:
            The closure's loss, if any.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.float()
                square = self._square(parameter, gradient)
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(gradient)
                    state["exp_avg_sq"] = torch.zeros_like(square)
                state["step"] += 1
                step = float(state["step"])
                state["exp_avg"].lerp_(gradient, 1.0 - beta1)
                state["exp_avg_sq"].lerp_(square, 1.0 - beta2)
                denominator = (state["exp_avg_sq"] / (1.0 - beta2**step)).sqrt_().add_(group["eps"])
                update = state["exp_avg"] / denominator.mul_(1.0 - beta1**step)
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, the moments in their own precision.

        Args:
            state_dict: The optimizer's state.
        """
        super().load_state_dict(state_dict)
        # The base class casts the moments to the parameter's dtype; those of a bf16 parameter are kept in fp32.
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        for parameter, index in zip(parameters, saved, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                self.state[parameter][key] = value.to(self.state[parameter][key].device, copy=True)


class TensorAdamW(_AdamW):
    """AdamW whose second moment is one number for each parameter tensor.

    AdamW divides every entry by its own root mean square, so an entry that a mask damped a hundredfold comes back
    at full size. Here the whole tensor shares one denominator::

        m <- beta1 m + (1 - beta1) g             v <- beta2 v + (1 - beta2) mean(g²)
        theta <- theta (1 - lr wd) - lr m_hat / (sqrt(v_hat) + eps)

    with the usual bias corrections. What the mask left of the tensor as a whole is still brought to full size. Source:
    the block-wise second moment of Adam-mini (arXiv 2406.16793) with the whole tensor as the block.

    Args:
        params: Parameters or parameter groups.
        lr: The learning rate.
        betas: beta1 and beta2.
        eps: Added to the root of the second moment.
        weight_decay: The decoupled weight decay.

    Raises:
        ValueError: if an argument is out of range.
    """

    @staticmethod
    def _square(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.square().mean()


class MaskedAdamW(_AdamW):
    """AdamW that measures its step by the gradient before the mask.

    AdamW divides a masked gradient by that gradient's own root mean square: where the mask leaves a hundredth, of one
    entry or of all, the step is as long as without a mask. Here the first moment is that of the masked gradient Gt and
    the second that of the plain one, so a step is as short as the mask made it::

        m <- beta1 m + (1 - beta1) gt            v <- beta2 v + (1 - beta2) max(g², gt²)
        theta <- theta (1 - lr wd) - lr m_hat / (sqrt(v_hat) + eps)

    A `GradientAligner` that this optimizer is attached to leaves the plain gradient g in the parameter's attribute
    `PLAIN_GRADIENT`; a parameter without one is updated by AdamW. A mask in another basis than the entries' (every
    space but ``factor``) can make an entry of gt larger than that of g; v takes the larger square, so no step is longer
    than AdamW's on gt. Gradient clipping shortens gt alone. Since steps are shorter, the learning rate is some two or
    three times AdamW's. Source: this project, see docs/method.md.

    Args:
        params: Parameters or parameter groups.
        lr: The learning rate.
        betas: beta1 and beta2.
        eps: Added to the root of the second moment.
        weight_decay: The decoupled weight decay.

    Raises:
        ValueError: if an argument is out of range.
    """

    @staticmethod
    def _square(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        plain = getattr(parameter, PLAIN_GRADIENT, None)
        if plain is None:
            return gradient.square()
        setattr(parameter, PLAIN_GRADIENT, None)  # it is this step's: another run of the parameter must not find it
        return plain.to(gradient).square().maximum(gradient.square())
