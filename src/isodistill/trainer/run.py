"""One training run from a configuration: student, data, LoRA, trainer, and a record of what was done."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from isodistill.errors import IsodistillError
from isodistill.files import check_writable, write_text_atomically
from isodistill.runs import RUN_FILE, RunRecord
from isodistill.students import load_adapter, load_student
from isodistill.trainer.config import IsomerConfig
from isodistill.trainer.trainer import IsomerTrainer

_LINEAR_MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class TrainJob:
    """What is trained on what, beside the trainer's own options."""

    data: str = field(metadata={"help": "Directory of a distilled data set (see `isodistill distill`)."})
    student: str = field(
        default="smollm2-135m", metadata={"help": "Built-in name, folder, .gguf file or hub id of the student."}
    )
    split: str = field(default="train", metadata={"help": "The split to train on."})
    lora_r: int = field(default=8, metadata={"help": "Rank of the LoRA factors."})
    lora_alpha: int = field(default=16, metadata={"help": "LoRA's alpha; the scaling is alpha / r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout on LoRA's input."})
    lora_rslora: bool = field(default=False, metadata={"help": "Scale by alpha / sqrt(r) (rsLoRA)."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Names of the linear maps to adapt. Default: all of them."}
    )
    lora_first_layer: int = field(
        default=0, metadata={"help": "Adapt from this layer on; the layers below need no backward pass."}
    )
    adapter: str | None = field(
        default=None, metadata={"help": "Continue from this saved LoRA adapter instead of a fresh one."}
    )
    resume: bool = field(default=False, metadata={"help": "Continue from the output folder's last checkpoint."})

    def peft_config(self, num_layers: int) -> LoraConfig:
        """Builds the LoRA configuration.

        Args:
            num_layers: The student's number of layers.

        Returns:
            The configuration.

        Raises:
            IsodistillError: if `lora_first_layer` is not one of the student's layers.
        """
        if not 0 <= self.lora_first_layer < num_layers:
            raise IsodistillError(
                f"lora_first_layer={self.lora_first_layer} is out of range: the last layer is {num_layers - 1}"
            )
        targets: Any = self.lora_target_modules or ("all-linear" if self.lora_first_layer == 0 else _LINEAR_MAPS)
        return LoraConfig(
            r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            use_rslora=self.lora_rslora,
            target_modules=targets,
            layers_to_transform=list(range(self.lora_first_layer, num_layers)) if self.lora_first_layer else None,
            task_type="CAUSAL_LM",
        )


def load_training_split(data: str, split: str) -> Dataset:
    """Loads one split of a data-set directory or hub data set.

    Args:
        data: A directory with a dataset card or Parquet files, or a hub id.
        split: The split's name.

    Returns:
        The split.

    Raises:
        IsodistillError: if there is no such data set or split.
    """
    from datasets import load_dataset

    file = Path(data) / "data" / f"{split}.parquet"
    try:
        if file.is_file():
            return Dataset.from_parquet(str(file))
        if Path(data).is_dir() and not any(Path(data).glob("**/*.parquet")):
            raise IsodistillError(
                f"{data} holds no Parquet file: run `isodistill generate` and `isodistill distill` first"
            )
        return load_dataset(data, split=split)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise IsodistillError(f"split {split!r} of data set {data} cannot be loaded: {first_line}") from None


def run_training(
    job: TrainJob,
    config: IsomerConfig,
    student: tuple[Any, Any] | None = None,
    callbacks: list[TrainerCallback] | None = None,
) -> tuple[RunRecord, Any]:
    """Trains an adapter and leaves it, its tokenizer and the run's record in the output folder.

    Args:
        job: What to train on what.
        config: The trainer's options; ``output_dir`` is the run's folder.
        student: A loaded model and tokenizer to use instead of loading ``job.student``.
        callbacks: Further Trainer callbacks.

    Returns:
        The record and the trained `PeftModel`.

    Raises:
        IsodistillError: before the first step, if anything is wrong with data, options or folders.
    """
    out = check_writable(str(config.output_dir))
    rows = load_training_split(job.data, job.split)
    model, tokenizer = student if student is not None else load_student(job.student)
    peft_config = None
    if job.adapter is not None:
        model = load_adapter(model, job.adapter, trainable=True)
    else:
        peft_config = job.peft_config(model.config.get_text_config().num_hidden_layers)
    trainer = IsomerTrainer(
        model, config, rows, processing_class=tokenizer, peft_config=peft_config, callbacks=callbacks or []
    )
    if callbacks:
        trainer.remove_callback(PrinterCallback)  # the caller shows the progress in its own way
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=job.resume)
    seconds = time.monotonic() - started
    trainer.aligner.close()
    adapted: Any = trainer.model
    adapted.save_pretrained(out)
    tokenizer.save_pretrained(out)
    history = trainer.state.log_history
    record = RunRecord(
        method=config.method,
        student=job.student,
        domains=trainer.domains,
        system_prompt=config.system_prompt,
        settings=_settings(job, config),
        versions={name: metadata.version(name) for name in ("isodistill", "torch", "transformers", "trl", "peft")},
        seconds=round(seconds, 3),
        tokens=int(max((row.get("num_tokens", 0) for row in history), default=0)),
        log_history=[{k: v for k, v in row.items() if not k.startswith("conflict/")} for row in history],
    )
    write_text_atomically(out / RUN_FILE, record.model_dump_json(indent=1) + "\n")
    return record, adapted


def _settings(job: TrainJob, config: IsomerConfig) -> dict[str, Any]:
    defaults = IsomerConfig(output_dir=str(config.output_dir)).to_dict()
    always = {"method", "learning_rate", "seed", "optim", "max_steps", "per_device_train_batch_size"}
    always |= set(config.options_for_method())
    options = {
        name: value
        for name, value in config.to_dict().items()
        if (name in always or value != defaults.get(name)) and name not in ("logging_dir", "run_name")
    }
    settings = {f"job.{name}": value for name, value in vars(job).items()} | dict(sorted(options.items()))
    return dict(json.loads(json.dumps(settings, default=str)))
