"""What the methods share: order of the domains, equal domains, the scale of the loss, refusals, a user's own method."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_helpers import domain_losses, gradient, make_batch, relative_error, take_step, toy_student

from isodistill.aligner import GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import METHODS, Method, Needs, Window, build_method, build_penalty, is_penalty, register_method

quick = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**31)
domain_counts = st.integers(2, 5)

OPTIONS = {
    "iga": {"mask_space": "factor", "mask_stage": "gradient"},
    "vrex": {"anneal_fraction": 0.0},
    # A mask that is neither nothing nor everything on unit gradients.
    "sand_mask": {"tau": 0.2, "k": 1.0},
}
COMBINERS = [name for name, cls in METHODS.items() if build_method(name).needs.gradients != "none"]
RANDOM_ORDER = ("pcgrad", "gradvac")
NOT_SCALE_FREE = {
    "sand_mask": "its mask reads the variance itself",
    "vrex": "its penalty is quadratic in the loss",
    "groupdro": "its weights are exponential in the loss",
    "nash_mtl": "its length is clipped",
    "cagrad": "TorchJD's thresholds are absolute",
    "upgrad": "TorchJD's thresholds are absolute",
    "gradvac": "TorchJD's eps is absolute",
}


def combine(name: str, stacks: dict[str, torch.Tensor], weights: list[float], losses: list[float]) -> torch.Tensor:
    """One step of a fresh method, as the aligner makes it."""
    method = build_method(name, **OPTIONS.get(name, {}))
    window = Window(list(range(len(weights))), weights, losses)
    scales = method.domain_scales(window) or [1.0] * len(weights)
    factor = torch.tensor(scales, dtype=torch.float64).view(-1, 1, 1)
    aligned, _ = method.align_factors({key: factor * stack for key, stack in stacks.items()}, window)
    return torch.cat([tensor.flatten() for tensor in aligned.values()])


def draw(seed: int, k: int, common: float = 0.0) -> tuple[dict[str, torch.Tensor], list[float], list[float]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"l.lora_A": (3, 5), "l.lora_B": (4, 3)}
    stacks = {
        name: common + torch.randn(k, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    raw = torch.rand(k, generator=generator, dtype=torch.float64) + 0.2
    losses = torch.rand(k, generator=generator, dtype=torch.float64) * 3
    return stacks, (raw / raw.sum()).tolist(), losses.tolist()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    # The AND-mask may leave nothing at all: then both must be zero.
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


@pytest.mark.parametrize("name", COMBINERS)
@quick
@given(seed=seeds, k=domain_counts, data=st.data())
def test_the_order_of_the_domains_does_not_matter(name, seed, k, data):
    # The orders that PCGrad and GradVac draw matter only where gradients conflict.
    stacks, weights, losses = draw(seed, k, common=3.0 if name in RANDOM_ORDER else 0.5)
    order = data.draw(st.permutations(range(k)))
    found = combine(
        name,
        {key: stack[list(order)] for key, stack in stacks.items()},
        [weights[d] for d in order],
        [losses[d] for d in order],
    )
    tolerance = 1e-3 if name in ("nash_mtl", "cagrad") else 1e-6
    assert error(found, combine(name, stacks, weights, losses)) < tolerance


@pytest.mark.parametrize("name", RANDOM_ORDER)
def test_under_conflict_the_order_is_drawn(name):
    stacks, weights, losses = draw(1, 4)
    plain = combine(name, stacks, weights, losses)
    order = [3, 1, 0, 2]
    other = combine(
        name,
        {key: stack[order] for key, stack in stacks.items()},
        [weights[d] for d in order],
        [losses[d] for d in order],
    )
    assert error(other, plain) > 1e-3


@pytest.mark.parametrize("name", [name for name in COMBINERS if name != "nash_mtl"])
@quick
@given(seed=seeds, k=domain_counts)
def test_equal_domains_give_the_plain_gradient(name, seed, k):
    stacks, _, losses = draw(seed, 1)
    equal = {key: stack.repeat(k, 1, 1) for key, stack in stacks.items()}
    expected = torch.cat([stack.flatten() for stack in stacks.values()])
    found = combine(name, equal, [1.0 / k] * k, losses * k)
    assert error(found, expected) < (1e-2 if name == "cagrad" else 1e-6)


def test_nash_mtl_clips_equal_domains_to_its_norm():
    stacks, _, losses = draw(0, 1)
    equal = {key: 10.0 * stack.repeat(3, 1, 1) for key, stack in stacks.items()}
    found = combine("nash_mtl", equal, [1 / 3] * 3, losses * 3)
    direction = torch.cat([stack.flatten() for stack in stacks.values()])
    torch.testing.assert_close(found, direction / direction.norm(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in COMBINERS if name not in NOT_SCALE_FREE])
@quick
@given(seed=seeds, k=domain_counts, exponent=st.integers(-4, 4))
def test_the_scale_of_the_loss_is_the_scale_of_the_result(name, seed, k, exponent):
    stacks, weights, losses = draw(seed, k)
    scale = 10.0**exponent
    found = combine(name, {key: scale * stack for key, stack in stacks.items()}, weights, losses)
    assert error(found, scale * combine(name, stacks, weights, losses)) < 1e-6


@pytest.mark.parametrize("name", ["sand_mask", "vrex", "groupdro", "nash_mtl"])
def test_the_others_do_depend_on_the_scale(name):
    stacks, weights, losses = draw(0, 4)
    large = {key: 10.0 * stack for key, stack in stacks.items()}
    found = combine(name, large, weights, [10.0 * loss for loss in losses])
    assert error(found, 10.0 * combine(name, stacks, weights, losses)) > 1e-3


@pytest.mark.parametrize("name", COMBINERS)
def test_one_domain_is_plain_training(name):
    if name == "nash_mtl":
        pytest.skip("its length is its own")
    stacks, weights, losses = draw(2, 1)
    expected = torch.cat([stack.flatten() for stack in stacks.values()])
    # One sign always agrees with itself, and a variance of nothing is zero.
    assert error(combine(name, stacks, weights, losses), expected) < (1e-2 if name == "cagrad" else 1e-6)


# Refusals


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("irm", {"penalty_weight": -1.0}, "penalty_weight=-1.0"),
        ("irm", {"anneal_fraction": 1.0}, "anneal_fraction=1.0"),
        ("vrex", {"penalty_weight": float("inf")}, "penalty_weight=inf"),
        ("vrex", {"anneal_fraction": -0.1}, "anneal_fraction=-0.1"),
        ("vrex", {"penalty_weight": float("nan")}, "penalty_weight=nan"),
        ("groupdro", {"eta": 0.0}, "eta=0.0"),
        ("groupdro", {"eta": float("inf")}, "eta=inf"),
        ("fish", {"meta_step": 0.0}, "meta_step=0.0"),
        ("fish", {"meta_step": 1.5}, "meta_step=1.5"),
        ("fishr", {"ema": 1.0}, "ema=1.0"),
        ("fishr", {"scale": "log"}, "scale='log'"),
        ("fishr", {"penalty_weight": -1.0}, "penalty_weight=-1.0"),
        ("fishr", {"anneal_fraction": 2.0}, "anneal_fraction=2.0"),
        ("and_mask", {"tau": 1.1}, "tau=1.1"),
        ("and_mask", {"tau": -0.1}, "tau=-0.1"),
        ("sand_mask", {"tau": 1.0}, "tau=1.0"),
        ("sand_mask", {"k": 0.0}, "k=0.0"),
        ("gsnr", {"statistics_decay": 1.0}, "statistics_decay=1.0"),
        ("koyama", {"penalty_weight": -1.0}, "penalty_weight=-1.0"),
        ("koyama", {"delta": 0.0}, "delta=0.0"),
        ("consistency", {"penalty_weight": -1.0}, "penalty_weight=-1.0"),
        ("consistency", {"form": "cosine"}, "form='cosine'"),
        ("word_dropout", {"probability": 1.0}, "probability=1.0"),
        ("gradvac", {"beta": 1.5}, "beta=1.5"),
        ("cagrad", {"c": -0.5}, "c=-0.5"),
        ("aligned_mtl", {"scale_mode": "max"}, "scale_mode='max'"),
        ("mgda", {"max_iters": 0}, "max_iters=0"),
        ("nash_mtl", {"max_norm": -1.0}, "max_norm=-1.0"),
        ("nash_mtl", {"update_weights_every": 0}, "update_weights_every=0"),
        ("nash_mtl", {"optim_niter": 0}, "optim_niter=0"),
    ],
)
def test_wrong_options_are_refused_by_name(name, options, message):
    with pytest.raises(IsodistillError, match=message):
        build_method(name, **options)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(IsodistillError, match=rf"method='{name}' does not take these options \(colour\)"):
        build_method(name, colour=1)


def test_what_may_stand_beside_a_method():
    beside = {name for name, cls in METHODS.items() if is_penalty(cls)}
    assert beside == {"erm_balanced", "word_dropout", "irm", "vrex", "groupdro", "fishr", "consistency"}
    assert all(build_penalty(name).name == name for name in beside)
    for name in METHODS.keys() - beside:
        with pytest.raises(IsodistillError, match=f"penalty='{name}' combines gradients itself"):
            build_penalty(name)


# A user's own


class MedianOfDomains(Method):
    """The median of the domains' gradients, entry by entry."""

    name = "median_of_domains"
    source = "the user's own"
    needs = Needs(gradients="factor")

    def align_factors(self, gradients, window):
        return {name: stack.median(dim=0).values for name, stack in gradients.items()}, {}


@pytest.fixture
def registry(monkeypatch):
    for name in ("median_of_domains", "erm"):
        monkeypatch.setitem(METHODS, name, METHODS.get(name))
    METHODS.pop("median_of_domains")
    return METHODS


def test_a_users_method_works_by_name(registry):
    assert len(inspect.getsource(MedianOfDomains).splitlines()) <= 10
    assert register_method(MedianOfDomains) is MedianOfDomains
    assert register_method(MedianOfDomains) is MedianOfDomains, "twice is once"
    student, batch = toy_student(), make_batch()
    found = take_step(GradientAligner(student, "median_of_domains"), student, batch)
    by_domain = [gradient(loss, student) for loss in domain_losses(student, batch)]
    expected = {key: torch.stack([g[key] for g in by_domain]).median(dim=0).values for key in found}
    assert relative_error(found, expected) < 1e-10


def test_a_name_that_is_taken_is_refused(registry):
    class Impostor(Method):
        name = "erm"

    with pytest.raises(IsodistillError, match="method='erm' is taken by ERM: give another name"):
        register_method(Impostor)
    assert METHODS["erm"] is not Impostor
