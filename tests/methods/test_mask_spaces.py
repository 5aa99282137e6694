"""IGA's factored and tangent spaces over several steps and on a student; the formulas of one step: test_iga_spaces."""

from __future__ import annotations

import copy

import pytest
import torch
from method_helpers import (
    domain_losses,
    factors,
    gradient,
    make_batch,
    mean_loss,
    relative_error,
    shares,
    take_step,
    toy_student,
)

from isodistill.aligner import GradientAligner
from isodistill.gradients import find_adapted_layers
from isodistill.gradients.projection import tangent_lift

both_weightings = pytest.mark.parametrize("weighting", ["tokens", "uniform"])


def dense_gradients(model: torch.nn.Module, batch) -> dict[str, list[torch.Tensor]]:
    """Autograd's gradients of the frozen weights themselves, by layer and domain."""
    shadow = copy.deepcopy(model)
    for module in shadow.modules():
        module._forward_hooks.clear()
    layers = find_adapted_layers(shadow)
    weights = [layer.module.base_layer.weight.requires_grad_() for layer in layers]
    by_domain = [torch.autograd.grad(loss, weights) for loss in domain_losses(shadow, batch)]
    return {layer.name: [g[i] for g in by_domain] for i, layer in enumerate(layers)}


def by_parameter(model: torch.nn.Module, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]):
    return {
        f"base_model.model.{name}.{part}.default.weight": tensor
        for name, pair in pairs.items()
        for part, tensor in zip(("lora_A", "lora_B"), pair, strict=True)
    }


@both_weightings
def test_factored_over_three_steps_on_a_student(weighting):
    tau, decay = 0.8, 0.6
    student = toy_student()
    aligner = GradientAligner(
        student, "iga", mask_space="factored", tau=tau, statistics_decay=decay, domain_weighting=weighting
    )
    averages: dict[tuple[str, int], list[torch.Tensor]] = {}
    for step in range(3):
        batch = make_batch(seed=step)
        found = take_step(aligner, student, batch)
        w, pairs = shares(batch, weighting), {}
        for layer in find_adapted_layers(student):
            grads = dense_gradients(student, batch)[layer.name]
            mean = sum(x * g for x, g in zip(w, grads, strict=True))
            variance = sum(x * (g - mean) ** 2 for x, g in zip(w, grads, strict=True))
            masks = []
            for axis in (1, 0):
                norm, spread = averages.get((layer.name, axis), [torch.zeros(()), torch.zeros(())])
                norm = decay * norm + (1 - decay) * mean.norm(dim=axis)
                spread = decay * spread + (1 - decay) * variance.sum(axis)
                averages[layer.name, axis] = [norm, spread]
                correction = 1 - decay ** (step + 1)
                masks.append(torch.exp(-tau / 2 * (spread / correction) / (norm / correction) ** 2))
            masked = torch.outer(*masks) * mean
            A, B = layer.A.detach(), layer.B.detach()
            pairs[layer.name] = (layer.scaling * B.T @ masked, layer.scaling * masked @ A.T)
        assert relative_error(found, by_parameter(student, pairs)) < 1e-9, step
        assert relative_error(found, gradient(mean_loss(student, batch), student)) > 0.05
        with torch.no_grad():
            for name, parameter in factors(student).items():
                parameter -= 0.3 * found[name]


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_tangent_on_a_student(tau):
    student, batch = toy_student(), make_batch()
    found = take_step(
        GradientAligner(student, "iga", mask_space="tangent", tau=tau, statistics_decay=0.0), student, batch
    )
    for layer in find_adapted_layers(student):
        grads = dense_gradients(student, batch)[layer.name]
        mean = sum(x * g for x, g in zip(shares(batch), grads, strict=True))
        variance = sum(x * (g - mean) ** 2 for x, g in zip(shares(batch), grads, strict=True))
        masked = torch.exp(-tau * variance / mean**2) * mean
        A, B = layer.A.detach(), layer.B.detach()
        on_rows, on_columns = torch.linalg.pinv(A) @ A, B @ torch.linalg.pinv(B)
        projection = masked @ on_rows + on_columns @ masked - on_columns @ masked @ on_rows
        pair = by_parameter(student, {layer.name: (A, B)})
        A_dot, B_dot = (found[name] for name in pair)
        moved = layer.scaling * (B_dot @ A + B @ A_dot)
        assert (moved - projection).norm() < 1e-9 * projection.norm()


def test_tangent_at_pefts_start_moves_b_alone():
    student, batch = toy_student(), make_batch()
    with torch.no_grad():
        for name, parameter in factors(student).items():
            if "lora_B" in name:
                parameter.zero_()
    found = take_step(GradientAligner(student, "iga", mask_space="tangent", tau=0.5), student, batch)
    assert all(bool(g.any()) == ("lora_B" in name) for name, g in found.items())


def test_the_lift_stands_a_factor_of_lower_rank():
    generator = torch.Generator().manual_seed(0)
    A, G = torch.randn(3, 8, generator=generator).double(), torch.randn(6, 8, generator=generator).double()
    B = torch.randn(6, 1, generator=generator).double() @ torch.randn(1, 3, generator=generator).double()
    A_dot, B_dot = tangent_lift(G, A, B, 2.0)
    on_rows, on_columns = torch.linalg.pinv(A) @ A, B @ torch.linalg.pinv(B)
    projection = G @ on_rows + on_columns @ G - on_columns @ G @ on_rows
    torch.testing.assert_close(2.0 * (B_dot @ A + B @ A_dot), projection, rtol=1e-8, atol=1e-9)
