from __future__ import annotations

import pytest
import torch
from gradient_helpers import Batch, factor_gradients, loss_of, make_batch, tiny_llama

from isodistill.errors import IsodistillError
from isodistill.gradients import GradientStack, find_adapted_layers, pull_back
from isodistill.gradients.engines import LoopEngine, TapEngine, engine_class

SPACES = ["factor", "weight"]


def per_domain(model: torch.nn.Module, batch: Batch, engine_name: str, space: str, autocast: bool = False):
    """Every tensor's stacked per-domain gradients, straight from the engine; ``.grad`` stays as autograd left it."""
    model.zero_grad()
    stack = GradientStack(space)
    engine = engine_class(engine_name)(find_adapted_layers(model), stack)
    for part in [batch] if engine.splits_batches else batch.domain_batches():
        with engine.record(part.domains):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = loss_of(model, part, batch.total)
            loss.backward()
    engine.close()
    domains = batch.domains.unique().tolist()
    return {name: stack.stacked(name, domains) for name in stack.names()}


def assert_agree(found, expected, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        for domain, (a, b) in enumerate(zip(found[name], expected[name], strict=True)):
            assert (a - b).norm() <= tolerance * b.norm(), (name, domain)
            assert b.norm() > 0


def assert_sums_to_autograd(model, gradients, space: str, tolerance: float) -> None:
    """The domains' gradients must add up to what autograd wrote to ``.grad`` in the same backward."""
    for layer in find_adapted_layers(model):
        if space == "factor":
            pair = [gradients[f"{layer.name}.{part}"].sum(0) for part in ("lora_A", "lora_B")]
        else:
            pair = pull_back(gradients[layer.name].sum(0), layer.A.detach(), layer.B.detach(), layer.scaling)
        for found, parameter in zip(pair, (layer.A, layer.B), strict=True):
            assert (found - parameter.grad).norm() <= tolerance * parameter.grad.norm(), layer.name


OPTIONS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 2, "down_proj": 7}},
    "some_layers": {"target_modules": ["k_proj", "down_proj"]},
    "checkpointing": {"checkpointing": True},
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("option", OPTIONS)
def test_tap_equals_loop_in_single_precision(option, space, batch):
    model = tiny_llama(**OPTIONS[option])
    tap = per_domain(model, batch, "tap", space)
    assert_sums_to_autograd(model, tap, space, 1e-5)
    assert_agree(tap, per_domain(model, batch, "loop", space), 1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_checkpointing_gives_the_gradients_of_the_plain_model(space, batch):
    plain, checkpointed = tiny_llama(), tiny_llama(checkpointing=True)
    assert_agree(per_domain(checkpointed, batch, "tap", space), per_domain(plain, batch, "tap", space), 1e-6)


def test_layers_of_every_shape_are_covered(model, batch):
    shapes = {tuple(g.shape[1:]) for g in per_domain(model, batch, "tap", "weight").values()}
    assert shapes == {(32, 32), (16, 32), (48, 32), (32, 48)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("domains", [(5, 5, 5, 2), (0,), (7, 1, 7, 7, 7, 1)])
def test_unequal_domain_sizes_and_sparse_labels(model, space, domains):
    batch = make_batch(domains, seed=3)
    tap = per_domain(model, batch, "tap", space)
    assert {len(g) for g in tap.values()} == {len(set(domains))}
    assert_agree(tap, per_domain(model, batch, "loop", space), 1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_padding_content_does_not_matter(model, batch, space):
    garbled = Batch(batch.ids.masked_fill(batch.attention == 0, 7), batch.attention, batch.labels, batch.domains)
    assert not torch.equal(garbled.ids, batch.ids)
    assert_agree(per_domain(model, garbled, "tap", space), per_domain(model, batch, "tap", space), 1e-5)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_gradients_add_up_to_autograd(space, checkpointing, batch):
    model = tiny_llama(lora_dropout=0.3, checkpointing=checkpointing)
    torch.manual_seed(1)
    gradients = per_domain(model, batch, "tap", space)
    assert_sums_to_autograd(model, gradients, space, 1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_dropout_with_one_domain_equals_loop_under_the_same_seed(space):
    model, batch = tiny_llama(lora_dropout=0.3), make_batch((0, 0, 0))
    torch.manual_seed(1)
    tap = per_domain(model, batch, "tap", space)
    torch.manual_seed(1)
    assert_agree(tap, per_domain(model, batch, "loop", space), 1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_bfloat16_autocast_stays_close(model, batch, space):
    half = per_domain(model, batch, "tap", space, autocast=True)
    assert {g.dtype for g in half.values()} == {torch.float32}
    assert_sums_to_autograd(model, half, space, 0.03)
    assert_agree(half, per_domain(model, batch, "loop", space, autocast=True), 0.1)
    assert_agree(half, per_domain(model, batch, "tap", space), 0.15)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("engine", ["tap", "loop"])
def test_engines_leave_the_plain_gradient_in_place(model, batch, space, engine):
    loss_of(model, batch).backward()
    plain = factor_gradients(model)
    per_domain(model, batch, engine, space)
    found = factor_gradients(model)
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7)


def test_evaluation_inside_a_block_is_ignored(model, batch):
    stack = GradientStack("weight")
    engine = TapEngine(find_adapted_layers(model), stack)
    with engine.record(batch.domains):
        with torch.no_grad():
            loss_of(model, batch)
        loss_of(model, batch).backward()
    once = {name: stack.stacked(name, [0, 1, 2, 3]) for name in stack.names()}
    engine.close()
    assert_agree(once, per_domain(model, batch, "tap", "weight"), 1e-6)


def test_closing_removes_every_hook(model):
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())

    before = hooks()
    engine = TapEngine(find_adapted_layers(model), GradientStack("factor"))
    assert hooks() == before + 28
    engine.close()
    assert hooks() == before


@pytest.mark.parametrize("space", SPACES)
def test_backward_after_the_block_is_refused(model, batch, space):
    engine = TapEngine(find_adapted_layers(model), GradientStack(space))
    with engine.record(batch.domains):
        loss = loss_of(model, batch)
    with pytest.raises(IsodistillError, match="after the record block had ended"):
        loss.backward()


def test_packed_batches_are_refused(model, batch):
    engine = TapEngine(find_adapted_layers(model), GradientStack("factor"))
    with pytest.raises(IsodistillError, match="cannot be assigned to domains"), engine.record(batch.domains[:4]):
        loss_of(model, batch).backward()


def test_loop_refuses_two_domains(model, batch):
    engine = LoopEngine(find_adapted_layers(model), GradientStack("factor"))
    message = "one domain in each record block and got 4"
    with pytest.raises(IsodistillError, match=message), engine.record(batch.domains):
        pass


def test_unknown_engine_is_refused():
    with pytest.raises(IsodistillError, match="engine='magic' is unknown: choose one of tap, loop"):
        engine_class("magic")
