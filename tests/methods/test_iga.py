from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from isodistill.errors import IsodistillError
from isodistill.gradients import AdaptedLayer, find_adapted_layers, pull_back
from isodistill.methods import ERM, IGA, METHODS, Method, Needs, Window, build_method

D_OUT, D_IN, RANK = 24, 30, 3
seeds = st.integers(0, 2**31)
quick = settings(max_examples=15, deadline=None)


def adapted_layer() -> AdaptedLayer:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(D_IN, D_OUT))
    (layer,) = find_adapted_layers(get_peft_model(network, LoraConfig(r=RANK, lora_alpha=6, target_modules=["0"])))
    torch.nn.init.normal_(layer.B)
    return layer


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def expected_mask(gradients: torch.Tensor, weights: list[float], tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    g, w = gradients.double(), torch.tensor(weights, dtype=torch.float64)
    mean = torch.tensordot(w, g, dims=1)
    variance = torch.tensordot(w, (g - mean).square(), dims=1)
    return mean, torch.exp(-tau * variance / mean.square())


WEIGHTS = [0.1, 0.2, 0.3, 0.4]
WINDOW = Window([0, 1, 2, 3][: len(WEIGHTS)], WEIGHTS)


@quick
@given(seeds, st.floats(0.0, 5.0))
def test_factor_space_masks_the_gradient(seed, tau):
    gradients = {"l.lora_A": draw(seed, 4, 3, 6), "l.lora_B": draw(seed + 1, 4, 5, 3)}
    method = IGA(tau=tau, mask_space="factor", mask_stage="gradient", statistics_decay=0.0)
    aligned, masks = method.align_factors(gradients, WINDOW)
    assert masks == {}
    for name, gradient in gradients.items():
        mean, mask = expected_mask(gradient, WEIGHTS, tau)
        torch.testing.assert_close(aligned[name].double(), mask * mean, rtol=1e-3, atol=1e-5)


@quick
@given(seeds, st.floats(0.0, 5.0))
def test_update_stage_leaves_the_gradient_and_returns_the_mask(seed, tau):
    gradients = {"l.lora_A": draw(seed, 4, 3, 6)}
    method = IGA(tau=tau, mask_space="factor", statistics_decay=0.0)
    assert method.masks_update
    aligned, masks = method.align_factors(gradients, WINDOW)
    mean, mask = expected_mask(gradients["l.lora_A"], WEIGHTS, tau)
    torch.testing.assert_close(aligned["l.lora_A"].double(), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(masks["l.lora_A"].double(), mask, rtol=1e-2, atol=1e-4)


def test_the_mask_uses_averages_and_the_gradient_does_not():
    method = IGA(tau=1.0, mask_space="factor", mask_stage="gradient", statistics_decay=0.5)
    first, second = draw(0, 4, 3, 6), draw(1, 4, 3, 6)
    method.align_factors({"l.lora_A": first}, WINDOW)
    aligned, _ = method.align_factors({"l.lora_A": second}, WINDOW)
    w = torch.tensor(WEIGHTS)
    means = [torch.tensordot(w, g, dims=1) for g in (first, second)]
    variances = [torch.tensordot(w, (g - m).square(), dims=1) for g, m in zip((first, second), means, strict=True)]
    mean, variance = (pair[0] / 3 + 2 * pair[1] / 3 for pair in (means, variances))
    expected = torch.exp(-variance / mean.square()) * means[1]
    torch.testing.assert_close(aligned["l.lora_A"], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("projection", ["exact", "randomized"])
@pytest.mark.parametrize("rank", [None, 2])
def test_weight_space_masks_projects_and_pulls_back(rank, projection):
    layer = adapted_layer()
    gradients = draw(5, 4, D_OUT, D_IN)
    method = IGA(tau=0.5, mask_space="weight", statistics_decay=0.0, projection_rank=rank, projection=projection)
    found = method.align_weight(layer, (each.clone() for each in gradients), WINDOW)
    mean, mask = expected_mask(gradients, WEIGHTS, 0.5)
    masked = mask * mean
    if rank is not None:
        U, S, Vh = torch.linalg.svd(masked, full_matrices=False)
        masked = (U[:, :rank] * S[:rank]) @ Vh[:rank]
    A, B = layer.A.detach().double(), layer.B.detach().double()
    # Noise has a nearly flat spectrum, where the randomised directions mix but the error does not grow.
    tolerance = 0.1 if rank and projection == "randomized" else 1e-4
    for a, b in zip(found, pull_back(masked, A, B, layer.scaling), strict=True):
        assert (a.double() - b).norm() < tolerance * b.norm()


def test_diagnostics_equal_what_they_are_defined_as():
    layer = adapted_layer()
    gradients = draw(6, 4, D_OUT, D_IN)
    method = IGA(tau=0.5, mask_space="weight", statistics_decay=0.0, projection_rank=4, projection="exact")
    method.align_weight(layer, (each.clone() for each in gradients), Window([0, 1, 2, 3], [0.25] * 4))
    found = method.diagnostics()
    mean, mask = expected_mask(gradients, [0.25] * 4, 0.5)
    masked = mask * mean
    values = torch.linalg.svdvals(masked)
    variance = (gradients.double() - mean).square().mean(0)
    assert found.mean_mask == pytest.approx(mask.mean().item(), rel=1e-4)
    assert found.kept_energy == pytest.approx((masked.norm() / mean.norm()).item() ** 2, rel=1e-4)
    assert found.projection_residual == pytest.approx((values[4:].norm() / values.norm()).item(), rel=1e-3)
    share = variance.sum() / (variance.sum() + mean.square().sum())
    assert found.conflict == {layer.name: pytest.approx(share.item(), rel=1e-4)}
    counted = torch.histc(mask.float().flatten(), 10, 0.0, 1.0)
    assert sum(found.mask_histogram) == mask.numel()
    assert (torch.tensor(found.mask_histogram) - counted).abs().sum() <= 2  # an entry at an edge may round either way
    assert method.diagnostics().conflict == {}, "reading forgets"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tau": -1.0}, "tau=-1.0"),
        ({"tau": float("nan")}, "tau=nan"),
        ({"tau": float("inf")}, "tau=inf"),
        ({"mask_space": "spectral"}, "mask_space='spectral'"),
        ({"mask_stage": "never"}, "mask_stage='never'"),
        ({"mask_space": "weight", "mask_stage": "update"}, "mask_stage='update' needs mask_space='factor'"),
        ({"statistics_decay": 1.0}, "statistics_decay=1.0"),
        ({"statistics_decay": -0.1}, "statistics_decay=-0.1"),
        ({"conflict_normalization": "wild"}, "conflict_normalization='wild'"),
        ({"projection_rank": 4}, "projection_rank=4 needs mask_space='weight'"),
        ({"mask_space": "weight", "projection_rank": 0}, "projection_rank=0"),
        ({"mask_space": "weight", "projection": "guess"}, "projection='guess'"),
    ],
)
def test_wrong_options_are_refused_by_name(options, field):
    with pytest.raises(IsodistillError, match=field):
        IGA(**options)


def test_defaults_of_the_stage():
    assert IGA(mask_space="factor").masks_update
    assert not IGA(mask_space="weight").masks_update
    assert IGA(mask_space="weight").needs == Needs(gradients="weight")


def test_the_default_is_the_mask_on_32_directions_of_each_side():
    default = IGA()
    assert (default.mask_space, default.tau, default.masks_gradient) == ("directions", None, True)
    assert default.subspace is not None
    assert default.subspace.rank == 32
    assert IGA(direction_rank=8).subspace.rank == 8
    assert IGA(mask_space="directions").subspace is None, "all directions, where the space is named"


def test_build_method():
    assert isinstance(build_method("erm"), ERM)
    assert build_method("iga", tau=0.5).tau == 0.5
    ready = IGA()
    assert build_method(ready) is ready
    assert all(name == cls.name for name, cls in METHODS.items())
    with pytest.raises(IsodistillError, match="method='fishy' is unknown"):
        build_method("fishy")
    with pytest.raises(IsodistillError, match="does not take these options"):
        build_method("iga", temperature=1.0)
    with pytest.raises(IsodistillError, match="tau"):
        build_method(ready, tau=1.0)


def test_an_interface_without_an_override_is_the_plain_mean():
    stack = torch.randn(4, 3, 5, dtype=torch.float64)
    aligned, masks = Method().align_factors({"l.lora_A": stack}, WINDOW)
    assert not masks
    torch.testing.assert_close(aligned["l.lora_A"], (torch.tensor(WEIGHTS).double().view(-1, 1, 1) * stack).sum(0))
    with pytest.raises(NotImplementedError):
        Method().replay(lambda domain: {}, {}, None, WINDOW)
