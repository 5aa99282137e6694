"""IsomerTrainer: TRL's SFTTrainer on whole isomer sets, with aligned gradients."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.sft_trainer import SFTTrainer

from isodistill.aligner import DomainWeighting, GradientAligner
from isodistill.errors import IsodistillError
from isodistill.methods import Diagnostics, RunInfo, build_method, build_penalty
from isodistill.runs import DIAGNOSTICS_FILE, drop_diagnostics_after
from isodistill.students import load_student
from isodistill.trainer.callbacks import TersePrinter, TerseProgress, WeightsMoved
from isodistill.trainer.config import OPTIMIZERS, IsomerConfig
from isodistill.trainer.data import IsomerCollator, group_sets, is_paired, member_rows, shuffle_domains, training_rows
from isodistill.trainer.forward import forward_view, labelled_pass, refuse_scaled_logits, scores_every_position
from isodistill.trainer.objective import Objective
from isodistill.trainer.on_policy import BatchTeacher
from isodistill.trainer.refusals import refuse_method
from isodistill.trainer.signals import TEACHER_COLUMNS, add_stored_signals, label_counts
from isodistill.window import num_processes

ALIGNER_FILE = "aligner.safetensors"
"""The alignment's state inside a checkpoint folder."""


class IsomerTrainer(SFTTrainer):
    """Fine-tunes a LoRA student on isomer sets with a gradient method.

    A drop-in for `trl.SFTTrainer`: the same arguments, callbacks, logging, checkpoints and saved adapters. Each row
    of the data is a whole isomer set, so every batch holds the same number of sequences of each domain and a set
    is never split. Rows without a set id are unpaired: each stands for itself, and a batch holds whatever domains it
    drew. With ``method="erm"`` it trains exactly as SFTTrainer does on the same batches.

    Args:
        model: A student (see `isodistill.students.resolve_student`), a model, or a `PeftModel`.
        args: The configuration.
        train_dataset: Isomer sets: ``set_id`` and ``members``, or flat ``set_id, domain, prompt, completion`` rows.
        eval_dataset: The same for evaluation of the loss, or ``None``.
        processing_class: The tokenizer; may be left out if `model` is a name.
        peft_config: The LoRA configuration, unless the model has an adapter already.
        teacher_model: A loaded local teacher for `IsomerConfig.distillation`, in place of ``distillation_teacher``.
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
        teacher_model: Any = None,
        **kwargs: Any,
    ) -> None:
        for argument in ("compute_loss_func", "data_collator", "formatting_func"):
            if kwargs.get(argument) is not None:
                raise IsodistillError(f"{argument} is not supported: per-domain gradients need the trainer's own")
        members = member_rows(train_dataset, train_dataset.column_names)
        self.paired = is_paired(train_dataset.column_names)
        """Whether the data's rows form isomer sets."""
        self.domains = sorted({member.domain for member in members})
        """The training domains; a domain id is a position in this list."""
        methods = [build_method(args.method, **args.options_for_method())]
        if args.penalty is not None:
            methods.append(build_penalty(args.penalty, **_as_dict(args.penalty_options)))
        for method in methods:
            refuse_method(method, args, self.domains, self.paired)
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
        for method in methods:
            if method.needs.forward:
                refuse_scaled_logits(text_config, f"method={method.name!r}")
        if args.distillation is not None:
            refuse_scaled_logits(text_config, "distillation")
        self._width = int(text_config.vocab_size)
        self._teacher = BatchTeacher.build(args, teacher_model, model, processing_class)
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
            methods[0],
            penalty=methods[1] if len(methods) > 1 else None,
            engine=args.engine,
            domain_weighting=cast(DomainWeighting, args.domain_weighting),
            accumulation_steps=args.gradient_accumulation_steps,
            run=RunInfo(len(self.domains), self._total_steps(), args.seed),
        )
        self._window_sequences = 0.0
        self._replayed: list[tuple[dict[str, Any], torch.Tensor]] = []
        # A method that replays has moved the weights before the optimizer's turn, where the callback looks.
        if not self.aligner.replays:
            self.add_callback(WeightsMoved())
        for usual, terse in ((ProgressCallback, TerseProgress), (PrinterCallback, TersePrinter)):
            if self.pop_callback(usual) is not None:
                self.add_callback(terse)

    def _total_steps(self) -> int:
        args = self.args
        if args.max_steps > 0:
            return int(args.max_steps)
        rows = len(cast(Dataset, self.train_dataset))
        batches = math.ceil(rows / (args.per_device_train_batch_size * max(1, args.world_size)))
        return math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))

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
        sets = group_sets(tokenised, members, self.domains, args.max_length, processing_class)
        if args.distillation_store is not None and dataset_name == "train":
            whose = args.distillation_teacher, args.distillation_top_k, processing_class, args.system_prompt
            sets = add_stored_signals(sets, members, Path(args.distillation_store), *whose, self._width)
        return shuffle_domains(sets, args.seed) if args.shuffle_domains and dataset_name == "train" else sets

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Makes the optimizer, and lets the method mask its update where it does so."""
        if self.optimizer is None and str(self.args.optim) in OPTIMIZERS:
            self.optimizer_cls_and_kwargs = (
                OPTIMIZERS[str(self.args.optim)],
                {
                    "lr": self.args.learning_rate,
                    "betas": (self.args.adam_beta1, self.args.adam_beta2),
                    "eps": self.args.adam_epsilon,
                },
            )
        optimizer = super().create_optimizer(model)
        self.aligner.attach_optimizer(optimizer)
        if self.aligner.method.masks_gradient and isinstance(optimizer, torch.optim.Adam):
            warnings.warn(
                f"optim={str(self.args.optim)!r} divides each entry by its own size and so undoes the mask on the"
                " gradient: set optim='masked_adamw', or mask the update (mask_space='factor')",
                stacklevel=2,
            )
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Computes SFTTrainer's loss, and in training the penalties; the model never sees the domains."""
        batch, inputs = inputs, {name: value for name, value in inputs.items() if name not in _SET_COLUMNS}
        training = self.model.training and not self.aligner.replays  # type: ignore[union-attr]
        if return_outputs or self.label_smoother is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # Evaluation measures the cross-entropy on the traces.
        taught = self.model.training  # type: ignore[union-attr]
        objective = Objective.of_batch(cast(IsomerConfig, self.args), batch) if taught else None
        if not training and objective is None and not scores_every_position(inputs["labels"].device):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        causal_lm = self.accelerator.unwrap_model(model).get_base_model()
        head = causal_lm.get_output_embeddings()
        losses_of = None if objective is None else partial(objective.losses_of_states, head)
        with labelled_pass(causal_lm, inputs, losses_of) as labelled:
            loss = super().compute_loss(model, labelled.inputs, return_outputs, num_items_in_batch)
        if objective is not None and labelled.losses is not None and labelled.log_probs is not None:
            self._log_divergence(objective.sum_of_divergences(labelled.losses, labelled.log_probs))
        if training and len(labelled.inputs["shift_labels"][0]):
            share = len(batch["domain_ids"]) / self._window_sequences if self._window_sequences else None
            derived = objective is not None and any(part.needs.forward for part in self.aligner.parts)
            view = forward_view(causal_lm, labelled, batch, objective.losses if objective and derived else None)
            extra = self.aligner.penalize(view, share)
            if extra is not None:
                loss = loss + extra
        return loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collects the micro-batches of one step, and counts their sequences over all processes."""
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        if self._teacher is not None and batches:
            student = self.accelerator.unwrap_model(self.model)
            step, logged = self.state.global_step, self._metrics["train"]
            batches = self._teacher.teach(student, self.processing_class, batches, step, logged)
            num_items = self._get_num_items_in_batch(batches, self.args.device)
        count = sum(len(batch["domain_ids"]) for batch in batches)
        if num_processes() > 1:
            device = self.accelerator.device
            total = self.accelerator.gather(torch.tensor([count], device=device)).sum()
            # DDP averages over the processes what each of them adds up.
            self._window_sequences = float(total) / num_processes()
        else:
            self._window_sequences = float(count)
        return batches, num_items

    def _log_divergence(self, sums: torch.Tensor) -> None:
        total, count = self.accelerator.reduce(sums, "sum").tolist()
        if count:
            self._metrics["train"]["divergence"].append(total / count)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Runs forward and backward inside the aligner's record, and aligns on the window's last micro-batch."""
        normalizer = None if num_items_in_batch is None else float(num_items_in_batch)
        if normalizer is not None and self.args.average_tokens_across_devices:
            normalizer /= num_processes()  # TRL multiplies by it, and DDP divides again
        self.aligner.accumulation_steps = self.current_gradient_accumulation_steps
        engine = self.aligner.engine
        if self.aligner.replays:
            loss = self._keep_for_replay(model, inputs)
        elif engine is None or engine.splits_batches:
            inputs = inputs | self.aligner.augment({name: inputs[name] for name in _MODEL_COLUMNS})
            tokens = inputs.get("attention_mask")
            with self.aligner.record(inputs["domain_ids"], label_counts(inputs["labels"]), normalizer, tokens):
                loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            # Every sub-batch's loss is its sum over the window's tokens, so the parts add up to the whole.
            label_tokens = label_counts(inputs["labels"])
            total = normalizer if normalizer is not None else float(label_tokens.sum())
            whole = num_items_in_batch if num_items_in_batch is not None else torch.tensor(total)
            parts = []
            for domain in inputs["domain_ids"].unique():
                rows = inputs["domain_ids"] == domain
                part = _rows(inputs, rows)
                with self.aligner.record(part["domain_ids"], label_tokens[rows], total):
                    parts.append(super().training_step(model, part, whole))
            loss = torch.stack(parts).sum()
        if self.accelerator.sync_gradients and not self.aligner.replays:
            self._report(self.aligner.step())
        return loss

    def _keep_for_replay(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Keeps the window's micro-batches; on the last one, lets the method run through them as it wants."""
        inputs = self._prepare_inputs(inputs)
        label_tokens = label_counts(inputs["labels"])
        with self.aligner.record(inputs["domain_ids"], label_tokens):
            pass
        self._replayed.append((inputs, label_tokens))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=inputs["labels"].device)
        window, self._replayed = self._replayed, []
        tokens = self._total_train_tokens
        total = float(sum(int(count.sum()) for _, count in window))
        first: dict[int, torch.Tensor] = {}

        def run(domain: int) -> None:
            items = sum(int(count[batch["domain_ids"] == domain].sum()) for batch, count in window)
            losses = []
            # The same dropout each time a domain is run, or differences would measure the dropout.
            with torch.random.fork_rng(devices=[] if inputs["labels"].device.type == "cpu" else None):
                torch.manual_seed(self.args.seed * 1_000_003 + self.state.global_step * 1_009 + domain)
                for batch, _ in window:
                    rows = batch["domain_ids"] == domain
                    if bool(rows.any()):
                        part = _rows(batch, rows)
                        losses.append(super(IsomerTrainer, self).training_step(model, part, torch.tensor(items)))
            first.setdefault(domain, torch.stack(losses).sum() * (items / total))

        self._report(self.aligner.step(run))
        # The data were read once, however often the method ran through them.
        self._total_train_tokens = tokens + sum(int(batch["attention_mask"].sum()) for batch, _ in window)
        return torch.stack(list(first.values())).sum()

    def _report(self, diagnostics: Diagnostics) -> None:
        """Adds one step's diagnostics to the metrics that TRL logs, and to the run's own file."""
        values = {
            "mean_mask": diagnostics.mean_mask,
            "kept_energy": diagnostics.kept_energy,
            "projection_residual": diagnostics.projection_residual,
        } | {self._with_domain(name): value for name, value in diagnostics.values.items()}
        metrics = self._metrics["train"]
        for name, value in values.items():
            if value is not None:
                metrics[name].append(value)
        for layer, share in diagnostics.conflict.items():
            metrics[f"conflict/{layer}"].append(share)
        if self.is_world_process_zero() and self._has_state():
            line: dict[str, Any] = {"step": self.state.global_step + 1} | values | {"conflict": diagnostics.conflict}
            if diagnostics.mask_histogram:
                line["mask_histogram"] = diagnostics.mask_histogram
            path = Path(str(self.args.output_dir)) / DIAGNOSTICS_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")

    def _with_domain(self, name: str) -> str:
        kind, slash, domain = name.partition("/")
        return f"{kind}/{self.domains[int(domain)]}" if slash and kind == "domain_loss" else name

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
        steps = self._restore_alignment(Path(str(resume_from_checkpoint))) if resume_from_checkpoint else 0
        drop_diagnostics_after(Path(str(self.args.output_dir)), steps)
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def _restore_alignment(self, checkpoint: Path) -> int:
        state_file = checkpoint / "trainer_state.json"
        if not state_file.is_file():
            raise IsodistillError(f"{checkpoint} is not a checkpoint: it has no trainer_state.json")
        if self._has_state():
            file = checkpoint / ALIGNER_FILE
            if not file.is_file():
                raise IsodistillError(
                    f"{checkpoint} has no {ALIGNER_FILE}: it was not written by a run with"
                    f" method={cast(IsomerConfig, self.args).method!r}"
                )
            self.aligner.load_state_dict(load_file(file, device=str(self.args.device)))
        state = json.loads(state_file.read_text(encoding="utf-8"))
        self._total_train_tokens = int(state.get("num_input_tokens_seen", 0))
        return int(state["global_step"])

    def _has_state(self) -> bool:
        return cast(IsomerConfig, self.args).method != "erm" or self.aligner.penalty is not None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # SFTTrainer counts its tokens from 0 after a resume; the state, which would leave them at 0, remembers them.
        if self.args.include_num_input_tokens_seen == "no":
            self.state.num_input_tokens_seen = self._total_train_tokens
        super()._save_checkpoint(model, trial)
        if self._has_state() and self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            state = {name: tensor.contiguous() for name, tensor in self.aligner.state_dict().items()}
            save_file(state, folder / ALIGNER_FILE)


_MODEL_COLUMNS = ("input_ids", "attention_mask", "labels")
_SET_COLUMNS = ("domain_ids", "set_ids", "answer_positions", "on_policy", *TEACHER_COLUMNS)
"""What the collator adds for the methods, and the model never sees."""


def _rows(batch: dict[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    return {name: value[rows] if torch.is_tensor(value) else value for name, value in batch.items()}


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value or {})


def _as_int(value: Any) -> int | None:
    return None if value is None else int(value)
