"""Runs for the report tests: items drawn with a given accuracy, measured by the evaluation's own code."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import numpy as np

from isodistill.evaluation.evaluate import measure_split
from isodistill.evaluation.items import EvalItem
from isodistill.evaluation.results import Evaluation, EvaluationConfig, ItemRecord
from isodistill.evaluation.scoring import AnswerScore
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary

CHOICES = ("True", "False", "Unknown")
TRAINED = ("mathematics", "medicine", "law", "science")
UNSEEN = ("finance", "cooking")
SPLITS = {"iid": TRAINED, "cue_absent": TRAINED, "cue_reversed": TRAINED, "unseen_domain": UNSEEN, "deeper": TRAINED}


def make_evaluation(
    seed: int, accuracy: dict[str, float], n_sets: int = 30, splits: dict[str, tuple[str, ...]] = SPLITS
) -> Evaluation:
    made = _make_evaluation(seed, tuple(accuracy.items()), n_sets, tuple(splits.items()))
    return made.model_copy(deep=True)


@cache
def _make_evaluation(
    seed: int, rates: tuple[tuple[str, float], ...], n_sets: int, parts: tuple[tuple[str, tuple[str, ...]], ...]
) -> Evaluation:
    accuracy, splits = dict(rates), dict(parts)
    config = EvaluationConfig(bootstrap_samples=200)
    results, everything = {}, []
    for split, domains in splits.items():
        rng, noise = random.Random(f"{seed}-{split}"), np.random.default_rng(seed)
        items, records, scores = [], [], []
        for number in range(n_sets):
            answer = CHOICES[number % 3]
            for domain in domains:
                cue = rng.choice(CHOICES) if "cue" in split else ""
                item = EvalItem(
                    split,
                    f"deduction-{split}-{number:03d}",
                    domain,
                    "deduction",
                    1 + number % 4,
                    f"Every witness in {domain} file {number} is careful. Is Ada careful?",
                    answer,
                    CHOICES,
                    cue,
                )
                right = rng.random() < accuracy[split]
                given = answer if right else rng.choice([c for c in CHOICES if c != answer])
                belief = noise.dirichlet([4.0 if choice == given else 1.0 for choice in CHOICES])
                items.append(item)
                scores.append(AnswerScore(noise.normal(size=8), np.log(belief), belief))
                records.append(
                    ItemRecord(
                        split=split,
                        set_id=item.set_id,
                        domain=domain,
                        family=item.family,
                        depth=item.depth,
                        prompt=item.prompt,
                        cue=cue,
                        answer=answer,
                        completion=f"Ada is a witness. Every witness is careful, so Ada is.\nAnswer: {given}",
                        extracted=given,
                        correct=right,
                        probabilities=dict(zip(CHOICES, belief.tolist(), strict=True)),
                    )
                )
        results[split] = measure_split(items, records, scores, config)
        everything.extend(records)
    return Evaluation(
        student="tiny-student",
        adapter="default (LORA, rank 8)",
        data="demo",
        config=config,
        versions={"torch": "2.13.0", "isodistill": "0.1.0"},
        seconds=12.0,
        splits=results,
        items=everything,
    )


def make_run(
    name: str = "erm",
    method: str = "erm",
    *,
    seed: int = 0,
    shift: float = 0.0,
    diagnostics: bool = False,
    n_sets: int = 30,
    settings: dict[str, Any] | None = None,
) -> RunSummary:
    base = {"iid": 0.9, "cue_absent": 0.6, "cue_reversed": 0.35, "unseen_domain": 0.5, "deeper": 0.4}
    accuracy = {split: value + (shift if split != "iid" else 0.0) for split, value in base.items()}
    rows: list[dict[str, Any]] = []
    if diagnostics:
        for step in range(60):
            conflict = {
                f"layers.{layer}.self_attn.{part}": 1 + layer / 6 + math.sin(step / 9) / 2
                for layer in range(12)
                for part in ("q_proj", "v_proj")
            }
            rows.append(
                {
                    "step": step + 1,
                    "mean_mask": 0.2 + 0.3 * math.exp(-step / 15),
                    "kept_energy": 0.6 + 0.2 * math.exp(-step / 20),
                    "projection_residual": 0.1 + 0.01 * math.cos(step),
                    "conflict": conflict,
                }
            )
    log: list[dict[str, Any]] = [
        {"step": step, "loss": 2 * math.exp(-step / 20) + 0.3 + 0.01 * seed, "learning_rate": 1e-3}
        for step in range(5, 61, 5)
    ]
    log.append({"step": 60, "eval_loss": 0.5})
    log.append({"step": 60, "train_runtime": 99.0})
    return RunSummary(
        name=name,
        method=method,
        settings=settings if settings is not None else {"seed": seed, "lora": {"r": 8, "alpha": 16}, "method": method},
        evaluation=make_evaluation(seed, accuracy, n_sets),
        log_history=log,
        diagnostics=rows,
        seconds=100.0,
        tokens=41_000,
    )


def make_panel(seeds: int = 3, n_sets: int = 12, **changes: Any) -> Panel:
    """Three groups with the same training seeds, of which the second is better and recorded its diagnostics."""
    groups = {
        method: [
            make_run(
                f"{method}, seed {seed}",
                method,
                seed=100 * place + seed,
                shift=0.4 if method == "iga" else 0.0,
                diagnostics=method == "iga",
                n_sets=n_sets,
            )
            for seed in range(seeds)
        ]
        for place, method in enumerate(("erm", "iga", "vrex"))
    }
    return Panel("", groups, "erm", {label: list(range(seeds)) for label in groups}, samples=300, **changes)
