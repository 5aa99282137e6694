"""Every method that keeps something goes on after a restart as if there had been none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from method_helpers import Batch, closure_of, factor_gradients, factors, make_batch, take_step, toy_student
from safetensors.torch import load, save

from isodistill.aligner import GradientAligner
from isodistill.methods import METHODS, RunInfo

RUN = RunInfo(num_domains=4, total_steps=10, seed=4)
# The switch of an annealing falls between the restart and the last step.
CASES: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS} | {
    "irm": {"method": "irm", "anneal_fraction": 0.3},
    "vrex": {"method": "vrex", "anneal_fraction": 0.3},
    "fishr": {"method": "fishr", "anneal_fraction": 0.3, "penalty_weight": 50.0},
    "groupdro": {"method": "groupdro", "eta": 0.5},
    "word_dropout": {"method": "word_dropout", "probability": 0.4},
    "nash_mtl_every_other": {"method": "nash_mtl", "update_weights_every": 2},
    "iga": {"method": "iga", "mask_space": "factor", "mask_stage": "gradient", "tau": 0.5},
    "iga_factored": {"method": "iga", "mask_space": "factored", "tau": 0.5},
    "iga_tangent": {"method": "iga", "mask_space": "tangent", "tau": 0.5},
    "iga_inputs": {"method": "iga", "mask_space": "inputs", "tau": 0.5},
    "iga_directions": {"method": "iga", "mask_space": "directions", "tau": 0.5},
    "iga_split": {"method": "iga", "mask_space": "directions", "conflict_estimator": "split", "tau": 0.5},
    "iga_subspace": {"method": "iga", "mask_space": "directions", "direction_rank": 3, "tau": 0.5},
    "iga_projected": {"method": "iga", "mask_space": "weight", "tau": 0.5, "projection_rank": 2},
    "iga_with_groupdro": {"method": "iga", "mask_space": "factor", "mask_stage": "gradient", "penalty": "groupdro"},
    "pcgrad_with_fishr": {"method": "pcgrad", "penalty": "fishr", "penalty_options": {"anneal_fraction": 0.3}},
}
STATELESS = {"erm", "erm_balanced", "and_mask", "sand_mask", "consistency", "koyama", "cagrad", "mgda", "upgrad"} | {
    "imtl_g",
    "aligned_mtl",
    "iga_tangent",
}
SETS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def batch_of(step: int) -> Batch:
    return make_batch((0, 1, 2, 3, 3, 2, 1, 0), seed=step)


class Run:
    """A student, its optimizer and its aligner, as a checkpoint holds them."""

    def __init__(self, case: str, student: torch.nn.Module) -> None:
        self.student = student
        self.optimizer = torch.optim.Adam(factors(student).values(), lr=0.01)
        self.aligner = GradientAligner(student, run=RUN, **CASES[case])
        self.aligner.attach_optimizer(self.optimizer)

    def advance(self, step: int) -> dict[str, torch.Tensor]:
        if self.aligner.method.name == "fish":
            batch = batch_of(step)
            with self.aligner.record(batch.domains, batch.items):
                pass
            self.aligner.step(closure_of(self.student, batch))
        else:
            take_step(self.aligner, self.student, batch_of(step), SETS)
            self.optimizer.step()
        return {name: p.detach().clone() for name, p in factors(self.student).items()}


def restart(case: str, run: Run, with_state: bool = True, saves_twice: bool = False) -> Run:
    """A new process: the weights, the optimizer and the aligner's tensors through safetensors."""
    student = toy_student()
    student.load_state_dict(run.student.state_dict())
    fresh = Run(case, student)
    fresh.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    if with_state:
        fresh.aligner.load_state_dict(load(save(run.aligner.state_dict())))
        if saves_twice:
            fresh.aligner.load_state_dict(load(save(fresh.aligner.state_dict())))
    return fresh


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("case", CASES)
def test_a_restarted_run_goes_on_bit_identically(case):
    run = Run(case, toy_student())
    for step in range(2):
        run.advance(step)
    other = restart(case, run)
    for step in (2, 3, 4):
        assert same(other.advance(step), run.advance(step)), step


@pytest.mark.parametrize("case", [case for case in CASES if case not in STATELESS])
def test_the_state_matters(case):
    run = Run(case, toy_student())
    for step in range(2):
        run.advance(step)
    other = restart(case, run, with_state=False)
    assert not all(same(other.advance(step), run.advance(step)) for step in (2, 3, 4))


@pytest.mark.parametrize("case", CASES)
def test_a_state_that_was_just_loaded_can_be_saved(case):
    run = Run(case, toy_student())
    for step in range(2):
        run.advance(step)
    other = restart(case, run, saves_twice=True)
    for step in (2, 3):
        assert same(other.advance(step), run.advance(step)), step


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_run(case):
    first, second = Run(case, toy_student()), Run(case, toy_student())
    first.advance(0)
    torch.manual_seed(99)  # the global generator must not matter
    second.advance(0)
    assert same(first.advance(1), second.advance(1))


@pytest.mark.parametrize("case", sorted(STATELESS - {"iga_tangent"}))
def test_a_method_that_keeps_nothing_saves_the_step_alone(case):
    run = Run(case, toy_student())
    run.advance(0)
    assert run.aligner.state_dict().keys() == {"step"}


def test_gradients_are_left_for_the_optimizer():
    run = Run("gsnr", toy_student())
    run.advance(0)
    assert factor_gradients(run.student).keys() == factors(run.student).keys()
