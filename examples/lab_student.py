"""What plain fine-tuning makes of the lab student: clean data, data with a planted cue, and slow training.

    python examples/lab_student.py lab-runs --json docs/lab.json

A run that is finished is not repeated, so the command can be stopped and given again.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from isodistill.evaluation import EvaluationConfig, evaluate
from isodistill.isomers.config import make_config
from isodistill.isomers.generate import generate
from isodistill.isomers.shortcut import Shortcut
from isodistill.students import load_student
from isodistill.teachers.distil import distil
from isodistill.teachers.symbolic import SymbolicTeacher
from isodistill.trainer import IsomerConfig, TrainJob, run_training

DATA = {"clean": (None, 0.0), "cue and wrong labels": (0.9, 0.15)}  # cue rate, share of wrong sets
RATES = {"ERM": 2e-3, "slower ERM": 1e-3}


def make_data(folder: Path, cue_rate: float | None, noise: float) -> Path:
    """Generates a data set and has the symbolic teacher give bare answers."""
    name = f"cue-{cue_rate}-noise-{noise}"
    raw, out = folder / f"{name}-raw", folder / name
    if not (out / "README.md").is_file():
        config = make_config(
            options={"answers": ("True", "False"), "distractors": (0, 1), "distractor_kinds": "neutral"},
            depth=(1, 2),
            deeper=(3, 3),
            split_by="wording",
            max_sets_per_skeleton=1000,
            sets=640,
            validation_sets=60,
            test_sets=100,
            shortcut=None if cue_rate is None else Shortcut(rate=cue_rate, phrases=1),
            label_noise=noise,
            audit=False,  # problems of one or two steps: the word "not" tells something of the answer
            seed=1,
        )
        generate(config, raw)
        distil(raw, SymbolicTeacher("answer"), out)
    return out


def measure(model: object, tokenizer: object, data: Path) -> dict[str, float]:
    """Measures the accuracy on each test split, by comparing the answers' likelihoods."""
    config = EvaluationConfig(by="likelihood", batch_size=64, bootstrap_samples=100)
    results = evaluate(model, tokenizer, data, config).splits
    return {name: round(result.accuracy.value, 4) for name, result in results.items()}


def run(data: Path, rate: float, steps: int, seed: int, out: Path) -> dict[str, object]:
    """Fine-tunes the lab student once and measures it."""
    model, tokenizer = load_student("lab")
    options = IsomerConfig(
        output_dir=str(out),
        method="erm",
        learning_rate=rate,
        max_steps=steps,
        per_device_train_batch_size=4,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        gradient_checkpointing=False,
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    job = TrainJob(data=str(data), student="lab", lora_r=8)
    record, adapted = run_training(job, options, student=(model, tokenizer), callbacks=[TrainerCallback()])
    started = time.monotonic()
    accuracy = measure(adapted, tokenizer, data)
    return {
        "train_seconds": record.seconds,
        "evaluate_seconds": round(time.monotonic() - started, 1),
        "accuracy": accuracy,
    }


def main() -> None:
    """Runs everything that is not there yet, and writes it all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, default=Path("lab.json"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=320)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.json.read_text()) if arguments.json.is_file() else []
    done = {(row["data"], row["method"], row["seed"], row["steps"]) for row in rows}
    for data_name, (cue_rate, noise) in DATA.items():
        data = make_data(arguments.folder, cue_rate, noise)
        cells = [("untuned", 0.0, 0, 0)]
        cells += [
            (name, rate, arguments.steps, seed) for seed in range(arguments.seeds) for name, rate in RATES.items()
        ]
        for name, rate, steps, seed in cells:
            if (data_name, name, seed, steps) in done:
                continue
            row = {"data": data_name, "method": name, "learning_rate": rate, "steps": steps, "seed": seed}
            if name == "untuned":
                row["accuracy"] = measure(*load_student("lab"), data)
            else:
                row |= run(data, rate, steps, seed, arguments.folder / f"{data.name}-{name}-{seed}".replace(" ", "-"))
            rows.append(row)
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
