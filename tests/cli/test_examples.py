"""The example configuration is accepted, and says what the library does by default."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import yaml

from isodistill.methods import IGA, build_method
from isodistill.trainer import IsomerConfig, TrainJob

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_spells_out_the_defaults_of_iga(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "examples" / "iga.yaml").read_text(encoding="utf-8"))
    job = {field.name: values.pop(field.name) for field in fields(TrainJob) if field.name in values}
    assert TrainJob(data="traces", **job).student == "smollm2-135m"
    config = IsomerConfig(output_dir=str(tmp_path), use_cpu=True, **values)
    spelt_out, default = build_method("iga", **config.options_for_method()), IGA()
    plain = IsomerConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    by_trainer = build_method("iga", **plain.options_for_method())
    for each in (spelt_out, by_trainer):
        assert isinstance(each, IGA)
        assert each.subspace is not None
        assert default.subspace is not None
        assert (each.tau, each.mask_space, each.mask_stage) == (default.tau, default.mask_space, default.mask_stage)
        assert each.subspace.rank == default.subspace.rank
        assert each.statistics.decay == default.statistics.decay
