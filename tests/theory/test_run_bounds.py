"""Bounds of finished runs: they are those of the functions, they know seen from unseen, and mistakes are sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import Evaluation, EvaluationConfig, SplitResult
from isodistill.runs import RunRecord
from isodistill.statistics.bootstrap import Estimate
from isodistill.theory import domains_needed, empirical_bernstein, pac_bayes_empirical_bernstein, pac_bayes_kl
from isodistill.theory.runs import ADAPTER_FILE, BoundOptions, BoundReport, adapter_divergence, bound_runs

SEEN = {"math": 0.9, "law": 0.8, "science": 1.0}
UNSEEN = {"finance": 0.75, "cooking": 0.5, "sport": 0.6}
NAME = "base_model.model.layers.0.q_proj.lora_{}.weight"


def split(by_domain: dict[str, float], constant: float | None = 0.5) -> SplitResult:
    mean = sum(by_domain.values()) / max(1, len(by_domain))
    return SplitResult(
        n_sets=4, n_items=4 * len(by_domain), accuracy=Estimate(value=mean, low=mean, high=mean),
        likelihood_accuracy=None, balanced_accuracy=None, constant_accuracy=constant, answered=1.0, cue_followed=None,
        by_domain=by_domain, by_depth={}, by_family={}, worst_domain={"name": "x", "value": 0.0}, lcs_raw=None,
        lcs_centred=None, agreement=None, js_divergence=None,
    )  # fmt: skip


def write_run(
    folder: Path,
    splits: dict[str, SplitResult] | None = None,
    weights: dict[str, torch.Tensor] | None = None,
    domains: tuple[str, ...] | None = tuple(SEEN),
    method: str = "iga",
) -> Path:
    """A run's folder as `train` and `evaluate` leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    Evaluation(
        student="lab", adapter=folder.name, data="traces", config=EvaluationConfig(), versions={}, seconds=1.0,
        splits={"iid": split(SEEN), "unseen_domain": split(UNSEEN)} if splits is None else splits, items=[],
    ).save(folder / "evaluation.json")  # fmt: skip
    if domains is not None:
        record = RunRecord(
            method=method, student="lab", domains=list(domains), system_prompt=None, settings={}, versions={},
            seconds=1.0, tokens=1, log_history=[],
        )  # fmt: skip
        (folder / "run.json").write_text(record.model_dump_json())
    if weights is not None:
        save_file(weights, folder / ADAPTER_FILE)
    return folder


def adapter(scale: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        NAME.format("A"): torch.randn(2, 5, generator=generator).to(dtype),
        NAME.format("B"): (scale * torch.ones(4, 2)).to(dtype),
    }


def test_the_bounds_are_those_of_the_functions(tmp_path: Path) -> None:
    weights = adapter(0.3)
    run = write_run(tmp_path / "iga", weights=weights)
    report = bound_runs([run], BoundOptions(delta=0.1, sigma=0.5))
    unseen, kl, bernstein = report.bounds
    risks = [1 - share for share in UNSEEN.values()]
    assert unseen.bound == empirical_bernstein(risks, 0.1)
    assert list(unseen.risks) == list(UNSEEN)
    assert unseen.domains == "unseen"
    assert unseen.prior is None
    price = sum(float(tensor.double().square().sum()) for tensor in weights.values()) / (2 * 0.5**2)
    seen = [1 - share for share in SEEN.values()]
    assert kl.bound.kl == pytest.approx(price)
    assert kl.bound == pac_bayes_kl(seen, kl.bound.kl, 0.1)
    assert bernstein.bound == pac_bayes_empirical_bernstein(np.array([seen]), kl.bound.kl, 0.1)
    for row in report.bounds:
        assert row.method == "iga"
        assert row.constant_risk == 0.5
        assert row.vacuous == (row.bound.value >= 1.0)
        assert row.domains_needed == domains_needed(row.bound, 0.99)
        assert row.domains_needed_below_constant == domains_needed(row.bound, 0.5)
    assert "around zero" in (kl.prior or "")
    assert report.notes == []
    assert BoundReport.model_validate_json(report.model_dump_json()) == report


def test_from_its_start_the_adapter_pays_only_for_what_moved(tmp_path: Path) -> None:
    run = write_run(tmp_path / "iga", weights=adapter(0.3))
    start = write_run(tmp_path / "start", weights=adapter(0.0))
    row = bound_runs([run], BoundOptions(sigma=0.1, start=start)).bounds[1]
    assert row.bound.kl == pytest.approx(8 * 0.3**2 / (2 * 0.1**2), rel=1e-6)
    assert "zero B of the start" in (row.prior or "")
    warm = write_run(tmp_path / "warm", weights=adapter(0.1))
    row = bound_runs([run], BoundOptions(sigma=0.1, start=warm)).bounds[1]
    assert row.bound.kl == pytest.approx(8 * 0.2**2 / (2 * 0.1**2), rel=1e-6)
    assert "B is not zero" in (row.prior or "")


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    weights = adapter(0.25, torch.bfloat16)
    run = write_run(tmp_path / "iga", weights=weights)
    price = bound_runs([run], BoundOptions(sigma=1.0)).bounds[1].bound.kl
    assert price == pytest.approx(sum(float(t.double().square().sum()) for t in weights.values()) / 2)


def test_runs_stand_side_by_side_and_a_missing_adapter_is_said(tmp_path: Path) -> None:
    erm = write_run(tmp_path / "erm", method="erm")
    iga = write_run(tmp_path / "iga", weights=adapter(0.3))
    report = bound_runs([erm, iga / "evaluation.json"], BoundOptions())
    assert [row.method for row in report.bounds] == ["erm", "iga", "iga", "iga"]
    assert len(report.notes) == 1
    assert ADAPTER_FILE in report.notes[0]


def test_every_unseen_split_is_taken_and_any_can_be_named(tmp_path: Path) -> None:
    splits = {
        "unseen_domain": split(UNSEEN),
        "unseen_domain__cue_reversed": split(UNSEEN),
        "folio": split(UNSEEN, None),
    }
    run = write_run(tmp_path / "run", splits)
    found = bound_runs([run], BoundOptions())
    assert [row.split for row in found.bounds] == ["unseen_domain", "unseen_domain__cue_reversed"]
    (row,) = bound_runs([run], BoundOptions(splits=("folio",))).bounds
    assert row.constant_risk is None
    assert row.domains_needed_below_constant is None


def test_a_split_that_was_not_trained_on_is_no_training_split(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", weights=adapter(0.3), domains=("math", "law"))
    report = bound_runs([run], BoundOptions())
    assert len(report.bounds) == 1
    assert "not trained on (science)" in report.notes[0]


@pytest.mark.parametrize(
    ("run", "options", "told"),
    [
        ({}, {"splits": ("deeper",)}, "split 'deeper' was not evaluated; there are: iid, unseen_domain"),
        ({}, {"splits": ("iid",)}, r"trained on \(law, math, science\)"),
        ({"domains": None}, {"splits": ("iid",)}, "without run.json"),
        ({"splits": {"iid": split(SEEN)}}, {}, "no split here is called unseen_domain"),
        ({"splits": {"unseen_domain": split({"finance": 0.5})}}, {}, "shows finance; generate data with more"),
        ({"splits": {"unseen_domain": split({"finance": 0.5, "sport": 1.5})}}, {}, r"no share \(sport\)"),
        ({}, {"delta": 0.0}, "delta=0.0"),
        ({"weights": adapter(0.3)}, {"sigma": 0.0}, "sigma=0.0"),
        ({"weights": adapter(float("nan"))}, {}, "no finite numbers"),
        ({"weights": adapter(0.3)}, {"start": Path("none")}, "none/adapter_model.safetensors cannot be read"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, run: dict[str, Any], options: dict[str, Any], told: str) -> None:
    folder = write_run(tmp_path / "run", **run)
    with pytest.raises(IsodistillError, match=told):
        bound_runs([folder], BoundOptions(**options))


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(IsodistillError, match="evaluate first"):
        bound_runs([tmp_path / "none"], BoundOptions())
    (run / ADAPTER_FILE).write_bytes(b"\xff" * 64)
    with pytest.raises(IsodistillError, match="is damaged"):
        bound_runs([run], BoundOptions())
    evaluation = run / "evaluation.json"
    evaluation.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IsodistillError, match="nor any text"):
        bound_runs([run], BoundOptions())
    evaluation.write_text(json.dumps({"splits": {}}))
    with pytest.raises(IsodistillError, match="not an evaluation"):
        bound_runs([evaluation], BoundOptions())


def test_a_start_of_another_shape_is_refused() -> None:
    other = {NAME.format("A"): torch.zeros(2, 5)}
    with pytest.raises(IsodistillError, match="other tensors"):
        adapter_divergence(adapter(0.1), other, 1.0)


def test_the_documentation_shows_what_the_recorded_runs_give() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "theory.md").read_text(encoding="utf-8")
    kept = BoundReport.model_validate_json((docs / "theory-bound-demo.json").read_text(encoding="utf-8"))
    found = bound_runs([docs / "demo" / name for name in ("erm", "iga")], BoundOptions())
    for row, recorded in zip(found.bounds, kept.bounds, strict=True):
        assert row.bound.value == pytest.approx(recorded.bound.value, rel=1e-12)
        cells = (
            f"`{row.method}`", f"`{row.split}`", row.bound.domains, f"{row.bound.mean:.3f}", f"{row.bound.value:.2f}",
            row.domains_needed, row.domains_needed_below_constant,
        )  # fmt: skip
        assert f"| {' | '.join(map(str, cells))} |" in text


def test_the_documentation_shows_the_bounds_of_the_study_of_domains() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "theory.md").read_text(encoding="utf-8")
    kept = BoundReport.model_validate_json((docs / "theory-bound-domains.json").read_text(encoding="utf-8"))
    found = {
        run: {(row.split, row.bound.name): row for row in kept.bounds if row.run == run}
        for run in dict.fromkeys(row.run for row in kept.bounds)
    }
    assert len(found) == 12
    for rows in found.values():
        unseen = rows["unseen_domain", "empirical Bernstein"]
        paid = rows["iid", "PAC-Bayes kl"]
        assert unseen.bound.domains == 16
        cells = (
            paid.bound.domains, f"`{paid.method}`", f"{unseen.bound.mean:.3f}", f"{unseen.bound.value:.2f}",
            unseen.domains_needed_below_constant, f"{paid.bound.mean:.3f}", f"{paid.bound.kl:,.0f}",
            f"{paid.domains_needed:,}",
        )  # fmt: skip
        assert f"| {' | '.join(map(str, cells))} |" in text
