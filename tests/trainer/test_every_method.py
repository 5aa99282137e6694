"""Every method through the trainer: splits, processes, checkpoints, precision, unpaired data, refusals."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import method_runs
import pytest
import torch
from datasets import Dataset
from method_runs import CASES, adapter_of, method_of, run_case, taught
from safetensors.torch import load_file
from tiny_student import DOMAINS, lora, make_sets

from isodistill.errors import IsodistillError
from isodistill.methods import METHODS
from isodistill.trainer import DIAGNOSTICS_FILE

EXACT = [case for case in CASES if method_of(case).micro_batch_exact]
SPREAD = [case for case in EXACT if method_of(case).max_processes is None]
STATEFUL = ["iga_factor", "irm", "vrex", "groupdro", "fish", "fishr", "gsnr", "gradvac", "nash_mtl", "word_dropout"]
PAIRED = {"consistency", "iga_with_consistency"}


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def movement(adapter: dict[str, torch.Tensor]) -> float:
    return max(float(value.abs().max()) for name, value in adapter.items() if "lora_B" in name)


@pytest.mark.parametrize("case", EXACT)
def test_splitting_into_micro_batches_changes_nothing(tmp_path: Path, case: str) -> None:
    whole = adapter_of(run_case(tmp_path / "a", case))
    split = adapter_of(run_case(tmp_path / "b", case, per_device_train_batch_size=1, gradient_accumulation_steps=4))
    assert movement(whole) > 1e-5
    assert difference(whole, split) <= 1e-5


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(method_runs.__file__).parent)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    cases = [*SPREAD, "groupdro+taught", "iga_weight+taught"]
    done = subprocess.run(
        [*launcher, str(method_runs.__file__), str(tmp_path / "two"), ",".join(cases)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for case in cases:
        two = load_file(tmp_path / "two" / f"{case}.safetensors")
        name, more = taught(case)
        one = adapter_of(run_case(tmp_path / "one" / case, name, **more))
        assert movement(one) > 1e-5, case
        assert difference(one, two) <= 1e-5, case


@pytest.mark.parametrize("case", CASES)
def test_trains_under_checkpointing_dropout_and_rslora(tmp_path: Path, case: str) -> None:
    trainer = run_case(
        tmp_path, case, peft=lora(lora_dropout=0.1, use_rslora=True), gradient_checkpointing=True, max_steps=2
    )
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0.0 for loss in losses)
    assert movement(adapter_of(trainer)) > 1e-6


@pytest.mark.parametrize("case", [case for case in CASES if method_of(case).reduced_precision])
def test_bf16_autocast_stays_near_fp32(tmp_path: Path, case: str) -> None:
    full = adapter_of(run_case(tmp_path / "a", case, max_steps=1))
    half = adapter_of(run_case(tmp_path / "b", case, max_steps=1, bf16=True))
    assert all(bool(value.isfinite().all()) for value in half.values())
    # One step from one start: bf16 keeps 8 bits, and a sign or a solver may turn on one of them.
    cosine = torch.nn.functional.cosine_similarity(flat(full), flat(half), dim=0)
    assert float(cosine) > 0.9


def flat(adapter: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for name, value in sorted(adapter.items()) if "lora_B" in name])


def unpaired_rows() -> Dataset:
    """Sixteen rows of the first domain, and fewer of each further one."""
    rows: list[dict[str, Any]] = []
    for count, row in enumerate(make_sets(16)):
        rows += [
            {key: member[key] for key in ("domain", "prompt", "completion")}
            for k, member in enumerate(row["members"])
            if count % (k + 1) == 0
        ]
    return Dataset.from_list(rows)


@pytest.mark.parametrize("case", [case for case in CASES if case not in PAIRED])
def test_trains_on_unpaired_domains_of_unequal_size(tmp_path: Path, case: str) -> None:
    trainer = run_case(
        tmp_path, case, sets=unpaired_rows(), per_device_train_batch_size=8, train_sampling_strategy="random"
    )
    assert not trainer.paired
    assert movement(adapter_of(trainer)) > 1e-6


@pytest.mark.parametrize("case", ["iga_directions", "groupdro", "consistency"])
def test_trains_on_sets_that_are_told_in_some_of_the_domains(tmp_path: Path, case: str) -> None:
    rows = [
        row | {"members": [m for k, m in enumerate(row["members"]) if k != number % 3]}
        for number, row in enumerate(make_sets(12, domains=("law", "math", "science")))
    ]
    trainer = run_case(tmp_path, case, sets=Dataset.from_list(rows))
    assert trainer.paired
    assert trainer.domains == ["law", "math", "science"]
    assert movement(adapter_of(trainer)) > 1e-6


@pytest.mark.parametrize("case", STATEFUL)
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path: Path, case: str) -> None:
    options = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    if case in ("irm", "vrex", "fishr"):
        options["method_options"] = {"anneal_fraction": 0.7}  # the switch comes after the resume
    straight = run_case(tmp_path, case, peft=lora(lora_dropout=0.1), **options)
    expected = adapter_of(straight)
    resumed = run_case(tmp_path, case, peft=lora(lora_dropout=0.1), resume=str(tmp_path / "checkpoint-2"), **options)
    found = adapter_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_domain_losses_are_logged_under_their_names(tmp_path: Path) -> None:
    trainer = run_case(tmp_path, "groupdro")
    first = next(row for row in trainer.state.log_history if "loss" in row)
    assert {f"domain_loss/{domain}" for domain in DOMAINS} <= first.keys()
    line = json.loads((tmp_path / DIAGNOSTICS_FILE).read_text().splitlines()[0])
    assert line["domain_loss/law"] == first["domain_loss/law"]
    # Unequal token counts, so the mean loss lies between the domains' and is not their plain mean.
    losses = [first[f"domain_loss/{domain}"] for domain in DOMAINS]
    assert min(losses) < first["loss"] < max(losses)


def test_shuffled_domains_change_what_reads_them_and_nothing_else(tmp_path: Path) -> None:
    plain = adapter_of(run_case(tmp_path / "a", "iga_factor"))
    shuffled = adapter_of(run_case(tmp_path / "b", "iga_factor", shuffle_domains=True))
    assert difference(plain, shuffled) > 1e-5
    off = adapter_of(run_case(tmp_path / "c", "iga_factor", tau=0.0))
    off_shuffled = adapter_of(run_case(tmp_path / "d", "iga_factor", tau=0.0, shuffle_domains=True))
    assert difference(off, off_shuffled) <= 1e-6


def test_a_penalty_changes_the_run_of_another_method(tmp_path: Path) -> None:
    alone = adapter_of(run_case(tmp_path / "a", "iga_factor"))
    options = {"penalty": "consistency", "penalty_options": {"penalty_weight": 16.0}}
    together = adapter_of(run_case(tmp_path / "b", "iga_factor", **options))
    assert difference(alone, together) > 1e-5
    weightless = options | {"penalty_options": {"penalty_weight": 0.0}}
    assert difference(alone, adapter_of(run_case(tmp_path / "c", "iga_factor", **weightless))) <= 1e-6


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("irm", {"per_device_train_batch_size": 1}, "method='irm' needs 2 sequences of each domain"),
        ("fishr", {"per_device_train_batch_size": 1}, "method='fishr' needs 2 sequences of each domain"),
        ("koyama", {"bf16": True}, "method='koyama' takes differences"),
        ("consistency", {"engine": "loop"}, "method='consistency' compares sequences of several domains"),
        ("vrex", {"loss_type": "dft"}, "method='vrex' is defined on the mean negative log-likelihood"),
        ("erm", {"shuffle_domains": True}, "shuffle_domains=True changes nothing for method='erm'"),
        ("consistency", {"shuffle_domains": True}, "shuffle_domains=True changes nothing for method='consistency'"),
        ("erm", {"penalty": "pcgrad"}, "penalty='pcgrad' combines gradients itself"),
        ("erm", {"penalty_options": {"eta": 1.0}}, "penalty_options are given without a penalty"),
        ("irm", {"method_options": "lambda=3"}, "method_options is not a mapping"),
        ("irm", {"method_options": {"strength": 3}}, "method='irm' does not take these options"),
    ],
)
def test_what_a_method_cannot_do_is_refused_by_name(
    tmp_path: Path, case: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(IsodistillError, match=message):
        run_case(tmp_path, case, **options)


def test_consistency_refuses_unpaired_data(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="method='consistency' compares the members of a set"):
        run_case(tmp_path, "consistency", sets=unpaired_rows())


def test_one_domain_is_refused_by_every_method_that_compares(tmp_path: Path) -> None:
    for name, method in METHODS.items():
        if method.min_domains > 1:
            case = next(case for case in CASES if CASES[case]["method"] == name)
            with pytest.raises(IsodistillError, match=f"method='{name}' compares domains"):
                run_case(tmp_path, case, sets=make_sets(8, domains=("law",)))
