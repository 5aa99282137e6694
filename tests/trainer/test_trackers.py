"""Live diagnostics: what a tracker is given through the Trainer's own callbacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_student import lora, make_model, make_sets, make_tokenizer
from transformers import TrainerCallback

from isodistill.trainer import IsomerConfig, IsomerTrainer

pytest.importorskip("tensorboard", reason="TensorBoard is an extra: pip install 'isodistill[tensorboard]'")


class Kept(TrainerCallback):
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.rows.append(dict(logs or {}))


def test_tensorboard_holds_every_diagnostic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    kept = Kept()
    config = IsomerConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        per_device_train_batch_size=2,
        method="iga",
        penalty="consistency",
        logging_steps=1,
        report_to="tensorboard",
        use_cpu=True,
        save_strategy="no",
    )
    trainer = IsomerTrainer(
        make_model(), config, make_sets(6), processing_class=make_tokenizer(), peft_config=lora(), callbacks=[kept]
    )
    trainer.train()
    trainer.aligner.close()
    files = list((tmp_path / "events").rglob("events.out.tfevents.*"))
    assert files
    events = EventAccumulator(str(files[0].parent))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    layers = {layer.name for layer in trainer.aligner.layers}
    assert {"train/mean_mask", "train/kept_energy", "train/loss"} <= tags
    assert {f"train/conflict/{layer}" for layer in layers} <= tags
    assert any(tag.startswith("train/domain_loss/") for tag in tags)
    assert [event.step for event in events.Scalars("train/mean_mask")] == [1, 2, 3]
    # Every other tracker is handed the same numbers by the same callback.
    told = {name for row in kept.rows for name in row if name != "epoch"}
    assert {tag.removeprefix("train/") for tag in tags} >= {name for name in told if not name.startswith("train_")}
    for row, event in zip(kept.rows, events.Scalars("train/mean_mask"), strict=False):
        assert event.value == pytest.approx(row["mean_mask"], rel=1e-6)
