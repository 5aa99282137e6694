from __future__ import annotations

import copy

import pytest
import torch
from gradient_helpers import backward, factor_gradients, make_batch, tiny_llama
from safetensors.torch import load, save

from isodistill.aligner import GradientAligner
from isodistill.errors import IsodistillError

CASES = {
    "factor": {"mask_space": "factor", "mask_stage": "gradient"},
    "weight": {"mask_space": "weight"},
    "weight_projected": {"mask_space": "weight", "projection_rank": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_run_continues_bit_identically(case):
    options = CASES[case] | {"tau": 1.0}
    model = tiny_llama()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    aligner = GradientAligner(model, **options)
    for seed in range(3):
        optimizer.zero_grad()
        backward(aligner, model, make_batch(seed=seed))
        aligner.step()
        optimizer.step()
    # Through safetensors, as a checkpoint on disk goes.
    state = load(save(aligner.state_dict()))
    other = copy.deepcopy(model)
    for module in other.modules():
        module._forward_hooks.clear()
    fresh = GradientAligner(other, **options)
    fresh.load_state_dict(state)
    for seed in (3, 4):
        for network, continued in ((model, aligner), (other, fresh)):
            network.zero_grad()
            backward(continued, network, make_batch(seed=seed))
            continued.step()
        first, second = factor_gradients(model), factor_gradients(other)
        assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("case", CASES)
def test_uninterrupted_run_equals_resumed_run(case):
    options = CASES[case] | {"tau": 1.0}
    model = tiny_llama()
    straight = GradientAligner(model, **options)
    for seed in range(2):
        model.zero_grad()
        backward(straight, model, make_batch(seed=seed))
        straight.step()
    state = load(save(straight.state_dict()))
    model.zero_grad()
    backward(straight, model, make_batch(seed=2))
    straight.step()
    expected = factor_gradients(model)
    straight.close()
    found = []
    for loaded in (state, None):
        fresh = GradientAligner(model, **options)
        if loaded is not None:
            fresh.load_state_dict(loaded)
        model.zero_grad()
        backward(fresh, model, make_batch(seed=2))
        fresh.step()
        fresh.close()
        found.append(factor_gradients(model))
    assert all(torch.equal(found[0][k], expected[k]) for k in expected)
    assert not all(torch.equal(found[1][k], expected[k]) for k in expected), "the state must matter"


def test_state_without_running_averages_is_empty():
    model = tiny_llama()
    aligner = GradientAligner(model, mask_space="factor", statistics_decay=0.0, mask_stage="gradient")
    backward(aligner, model, make_batch())
    aligner.step()
    assert aligner.state_dict().keys() == {"step"}
    assert GradientAligner(model, "erm").state_dict().keys() == {"step"}
    with pytest.raises(IsodistillError, match="no step count"):
        aligner.load_state_dict({})
