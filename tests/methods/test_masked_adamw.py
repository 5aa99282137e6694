"""The AdamW that measures its step by the gradient before the mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.optim import PLAIN_GRADIENT, MaskedAdamW

torch.set_num_threads(1)


def gradients(seed: int, steps: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(steps)]


def advance(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, masked: torch.Tensor, plain: torch.Tensor
) -> None:
    parameter.grad = masked.clone()
    setattr(parameter, PLAIN_GRADIENT, plain.clone())
    optimizer.step()
    assert getattr(parameter, PLAIN_GRADIENT) is None, "a gradient serves for one step"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.0)]), st.floats(0.0, 0.5))
def test_without_a_mask_it_is_torch_adamw(seed: int, betas: tuple[float, float], weight_decay: float) -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    options = {"lr": 0.01, "betas": betas, "weight_decay": weight_decay, "eps": 1e-8}
    pair = (MaskedAdamW([ours], **options), ours), (torch.optim.AdamW([theirs], **options), theirs)
    for number, gradient in enumerate(gradients(seed, 12, 3, 4)):
        for optimizer, parameter in pair:
            parameter.grad = gradient.clone()
            # In turns the aligner left the gradient, and did not.
            setattr(parameter, PLAIN_GRADIENT, gradient.clone() if number % 2 else None)
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [1.0, 0.1, 1e-3])
def test_the_step_is_as_short_as_the_mask_made_it(kept: float) -> None:
    def moved(mask: torch.Tensor) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.zeros(2, 8))
        optimizer = MaskedAdamW([parameter], lr=0.01, eps=0.0)
        for gradient in gradients(2, 10, 2, 8):
            advance(optimizer, parameter, mask * gradient, gradient)
        return parameter.detach()

    plain = moved(torch.ones(2, 8))
    torch.testing.assert_close(moved(torch.full((2, 8), kept)), kept * plain, rtol=1e-4, atol=0)
    rows = torch.tensor([[1.0], [kept]]).expand(2, 8)
    torch.testing.assert_close(moved(rows), rows * plain, rtol=1e-4, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-12.0, 6.0))
def test_no_step_is_longer_than_adamws_on_the_same_gradient(seed: int, size: float) -> None:
    """A mask in another basis can leave an entry that the plain gradient does not have."""
    ours, theirs = (torch.nn.Parameter(torch.zeros(3, 4)) for _ in range(2))
    optimizer, adamw = MaskedAdamW([ours], lr=0.01), torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.0)
    for gradient in gradients(seed, 8, 3, 4):
        before, reference = ours.detach().clone(), theirs.detach().clone()
        theirs.grad = gradient.clone()
        adamw.step()
        advance(optimizer, ours, gradient, 10.0**size * gradient)
        moved, bound = (ours - before).abs(), (theirs - reference).abs()
        assert (moved <= bound * (1 + 1e-4) + 1e-8).all()
