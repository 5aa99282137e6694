"""IGA's factored and tangent spaces against plain formulas."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from isodistill.gradients.projection import tangent_lift
from isodistill.methods import Window, build_method

WEIGHTS = [0.1, 0.2, 0.3, 0.4]
WINDOW = Window([0, 1, 2, 3], WEIGHTS)
SCALING = 2.0


def layer(rank: int = 3, zero_b: bool = False) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(rank, 8, generator=generator, dtype=torch.float64)
    B = torch.randn(6, rank, generator=generator, dtype=torch.float64) * (0.0 if zero_b else 1.0)
    return SimpleNamespace(name="l", A=A, B=B, scaling=SCALING)


def gradients(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    return common + torch.randn(4, 6, 8, generator=generator, dtype=torch.float64)


def moments(stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).view(-1, 1, 1)
    mean = (weights * stack).sum(0)
    return mean, (weights * (stack - mean) ** 2).sum(0)


def test_the_factored_mask_is_the_outer_product_of_the_marginals() -> None:
    tau, it = 0.7, layer()
    stack = gradients()
    mean, variance = moments(stack)
    rows = torch.exp(-tau / 2 * variance.sum(1) / mean.square().sum(1))
    columns = torch.exp(-tau / 2 * variance.sum(0) / mean.square().sum(0))
    masked = torch.diag(rows) @ mean @ torch.diag(columns)
    method = build_method("iga", mask_space="factored", tau=tau, statistics_decay=0.0)
    grad_a, grad_b = method.align_weight(it, (each.clone() for each in stack), WINDOW)
    torch.testing.assert_close(grad_b, SCALING * masked @ it.A.T, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(grad_a, SCALING * it.B.T @ masked, rtol=1e-8, atol=1e-10)
    assert method.diagnostics().mean_mask == pytest.approx(float(torch.outer(rows, columns).mean()))


def test_the_factored_statistics_are_vectors() -> None:
    method = build_method("iga", mask_space="factored", tau=0.7)
    method.align_weight(layer(), (each.clone() for each in gradients()), WINDOW)
    tensors = [tensor for key, tensor in method.state_dict().items() if "steps" not in key]
    assert sorted(tuple(tensor.shape) for tensor in tensors) == [(6,), (6,), (8,), (8,)]


@pytest.mark.parametrize("zero_b", [False, True])
def test_the_lift_moves_along_the_tangent_projection(zero_b: bool) -> None:
    it, G = layer(zero_b=zero_b), gradients()[0]
    A_dot, B_dot = tangent_lift(G, it.A, it.B, SCALING)
    on_rows = torch.linalg.pinv(it.A) @ it.A
    on_columns = it.B @ torch.linalg.pinv(it.B)
    projection = G @ on_rows + on_columns @ G - on_columns @ G @ on_rows
    torch.testing.assert_close(SCALING * (B_dot @ it.A + it.B @ A_dot), projection, rtol=1e-8, atol=1e-9)
    if zero_b:
        assert not A_dot.any()
    # One step on the factors moves s B A along it, up to the square of the step.
    eta = 1e-4
    moved = SCALING * ((it.B - eta * B_dot) @ (it.A - eta * A_dot) - it.B @ it.A)
    torch.testing.assert_close(moved, -eta * projection, rtol=0.0, atol=10 * eta**2 * float(G.norm()) ** 2)


def test_the_projection_is_the_nearest_tangent_vector() -> None:
    it, G = layer(), gradients()[1]
    A_dot, B_dot = tangent_lift(G, it.A, it.B, SCALING)
    rest = G - SCALING * (B_dot @ it.A + it.B @ A_dot)
    # The rest is orthogonal to every tangent vector X A + B Y.
    assert float((rest @ it.A.T).abs().max()) < 1e-9
    assert float((it.B.T @ rest).abs().max()) < 1e-9


@pytest.mark.parametrize("space", ["factored", "tangent", "inputs", "directions"])
def test_permuted_identical_and_scaled_domains(space: str) -> None:
    def run(stack: torch.Tensor, window: Window = WINDOW, tau: float = 0.7) -> torch.Tensor:
        method = build_method("iga", mask_space=space, tau=tau, statistics_decay=0.0)
        return torch.cat([part.flatten() for part in method.align_weight(layer(), iter(stack.clone()), window)])

    stack, order = gradients(), [3, 1, 0, 2]
    permuted = Window([0, 1, 2, 3], [WEIGHTS[d] for d in order])
    torch.testing.assert_close(run(stack), run(stack[order], permuted), rtol=1e-8, atol=1e-10)
    same = stack[:1].repeat(4, 1, 1)
    torch.testing.assert_close(run(same), run(same, tau=0.0), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(run(100.0 * stack), 100.0 * run(stack), rtol=1e-6, atol=1e-9)


def test_a_domains_own_output_direction_is_masked_where_both_sides_are() -> None:
    # Every domain uses the same two input directions; the second leads to an output direction of the domain's own.
    out = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    into = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).Q
    common_part = torch.outer(out[0], into[0])
    stack = torch.stack([common_part + torch.outer(out[1 + domain], into[1]) for domain in range(4)])
    it = layer()
    kept = {}
    for space in ("inputs", "directions"):
        method = build_method("iga", mask_space=space, tau=3.0, statistics_decay=0.0)
        grad_b = method.align_weight(it, iter(stack.clone()), Window([0, 1, 2, 3], [0.25] * 4))[1]
        kept[space] = (out @ grad_b).norm(dim=1)  # by output direction
    common, own = slice(0, 1), slice(1, 5)
    assert float(kept["directions"][own].max()) < 0.01 * float(kept["inputs"][own].min())
    assert float(kept["directions"][common]) > 0.5 * float(kept["inputs"][common])
