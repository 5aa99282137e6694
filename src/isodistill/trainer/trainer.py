"""IsomerTrainer: TRL's SFTTrainer on whole isomer sets, with aligned gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.sft_trainer import SFTTrainer

from isodistill.aligner import DomainWeighting, GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import Diagnostics
from isodistill.optim import TensorAdamW
from isodistill.runs import DIAGNOSTICS_FILE
from isodistill.students import load_student
from isodistill.trainer.config import TENSOR_ADAMW, IsomerConfig
from isodistill.trainer.data import IsomerCollator, group_sets, member_rows, training_rows
from isodistill.trainer.label_positions import label_positions_only, scores_every_position

ALIGNER_FILE = "aligner.safetensors"
"""The alignment's state inside a checkpoint folder."""


class IsomerTrainer(SFTTrainer):
    """Fine-tunes a LoRA student on isomer sets with a gradient method.

    A drop-in for `trl.SFTTrainer`: the same arguments, callbacks, logging, checkpoints and saved adapters. Each row
    of the data is a whole isomer set, so every batch holds the same number of sequences of each domain and a set
    is never split. With ``method="erm"`` it trains exactly as SFTTrainer does on the same batches.

    Args:
        model: A student (see `isodistill.students.resolve_student`), a model, or a `PeftModel`.
        args: The configuration.
        train_dataset: Isomer sets: ``set_id`` and ``members``, or flat ``set_id, domain, prompt, completion`` rows.
        eval_dataset: The same for evaluation of the loss, or ``None``.
        processing_class: The tokenizer; may be left out if `model` is a name.
        peft_config: The LoRA configuration, unless the model has an adapter already.
        **kwargs: Passed on to SFTTrainer (callbacks, optimizers, ...).

    Raises:
        IsodistillError: before the first step, if the data or an option cannot be trained on right.
    """

    _tag_names = ["trl", "sft", "isodistill"]  # noqa: RUF012  (TRL declares it as a plain list)

    def __init__(
        self,
        model: Any,
        args: IsomerConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: PeftConfig | None = None,
        **kwargs: Any,
    ) -> None:
        for argument in ("compute_loss_func", "data_collator", "formatting_func"):
            if kwargs.get(argument) is not None:
                raise IsodistillError(f"{argument} is not supported: per-domain gradients need the trainer's own")
        if args.world_size > 1:
            raise IsodistillError(
                f"{args.world_size} processes are not supported yet: per-domain gradients are not reduced across"
                " ranks; run one process"
            )
        members = member_rows(train_dataset, train_dataset.column_names)
        self.domains = sorted({member.domain for member in members})
        """The training domains; a domain id is a position in this list."""
        if args.method != "erm" and len(self.domains) < 2:
            raise IsodistillError(
                f"method={args.method!r} compares domains and the data has only {self.domains[0]!r}: generate at least"
                " two domains, or use method='erm'"
            )
        if isinstance(model, str):
            model, tokenizer = load_student(model)
            processing_class = processing_class or tokenizer
        if processing_class is None:
            raise IsodistillError("processing_class is missing: pass the model's tokenizer")
        if processing_class.pad_token_id is None:
            processing_class.pad_token = processing_class.eos_token
        if not isinstance(model, PeftModel) and peft_config is None:
            raise IsodistillError("peft_config is missing: pass a LoraConfig, or a model that has a LoRA adapter")
        text_config = model.config.get_text_config()
        if getattr(text_config, "output_router_logits", False) or getattr(text_config, "num_local_experts", 0):
            raise IsodistillError(
                "mixture-of-experts students are not supported: their auxiliary loss ties the domains together"
            )
        if args.gradient_checkpointing:
            checkpointing = _as_dict(args.gradient_checkpointing_kwargs)
            args.gradient_checkpointing_kwargs = {**checkpointing, "use_reentrant": False}
        super().__init__(
            model=model,
            args=args,
            data_collator=IsomerCollator(processing_class.pad_token_id, _as_int(args.pad_to_multiple_of)),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            peft_config=peft_config,
            **kwargs,
        )
        # This refuses what cannot be aligned, for ERM too, so that methods are compared on equal terms.
        self.aligner = GradientAligner(
            cast(torch.nn.Module, self.model),
            args.method,
            engine=args.engine,
            domain_weighting=cast(DomainWeighting, args.domain_weighting),
            accumulation_steps=args.gradient_accumulation_steps,
            **args.method_options(),
        )
        self.add_callback(_WeightsMoved())
        for usual, terse in ((ProgressCallback, _TerseProgress), (PrinterCallback, _TersePrinter)):
            if self.pop_callback(usual) is not None:
                self.add_callback(terse)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Dataset:
        """Lets TRL tokenise the members, then groups them back into sets."""
        if not isinstance(dataset, Dataset):
            raise IsodistillError("streaming data sets are not supported: isomer sets are checked before training")
        if "domain_ids" in dataset.column_names:
            return dataset
        members = member_rows(dataset, dataset.column_names)
        unknown = sorted({member.domain for member in members} - set(self.domains))
        if unknown:
            raise IsodistillError(f"the {dataset_name} data has domain {unknown[0]!r}, which the training data lacks")
        rows = training_rows(members, bool(processing_class.chat_template), args.system_prompt)
        tokenised = super()._prepare_dataset(rows, processing_class, args, packing, None, dataset_name)
        return group_sets(tokenised, members, self.domains, args.max_length)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Makes the optimizer, and lets the method mask its update where it does so."""
        if self.optimizer is None and str(self.args.optim) == TENSOR_ADAMW:
            self.optimizer_cls_and_kwargs = (
                TensorAdamW,
                {
                    "lr": self.args.learning_rate,
                    "betas": (self.args.adam_beta1, self.args.adam_beta2),
                    "eps": self.args.adam_epsilon,
                },
            )
        optimizer = super().create_optimizer(model)
        self.aligner.attach_optimizer(optimizer)
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Computes SFTTrainer's loss; the model never sees the domain ids."""
        inputs = {name: value for name, value in inputs.items() if name != "domain_ids"}
        if return_outputs or self.label_smoother is not None or not scores_every_position(inputs["labels"].device):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with label_positions_only(self.accelerator.unwrap_model(model).get_base_model(), inputs) as labelled:
            return super().compute_loss(model, labelled, return_outputs, num_items_in_batch)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Runs forward and backward inside the aligner's record, and aligns on the window's last micro-batch."""
        domain_ids, labels = inputs["domain_ids"], inputs["labels"]
        label_tokens = labels[:, 1:].ne(-100).sum(1)  # (batch,)
        normalizer = None if num_items_in_batch is None else float(num_items_in_batch)
        self.aligner.accumulation_steps = self.current_gradient_accumulation_steps
        engine = self.aligner.engine
        if engine is None or engine.splits_batches:
            with self.aligner.record(domain_ids, label_tokens, normalizer):
                loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            # Every sub-batch's loss is its sum over the window's tokens, so the parts add up to the whole.
            total = normalizer if normalizer is not None else float(label_tokens.sum())
            parts = []
            for domain in domain_ids.unique():
                rows = domain_ids == domain
                part = {name: value[rows] if torch.is_tensor(value) else value for name, value in inputs.items()}
                with self.aligner.record(domain_ids[rows], label_tokens[rows], total):
                    parts.append(super().training_step(model, part, torch.tensor(total, device=labels.device)))
            loss = torch.stack(parts).sum()
        if self.accelerator.sync_gradients:
            self._report(self.aligner.step())
        return loss

    def _report(self, diagnostics: Diagnostics) -> None:
        """Adds one step's diagnostics to the metrics that TRL logs, and to the run's own file."""
        if self.aligner.engine is None:
            return
        metrics = self._metrics["train"]
        metrics["mean_mask"].append(diagnostics.mean_mask)
        metrics["kept_energy"].append(diagnostics.kept_energy)
        if diagnostics.projection_residual is not None:
            metrics["projection_residual"].append(diagnostics.projection_residual)
        for layer, share in diagnostics.conflict.items():
            metrics[f"conflict/{layer}"].append(share)
        if self.is_world_process_zero():
            line = {
                "step": self.state.global_step + 1,
                "mean_mask": diagnostics.mean_mask,
                "kept_energy": diagnostics.kept_energy,
                "projection_residual": diagnostics.projection_residual,
                "conflict": diagnostics.conflict,
            }
            path = Path(str(self.args.output_dir)) / DIAGNOSTICS_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains; on a resume, the alignment's state and the diagnostics continue from the checkpoint.

        Args:
            resume_from_checkpoint: A checkpoint folder, or ``True`` for the last one in the output folder.
            *args: Passed on to SFTTrainer.
            **kwargs: Passed on to SFTTrainer.

        Returns:
            The Trainer's `TrainOutput`.

        Raises:
            IsodistillError: if there is no checkpoint to resume from, or it holds no alignment state.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise IsodistillError(
                    f"{self.args.output_dir} holds no checkpoint to resume from; train without resume"
                )
        diagnostics = Path(str(self.args.output_dir)) / DIAGNOSTICS_FILE
        steps = self._restore_alignment(Path(str(resume_from_checkpoint))) if resume_from_checkpoint else 0
        if diagnostics.is_file():
            kept = [line for line in diagnostics.read_text(encoding="utf-8").splitlines() if _step_of(line) <= steps]
            diagnostics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def _restore_alignment(self, checkpoint: Path) -> int:
        state_file = checkpoint / "trainer_state.json"
        if not state_file.is_file():
            raise IsodistillError(f"{checkpoint} is not a checkpoint: it has no trainer_state.json")
        if self.aligner.state_dict() or self.aligner.engine is not None:
            file = checkpoint / ALIGNER_FILE
            if not file.is_file():
                raise IsodistillError(
                    f"{checkpoint} has no {ALIGNER_FILE}: it was not written by a run with"
                    f" method={cast(IsomerConfig, self.args).method!r}"
                )
            self.aligner.load_state_dict(load_file(file, device=str(self.args.device)))
        return int(json.loads(state_file.read_text(encoding="utf-8"))["global_step"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.aligner.engine is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            state = {name: tensor.contiguous() for name, tensor in self.aligner.state_dict().items()}
            save_file(state, folder / ALIGNER_FILE)


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value or {})


def _as_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return 2**63


def _without_conflict(logs: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (logs or {}).items() if not name.startswith("conflict/")}


class _TerseProgress(ProgressCallback):
    """Keeps the layers' conflict, some two hundred numbers a step, off the terminal; trackers still log it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Shows the other numbers."""
        super().on_log(args, state, control, logs=_without_conflict(logs), **kwargs)


class _TersePrinter(PrinterCallback):
    """The same for runs without a progress bar."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Prints the other numbers."""
        super().on_log(args, state, control, logs=_without_conflict(logs), **kwargs)


_NO_MOVEMENT = torch.finfo(torch.float32).eps ** 2
"""The largest change of a weight that counts as none."""


class _WeightsMoved(TrainerCallback):
    """Checks after the first step with a learning rate that the adapter has moved at all."""

    def __init__(self) -> None:
        self._before: list[torch.Tensor] | None = None
        self._done = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remembers the adapter."""
        rate = max(group["lr"] for group in kwargs["optimizer"].param_groups)
        if not self._done and rate > 0.0:
            self._before = [p.detach().clone() for p in kwargs["model"].parameters() if p.requires_grad]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compares it."""
        if self._before is None:
            return
        after = (p for p in kwargs["model"].parameters() if p.requires_grad)
        # B starts at zero, where even a gradient that the mask wiped out leaves a denormal trace: that is no movement.
        moved = any(bool((new - old).abs().max() > _NO_MOVEMENT) for old, new in zip(self._before, after, strict=True))
        self._before, self._done = None, True
        if not moved:
            raise IsodistillError(
                "no adapter weight moved in the first optimizer step: the gradient is zero (is every completion"
                " truncated, or tau so large that the mask is zero?)"
            )
