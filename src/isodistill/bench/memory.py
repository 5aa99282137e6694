"""Peak memory of a training step: of the process, and of the tensors that alignment itself holds."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import Any

import torch

from isodistill.bench.timing import BenchTable, Progress, this_machine
from isodistill.errors import IsodistillError

# Runs alone in a fresh process, because the peak of a process never falls again.
_SCRIPT = """
import json, resource, sys
import torch
from isodistill.bench.memory import tensor_bytes
from isodistill.bench.timing import run_trainer
from isodistill.bench.workload import make_workload
from isodistill.students import load_student

job = json.loads(sys.argv[1])
torch.set_num_threads(job["threads"])
model, tokenizer = load_student(job["student"])
workload = make_workload(tokenizer, job["tokens"], job["sequences"])
rows = workload.flat(tokenizer) if job["plain"] else workload.sets(job["domains"])
held = []
run_trainer(
    model, tokenizer, rows, job["steps"], job["rank"], job["plain"],
    inspect=lambda: held.append(tensor_bytes()), **job["options"],
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak": peak, "held": held[0]}))
"""


def tensor_bytes() -> int:
    """Counts the bytes of every tensor that is alive, each storage once."""
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type != "meta":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def memory_cases() -> dict[str, tuple[bool, dict[str, Any]]]:
    """Lists the cases: whether TRL's own trainer runs, and the trainer options.

    Returns:
        The cases, the reference first.
    """
    weight = {"method": "iga", "mask_space": "weight"}
    return {
        "erm (TRL's SFTTrainer)": (True, {}),
        "erm": (False, {"method": "erm"}),
        "iga (factor)": (False, {"method": "iga", "mask_space": "factor"}),
        "iga (weight), no running averages": (False, weight | {"statistics_decay": 0.0}),
        "iga (weight)": (False, weight),
        "iga (factored)": (False, weight | {"mask_space": "factored"}),
        "iga (directions, rank 32)": (False, weight | {"mask_space": "directions", "direction_rank": 32}),
    }


def bench_memory(
    student: str,
    tokens: int = 2048,
    sequences: int = 16,
    domains: int = 4,
    rank: int = 8,
    rounds: int = 2,
    threads: int = 2,
    progress: Progress = lambda case: None,
) -> BenchTable:
    """Measures the peak resident memory of a few steps of each case, each in a process of its own.

    Args:
        student: The student's name.
        tokens: Tokens of a step.
        sequences: Sequences of a step.
        domains: K.
        rank: LoRA's rank.
        rounds: Processes for each case; the smallest peak counts, since an allocator only ever adds to it.
        threads: Torch's threads.
        progress: Told each case before it runs.

    Returns:
        The table; its figures are in MiB: each case's peak, what it has over ours for ERM, what the tensors have that
        are alive after the last step (buffers that are used again, running averages, subspaces), and for comparison
        the largest adapted layer in fp32 and K adapters.

    Raises:
        IsodistillError: if a process fails; its last lines are in the message.
    """
    from isodistill.students import load_student

    model, _ = load_student(student)
    layers = [module for name, module in model.named_modules() if hasattr(module, "in_features") and "head" not in name]
    largest = max(layer.in_features * layer.out_features for layer in layers) * 4 / 2**20
    adapter = sum(rank * (layer.in_features + layer.out_features) for layer in layers) * 4 / 2**20
    dense = sum(layer.in_features * layer.out_features for layer in layers) * 4 / 2**20
    del model, layers
    peaks: dict[str, float] = {}
    held: dict[str, float] = {}
    for case, (plain, options) in memory_cases().items():
        for number in range(rounds):
            progress(f"{case}, process {number + 1} of {rounds}")
            job = {"student": student, "tokens": tokens, "sequences": sequences, "domains": domains, "rank": rank}
            job |= {"steps": 2, "plain": plain, "options": options, "threads": threads}
            found = _run(job)
            peaks[case] = min(found["peak"] / 1024, peaks.get(case, float("inf")))
            held[case] = found["held"] / 2**20
    figures = {f"peak, {case}": value for case, value in peaks.items()}
    figures |= {f"over erm, {case}": value - peaks["erm"] for case, value in peaks.items() if case != "erm"}
    figures |= {f"tensors over erm, {case}": value - held["erm"] for case, value in held.items() if case != "erm"}
    figures |= {
        "largest layer": largest,
        "K adapters": domains * adapter,
        "6 layers + K adapters": 6 * largest + domains * adapter,
        "all adapted weights": dense,
    }
    settings = {"student": student, "tokens": tokens, "sequences": sequences, "domains": domains, "rank": rank}
    return BenchTable(benchmark="memory", settings=settings | {"unit": "MiB"}, machine=this_machine(), figures=figures)


def _run(job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, json.dumps(job)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise IsodistillError("the measuring process failed: " + " | ".join(done.stderr.strip().splitlines()[-3:]))
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
