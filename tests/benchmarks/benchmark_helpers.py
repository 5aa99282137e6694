"""Small files in the form of each benchmark, and a saved tiny student."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_student import make_model, make_tokenizer

from isodistill.cli.main import run
from isodistill.isomers import generate, make_config


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def logicbench_folder(folder: Path, rules: int = 2, scenarios: int = 3) -> str:
    for rule in range(rules):
        samples = [
            {
                "context": f"Scenario {number} of rule {rule}.",
                "qa_pairs": [
                    {"question": f"Is {number} so?", "answer": "yes"},
                    {"question": f"Is {number} not so?", "answer": "no"},
                ],
            }
            for number in range(scenarios)
        ]
        file = folder / f"rule{rule}" / "data_instances.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"type": "propositional_logic", "axiom": f"rule{rule}", "samples": samples}))
    return str(folder)


def folio_file(folder: Path) -> str:
    rows = [
        {"premises": [f"Story {n // 2} has a cat."], "premises-FOL": [], "conclusion": f"Cat {n}?", "label": label}
        for n, label in enumerate(["True", "Uncertain", "False", "False"])
    ]
    return str(write_jsonl(folder / "folio-validation.jsonl", rows))


def gsm8k_file(folder: Path) -> str:
    return str(write_jsonl(folder / "test.jsonl", [{"question": f"How {n}?", "answer": f"#### {n}"} for n in range(4)]))


def isosci_file(folder: Path) -> str:
    rows = [
        {
            "pair_id": f"p{n}",
            "mapping": "physics_to_chemistry",
            "source_domain": "physics",
            "source_question": f"How far, {n}?",
            "source_answer": f"{n}.5 m",
            "target_domain": "chemistry",
            "target_question": f"How much, {n}?",
            "target_answer": f"{n} mol",
        }
        for n in range(1, 4)
    ]
    return str(write_jsonl(folder / "test.jsonl", rows))


def isomers_folder(folder: Path) -> str:
    config = make_config(
        family="deduction", domains=("math", "law"), unseen_domains=("cooking",), sets=2, validation_sets=0, test_sets=3
    )
    generate(config, folder / "mine")
    return str(folder / "mine")


def saved_student(folder: Path) -> Path:
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Runs `isodistill` and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["isodistill", *map(str, arguments)])
    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
