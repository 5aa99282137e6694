"""The TorchJD group against TorchJD's own aggregators on the explicit Jacobian, and what the group shares."""

from __future__ import annotations

import pytest
import torch
import torchjd.aggregation as jd

from isodistill.methods import RunInfo, Window, build_method

K = 4
AGGREGATORS = {
    "pcgrad": (jd.PCGrad, K),
    "gradvac": (jd.GradVac, K),
    "cagrad": (lambda: jd.CAGrad(c=0.5), 1.5),
    "mgda": (jd.MGDA, 1),
    "upgrad": (jd.UPGrad, 1),
    "imtl_g": (jd.IMTLG, 1),
    "aligned_mtl": (jd.AlignedMTL, 1),
    "nash_mtl": (lambda: jd.NashMTL(n_tasks=K), 1),
}
WEIGHTS = [0.1, 0.2, 0.3, 0.4]
SEED = 5


def stacks(seed: int, conflict: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"l.lora_A": (K, 3, 7), "l.lora_B": (K, 5, 3)}
    common = {name: torch.randn(shape[1:], generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {
        name: common[name] + conflict * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def jacobian(gradients: dict[str, torch.Tensor], weights: list[float]) -> torch.Tensor:
    rows = torch.cat([stack.flatten(1) for stack in gradients.values()], dim=1)
    return K * torch.tensor(weights, dtype=torch.float64).unsqueeze(1) * rows


def flat(aligned: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in aligned.values()])


def bound(name: str):
    method = build_method(name)
    method.bind(RunInfo(num_domains=K, seed=SEED))
    return method


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("weights", [[0.25] * K, WEIGHTS], ids=["uniform", "tokens"])
def test_equals_torchjds_aggregator_over_three_steps(name: str, weights: list[float]) -> None:
    make, divisor = AGGREGATORS[name]
    method, aggregator = bound(name), make()
    for step in range(3):
        gradients = stacks(step, conflict=3.0)
        aligned, masks = method.align_factors(gradients, Window(list(range(K)), weights, step=step))
        with torch.random.fork_rng():
            torch.manual_seed(SEED * 1_000_003 + step)
            expected = aggregator(jacobian(gradients, weights)) / divisor
        assert not masks
        # Nash-MTL's solver stops at a tolerance of its own, and sees the Gramian through another root of it.
        torch.testing.assert_close(flat(aligned), expected, rtol=1e-3 if name == "nash_mtl" else 1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if name != "nash_mtl"])
def test_equal_gradients_give_the_plain_gradient(name: str) -> None:
    gradient = torch.randn(3, 7, dtype=torch.float64)
    aligned, _ = bound(name).align_factors({"l.lora_A": gradient.repeat(K, 1, 1)}, Window(list(range(K)), [0.25] * K))
    # CAGrad's search stops at a tolerance of its own.
    torch.testing.assert_close(aligned["l.lora_A"], gradient, rtol=1e-2 if name == "cagrad" else 1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["cagrad", "mgda", "upgrad", "imtl_g", "aligned_mtl"])
def test_the_order_of_the_domains_does_not_matter(name: str) -> None:
    gradients, order = stacks(0, conflict=2.0), [2, 0, 3, 1]
    plain, _ = bound(name).align_factors(gradients, Window(list(range(K)), WEIGHTS))
    permuted = {key: stack[order] for key, stack in gradients.items()}
    other, _ = bound(name).align_factors(permuted, Window(list(range(K)), [WEIGHTS[d] for d in order]))
    torch.testing.assert_close(flat(plain), flat(other), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["pcgrad", "upgrad", "imtl_g", "aligned_mtl"])
def test_scaling_the_loss_scales_the_gradient(name: str) -> None:
    gradients = stacks(1, conflict=2.0)
    plain, _ = bound(name).align_factors(gradients, Window(list(range(K)), WEIGHTS))
    scaled, _ = bound(name).align_factors({k: 10.0 * g for k, g in gradients.items()}, Window(list(range(K)), WEIGHTS))
    torch.testing.assert_close(flat(scaled), 10.0 * flat(plain), rtol=1e-4, atol=1e-6)


def test_the_random_order_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    bound("pcgrad").align_factors(stacks(0, 3.0), Window(list(range(K)), WEIGHTS))
    assert torch.equal(torch.rand(3), expected)


def test_pinned_weights_of_two_conflicting_gradients() -> None:
    """By hand: g1 = (1, 0), g2 = (-1, 1): PCGrad gives ((1/2, 1/2) + (0, 1)) / 2, MGDA the foot of the segment."""
    stack = torch.tensor([[[1.0, 0.0]], [[-1.0, 1.0]]], dtype=torch.float64)
    window = Window([0, 1], [0.5, 0.5])
    pcgrad, mgda = build_method("pcgrad"), build_method("mgda", max_iters=10_000)
    for method in (pcgrad, mgda):
        method.bind(RunInfo(num_domains=2))
    torch.testing.assert_close(
        pcgrad.align_factors({"f": stack}, window)[0]["f"], torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    )
    torch.testing.assert_close(
        mgda.align_factors({"f": stack}, window)[0]["f"],
        torch.tensor([[0.2, 0.4]], dtype=torch.float64),
        rtol=0.0,
        atol=5e-3,
    )
