from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gradient_helpers import (
    Batch,
    aligned_gradients,
    backward,
    factor_gradients,
    loss_of,
    make_batch,
    plain_gradients,
    relative_error,
    tiny_llama,
)

from isodistill.aligner import GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import Method, Needs
from isodistill.optim import PLAIN_GRADIENT, MaskedAdamW, TensorAdamW

both_spaces = pytest.mark.parametrize("space", ["factor", "weight"])
both_engines = pytest.mark.parametrize("engine", ["tap", "loop"])


@both_spaces
@both_engines
@pytest.mark.parametrize("checkpointing", [False, True])
def test_tau_zero_is_plain_training(space, engine, checkpointing, batch):
    model = tiny_llama(checkpointing=checkpointing)
    found = aligned_gradients(model, batch, mask_space=space, engine=engine, tau=0.0)
    assert relative_error(found, plain_gradients(model, batch)) < 1e-5


@both_spaces
def test_the_mask_changes_the_gradient_and_shrinks_the_masked_norm(double_model, batch, space):
    plain = plain_gradients(double_model, batch)
    found = aligned_gradients(double_model, batch, mask_space=space, tau=3.0)
    assert relative_error(found, plain) > 0.1
    if space == "factor":
        assert all(torch.all(found[k].abs() <= plain[k].abs() * (1 + 1e-5) + 1e-12) for k in plain)


def test_full_projection_rank_at_tau_zero_is_plain_training(double_model, batch):
    found = aligned_gradients(double_model, batch, mask_space="weight", tau=0.0, projection_rank=48)
    assert relative_error(found, plain_gradients(double_model, batch)) < 1e-6


@both_spaces
@both_engines
def test_one_domain_is_plain_training(double_model, space, engine):
    batch = make_batch((2, 2, 2))
    found = aligned_gradients(double_model, batch, mask_space=space, engine=engine, tau=5.0)
    assert relative_error(found, plain_gradients(double_model, batch)) < 1e-6


@both_spaces
@both_engines
def test_identical_domains_are_plain_training(double_model, space, engine):
    one = make_batch((0, 0))
    batch = Batch(*(torch.cat([t] * 3) for t in (one.ids, one.attention, one.labels)), torch.arange(6) // 2)
    found = aligned_gradients(double_model, batch, mask_space=space, engine=engine, tau=5.0)
    assert relative_error(found, plain_gradients(double_model, batch)) < 1e-6


@both_spaces
@pytest.mark.parametrize("normalization", ["relative", "bounded", "layer_mean"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scaling_the_loss_scales_the_result(model, batch, space, normalization, scale):
    options = {"mask_space": space, "conflict_normalization": normalization, "tau": 1.0}
    found = aligned_gradients(model, batch, scale=scale, **options)
    expected = {k: g * scale for k, g in aligned_gradients(model, batch, **options).items()}
    assert relative_error(found, expected) < 1e-4


def test_raw_normalization_does_not_scale(double_model, batch):
    options = {"mask_space": "weight", "conflict_normalization": "raw", "tau": 1.0}
    found = aligned_gradients(double_model, batch, scale=1e3, **options)
    expected = {k: g * 1e3 for k, g in aligned_gradients(double_model, batch, **options).items()}
    assert relative_error(found, expected) > 0.1


@both_spaces
@both_engines
@pytest.mark.parametrize("weighting", ["tokens", "uniform"])
def test_permuting_domain_labels_changes_nothing(double_model, batch, space, engine, weighting):
    options = {"mask_space": space, "engine": engine, "domain_weighting": weighting, "tau": 1.0}
    found = aligned_gradients(double_model, batch.relabelled([2, 7, 0, 3]), **options)
    assert relative_error(found, aligned_gradients(double_model, batch, **options)) < 1e-5


@both_spaces
def test_tap_and_loop_align_alike(double_model, batch, space):
    tap, loop = (
        aligned_gradients(double_model, batch, mask_space=space, engine=engine, tau=1.0) for engine in ("tap", "loop")
    )
    assert relative_error(tap, loop) < 1e-5


def test_uniform_weighting_averages_the_domains_own_means(double_model, batch):
    found = aligned_gradients(double_model, batch, domain_weighting="uniform", mask_space="factor", tau=0.0)
    parts = [plain_gradients(double_model, part) for part in batch.domain_batches()]
    expected = {k: torch.stack([p[k] for p in parts]).mean(0) for k in parts[0]}
    assert relative_error(found, expected) < 1e-6
    assert relative_error(found, plain_gradients(double_model, batch)) > 1e-3


def test_loop_accepts_each_domains_own_mean_loss(double_model, batch):
    aligner = GradientAligner(double_model, engine="loop", mask_stage="gradient", tau=1.0)
    for part in batch.domain_batches():
        with aligner.record(part.domains, part.items):
            loss_of(double_model, part).backward()
    aligner.step()
    found = factor_gradients(double_model)
    assert relative_error(found, aligned_gradients(double_model, batch, engine="loop", tau=1.0)) < 1e-6


@both_spaces
@pytest.mark.parametrize("cut", [4, 7])
def test_micro_batches_equal_one_batch(double_model, batch, space, cut):
    options = {"mask_space": space, "mask_stage": "gradient", "tau": 1.0}
    aligner = GradientAligner(double_model, accumulation_steps=2, **options)
    for part in (batch.rows(slice(cut)), batch.rows(slice(cut, None))):
        with aligner.record(part.domains, part.items, normalizer=batch.total):
            loss_of(double_model, part, batch.total).backward()
    aligner.step()
    found = factor_gradients(double_model)
    aligner.close()
    assert relative_error(found, aligned_gradients(double_model, batch, **options)) < 1e-5


@both_spaces
def test_a_domain_in_one_micro_batch_only_is_not_lost(double_model, space):
    batch = make_batch((0, 1, 2, 0, 1, 1))
    aligner = GradientAligner(double_model, accumulation_steps=2, mask_space=space, mask_stage="gradient", tau=0.0)
    for part in (batch.rows(slice(2)), batch.rows(slice(2, None))):
        with aligner.record(part.domains, part.items, normalizer=batch.total):
            loss_of(double_model, part, batch.total).backward()
    aligner.step()
    found = factor_gradients(double_model)
    aligner.close()
    assert relative_error(found, plain_gradients(double_model, batch)) < 1e-6


@both_spaces
def test_a_domain_without_loss_items_counts_for_nothing(double_model, batch, space):
    labels = batch.labels.masked_fill((batch.domains == 2).unsqueeze(1), -100)
    silent = Batch(batch.ids, batch.attention, labels, batch.domains)
    found = aligned_gradients(double_model, silent, mask_space=space, tau=1.0)
    expected = aligned_gradients(double_model, silent.rows(batch.domains != 2), mask_space=space, tau=1.0)
    assert relative_error(found, expected) < 1e-5


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
    "tensor_adamw": lambda params: TensorAdamW(params, lr=1e-2, weight_decay=0.1),
}


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@both_engines
@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
def test_mask_on_update_equals_mask_times_the_unmasked_change(double_model, optimizer_name, engine):
    tau, decay = 1.0, 0.5
    shadow = copy.deepcopy(double_model)
    optimizer, shadow_optimizer = (
        OPTIMIZERS[optimizer_name](list(trainable(m).values())) for m in (double_model, shadow)
    )
    aligner = GradientAligner(
        double_model, engine=engine, mask_space="factor", mask_stage="update", tau=tau, statistics_decay=decay
    )
    aligner.attach_optimizer(optimizer)
    averages: dict[str, np.ndarray] = {}
    for step in range(1, 4):
        batch = make_batch(seed=step)
        shadow.load_state_dict(double_model.state_dict())
        before = {k: p.detach().clone() for k, p in trainable(shadow).items()}
        # The mask from autograd's own per-domain gradients, in numpy.
        shares = np.array([part.total / batch.total for part in batch.domain_batches()])
        parts = [plain_gradients(shadow, part) for part in batch.domain_batches()]
        masks = {}
        for k in before:
            g = np.stack([p[k].numpy() for p in parts])
            mean = np.tensordot(shares, g, axes=1)
            moments = np.stack([mean, np.tensordot(shares, (g - mean) ** 2, axes=1)])
            averages[k] = decay * averages.get(k, 0.0) + (1 - decay) * moments
            average_mean, average_variance = averages[k] / (1 - decay**step)
            masks[k] = torch.from_numpy(np.exp(-tau * average_variance / (average_mean**2 + 1e-30)))
        # The unmasked change from the plain gradient and the same optimizer state.
        loss_of(shadow, batch).backward()
        shadow_optimizer.step()
        change = {k: p.detach() - before[k] for k, p in trainable(shadow).items()}
        backward(aligner, double_model, batch)
        aligner.step()
        optimizer.step()
        optimizer.zero_grad()
        shadow_optimizer.zero_grad()
        for k, parameter in trainable(double_model).items():
            expected = masks[k] * change[k]
            found = parameter.detach() - before[k]
            assert (found - expected).norm() < 1e-4 * expected.norm(), (step, k)
            assert expected.norm() < 0.9 * change[k].norm()


def test_detached_optimizer_is_no_longer_masked(double_model, batch):
    parameters = list(trainable(double_model).values())
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    aligner = GradientAligner(double_model, mask_space="factor", mask_stage="update", tau=3.0)
    aligner.attach_optimizer(optimizer)
    backward(aligner, double_model, batch)
    aligner.step()
    aligner.close()
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    for parameter, old in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.1 * parameter.grad)


def test_factors_outside_the_optimizer_are_left_alone(double_model, batch):
    held = {k: p for k, p in trainable(double_model).items() if "lora_B" in k}
    rest = {k: p.detach().clone() for k, p in trainable(double_model).items() if k not in held}
    optimizer = torch.optim.SGD(list(held.values()), lr=0.1)
    aligner = GradientAligner(double_model, mask_space="factor", tau=1.0)
    aligner.attach_optimizer(optimizer)
    backward(aligner, double_model, batch)
    aligner.step()
    optimizer.step()
    assert all(torch.equal(trainable(double_model)[k], old) for k, old in rest.items())


class MedianOfDomains(Method):
    """A user's own method, written against the public interface only."""

    name = "median"
    needs = Needs(gradients="factor")

    def align_factors(self, gradients, window):
        return {name: g.median(dim=0).values for name, g in gradients.items()}, {}


def test_a_method_of_the_users_own_works_end_to_end(double_model, batch):
    expected = [plain_gradients(double_model, part) for part in batch.domain_batches()]
    aligner = GradientAligner(double_model, MedianOfDomains())
    backward(aligner, double_model, batch)
    assert aligner.step().mean_mask is None
    found = factor_gradients(double_model)
    assert relative_error(found, {k: torch.stack([e[k] for e in expected]).median(0).values for k in found}) < 1e-6


def test_erm_leaves_gradients_untouched_and_adds_no_hooks(batch):
    def hooks(model: torch.nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())

    model = tiny_llama()
    plain, before = plain_gradients(model, batch), hooks(model)
    optimizer = torch.optim.SGD(list(trainable(model).values()), lr=0.1)
    aligner = GradientAligner(model, "erm")
    aligner.attach_optimizer(optimizer)
    backward(aligner, model, batch)
    aligner.step()
    found = factor_gradients(model)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[k], plain[k]) for k in plain)
    assert hooks(model) == before
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


@both_spaces
def test_no_hook_survives_close(model, batch, space):
    hooks = [dict(m._forward_hooks) for m in model.modules()]
    aligned_gradients(model, batch, mask_space=space)
    assert [dict(m._forward_hooks) for m in model.modules()] == hooks


def test_forward_outside_a_block_is_unchanged(model, batch):
    expected = loss_of(model, batch)
    aligner = GradientAligner(model)
    assert torch.equal(loss_of(model, batch), expected)
    with aligner.record(batch.domains):
        assert torch.equal(loss_of(model, batch), expected)


def test_diagnostics_of_one_step(double_model, batch):
    aligner = GradientAligner(double_model, mask_space="weight", tau=1.0, projection_rank=3)
    backward(aligner, double_model, batch)
    found = aligner.step()
    assert 0 < found.mean_mask < 1
    assert 0 < found.kept_energy < 1
    assert 0 < found.projection_residual < 1
    assert set(found.conflict) == {layer.name for layer in aligner.layers}
    assert all(0 < share < 1 for share in found.conflict.values())


# Errors


@both_spaces
@both_engines
def test_a_failed_block_can_be_repeated(double_model, batch, space, engine):
    plain = plain_gradients(double_model, batch)
    loss_of(double_model, batch).backward()
    aligner = GradientAligner(double_model, engine=engine, mask_space=space, mask_stage="gradient", tau=0.0)
    part = batch if engine == "tap" else batch.domain_batches()[0]

    def fail_after_backward() -> None:
        loss_of(double_model, part, batch.total).backward()
        raise MemoryError

    with pytest.raises(MemoryError), aligner.record(part.domains, part.items, batch.total):
        fail_after_backward()
    if (engine, space) == ("loop", "factor"):
        assert relative_error(factor_gradients(double_model), plain) < 1e-6, "the earlier .grad must come back"
    double_model.zero_grad()
    backward(aligner, double_model, batch)
    aligner.step()
    found = factor_gradients(double_model)
    aligner.close()
    assert relative_error(found, plain) < 1e-6


@both_engines
def test_step_without_a_record_is_refused(model, engine):
    with pytest.raises(IsodistillError, match="no per-domain gradient was recorded"):
        GradientAligner(model, engine=engine, mask_stage="gradient").step()


def test_update_stage_without_optimizer_is_refused(model, batch):
    aligner = GradientAligner(model, mask_space="factor", mask_stage="update")
    backward(aligner, model, batch)
    with pytest.raises(IsodistillError, match="attach_optimizer"):
        aligner.step()


def test_too_many_record_blocks_are_refused(model, batch):
    aligner = GradientAligner(model, mask_stage="gradient", accumulation_steps=2)
    for _ in range(2):
        backward(aligner, model, batch)
    with pytest.raises(IsodistillError, match="entered 3 times before step: set accumulation_steps"):
        backward(aligner, model, batch)
    aligner.step()
    backward(aligner, model, batch)


@both_spaces
def test_backward_outside_the_block_is_refused(model, batch, space):
    aligner = GradientAligner(model, mask_space=space, mask_stage="gradient")
    with aligner.record(batch.domains):
        loss = loss_of(model, batch)
    with pytest.raises(IsodistillError, match=r"call loss\.backward\(\) inside"):
        loss.backward()


@both_spaces
def test_loop_with_backward_outside_the_block_is_refused(model, batch, space):
    aligner = GradientAligner(model, engine="loop", mask_space=space, mask_stage="gradient")
    part = batch.domain_batches()[0]
    with aligner.record(part.domains):
        loss = loss_of(model, part)
    loss.backward()
    with pytest.raises(IsodistillError, match="no per-domain gradient was recorded"):
        aligner.step()


def test_loop_with_two_domains_is_refused(model, batch):
    aligner = GradientAligner(model, engine="loop")
    with pytest.raises(IsodistillError, match="one domain in each record block"), aligner.record(batch.domains):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sgd"}, "method='sgd' is unknown: choose one of erm,"),
        ({"engine": "magic"}, "engine='magic' is unknown"),
        ({"method": "erm", "engine": "magic"}, "engine='magic' is unknown"),
        ({"mask_space": "spectral"}, "mask_space='spectral' is unknown"),
        ({"domain_weighting": "size"}, "domain_weighting='size' is unknown"),
        ({"method": "erm", "tau": 1.0}, r"method='erm' does not take these options \(tau\)"),
        ({"method": MedianOfDomains(), "tau": 1.0}, "cannot be combined with a ready method object"),
    ],
)
def test_unknown_choices_are_refused(model, options, message):
    with pytest.raises(IsodistillError, match=message):
        GradientAligner(model, **options)


@pytest.mark.parametrize("domains", [torch.zeros(3), torch.zeros(3, 1, dtype=torch.long), torch.tensor(0)])
def test_wrong_domain_ids_are_refused(model, domains):
    with pytest.raises(IsodistillError, match="domain_ids must be integers"), GradientAligner(model).record(domains):
        pass


def test_wrong_num_items_are_refused(model, batch):
    aligner = GradientAligner(model)
    with pytest.raises(IsodistillError, match="num_items has shape"), aligner.record(batch.domains, torch.ones(2)):
        pass


@pytest.mark.parametrize("method", ["erm", "word_dropout"])
def test_uniform_weights_hold_for_methods_that_read_no_gradient(double_model, batch, method):
    by_domain = [plain_gradients(double_model, part) for part in batch.domain_batches()]
    expected = {key: torch.stack([g[key] for g in by_domain]).mean(0) for key in by_domain[0]}
    aligner = GradientAligner(double_model, method, domain_weighting="uniform")
    backward(aligner, double_model, batch)
    aligner.step()
    assert relative_error(factor_gradients(double_model), expected) < 1e-6  # the norms of a Llama round to fp32 inside


@pytest.mark.parametrize("space", ["factor", "weight", "factored", "tangent", "inputs", "directions", "subspace"])
def test_masked_adamw_is_left_the_gradient_that_plain_training_would_have(model, batch, space):
    plain = plain_gradients(model, batch)
    options = {
        "subspace": {"mask_space": "directions", "direction_rank": 16},
        "factor": {"mask_space": "factor", "mask_stage": "gradient"},
    }
    options = {"mask_space": space} | options.get(space, {})
    aligner = GradientAligner(model, method="iga", tau=2.0, **options)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    aligner.attach_optimizer(MaskedAdamW(trained.values()))
    with aligner.record(batch.domains, batch.items):
        loss_of(model, batch).backward()
    aligner.step()
    left = {name: getattr(parameter, PLAIN_GRADIENT) for name, parameter in trained.items()}
    assert relative_error(left, plain) < 1e-5
    masked = {name: parameter.grad for name, parameter in trained.items()}
    assert relative_error(masked, plain) > 0.1
    aligner.close()
