from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.optim import TensorAdamW


def gradients(seed: int, steps: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(steps)]


def advance(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, steps: list[torch.Tensor]) -> None:
    for gradient in steps:
        parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(1e-4, 1e-1),
    st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.0)]),
    st.floats(0.0, 0.5),
)
def test_one_element_tensors_equal_torch_adamw(seed, lr, betas, weight_decay):
    start = torch.tensor([0.7])
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": 1e-8}
    steps = gradients(seed, 20, 1)
    pair = (TensorAdamW([ours], **options), ours), (torch.optim.AdamW([theirs], **options), theirs)
    for gradient in steps:
        for optimizer, parameter in pair:
            advance(optimizer, parameter, [gradient])
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_several_entries_share_one_denominator():
    lr, (beta1, beta2), eps = 0.01, (0.9, 0.99), 1e-8
    parameter = torch.nn.Parameter(torch.zeros(3, 4))
    optimizer = TensorAdamW([parameter], lr=lr, betas=(beta1, beta2), eps=eps)
    expected, m, v = torch.zeros(3, 4, dtype=torch.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients(1, 10, 3, 4), start=1):
        advance(optimizer, parameter, [gradient])
        g = gradient.double()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g.square().mean()
        expected -= lr * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + eps)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-7)


def test_damped_entries_stay_damped_where_adamw_undoes_it():
    def moved(optimizer_class) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.zeros(2, 8))
        damping = torch.tensor([[1.0], [0.01]])
        rows = [torch.cat([g, g]) * damping for g in gradients(2, 10, 1, 8)]
        advance(optimizer_class([parameter], lr=0.01, weight_decay=0.0, eps=0.0), parameter, rows)
        return parameter.detach()

    kept = moved(TensorAdamW)
    torch.testing.assert_close(kept[1], 0.01 * kept[0], rtol=1e-4, atol=0)
    undone = moved(torch.optim.AdamW)
    torch.testing.assert_close(undone[1], undone[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_update_ignores_the_loss_scale(scale):
    results = []
    for factor in (1.0, scale):
        parameter = torch.nn.Parameter(torch.zeros(5))
        advance(TensorAdamW([parameter], eps=0.0), parameter, [g * factor for g in gradients(3, 5, 5)])
        results.append(parameter.detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_state_round_trip_continues_bit_identically(dtype):
    steps = gradients(4, 8, 3, 4)
    parameter = torch.nn.Parameter(torch.ones(3, 4, dtype=dtype))
    optimizer = TensorAdamW([parameter], lr=0.03, weight_decay=0.1)
    advance(optimizer, parameter, steps[:4])
    other = torch.nn.Parameter(parameter.detach().clone())
    resumed = TensorAdamW([other])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(optimizer, parameter, steps[4:])
    advance(resumed, other, steps[4:])
    assert torch.equal(parameter, other)
    for a, b in zip(optimizer.state.values(), resumed.state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_parameters_without_gradient_are_skipped_and_groups_obeyed():
    still, slow, fast = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = TensorAdamW([{"params": [still, slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}])
    slow.grad, fast.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    assert torch.equal(still, torch.zeros(2))
    torch.testing.assert_close(slow.detach(), torch.full((2,), -0.01))
    torch.testing.assert_close(fast.detach(), torch.full((2,), -0.1))


def test_closure_is_evaluated_with_gradients():
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = TensorAdamW([parameter], lr=0.1)

    def closure() -> float:
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert parameter.item() == pytest.approx(1.9)


@pytest.mark.parametrize(
    "options", [{"lr": -1.0}, {"eps": -1e-8}, {"weight_decay": -0.1}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}]
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TensorAdamW([torch.nn.Parameter(torch.zeros(1))], **options)
