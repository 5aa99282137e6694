"""An AdamW with one second moment for each tensor, which keeps the relative sizes that a mask made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class TensorAdamW(Optimizer):
    """AdamW whose second moment is one number for each parameter tensor.

    AdamW divides every entry by its own root mean square, so an entry that a mask damped a hundredfold comes back
    at full size. Here the whole tensor shares one denominator::

        m <- beta1 m + (1 - beta1) g             v <- beta2 v + (1 - beta2) mean(g²)
        theta <- theta (1 - lr wd) - lr m_hat / (sqrt(v_hat) + eps)

    with the usual bias corrections. Source: the block-wise second moment of Adam-mini (arXiv 2406.16793) with the
    whole tensor as the block, and decoupled weight decay (arXiv 1711.05101).

    Args:
        params: Parameters or parameter groups.
        lr: The learning rate.
        betas: beta1 and beta2.
        eps: Added to the root of the second moment.
        weight_decay: The decoupled weight decay.

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
            raise ValueError(f"TensorAdamW got lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

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
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(gradient)
                    state["exp_avg_sq"] = torch.zeros((), device=gradient.device)
                state["step"] += 1
                step = float(state["step"])
                state["exp_avg"].lerp_(gradient, 1.0 - beta1)
                state["exp_avg_sq"].lerp_(gradient.square().mean(), 1.0 - beta2)
                denominator = (state["exp_avg_sq"] / (1.0 - beta2**step)).sqrt_().add_(group["eps"])
                update = state["exp_avg"] / (denominator * (1.0 - beta1**step))
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
