"""The trainer's configuration: TRL's SFTConfig plus the alignment's own options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from trl.trainer.sft_config import SFTConfig

from isodistill.distillation import DIVERGENCES
from isodistill.errors import IsodistillError
from isodistill.methods import build_method
from isodistill.optim import MaskedAdamW, TensorAdamW

PLAIN_OPTIMIZER = str(getattr(SFTConfig.optim, "value", SFTConfig.optim))
"""TRL's own default of `optim`."""

OPTIMIZERS = {"tensor_adamw": TensorAdamW, "masked_adamw": MaskedAdamW}
"""The values of `optim` that transformers does not know: AdamWs that keep what a mask did (`isodistill.optim`)."""

_DISTILLATION = ("distillation_teacher", "distillation_store", "distillation_top_k")


@dataclass
class IsomerConfig(SFTConfig):
    """Configuration of `IsomerTrainer`.

    Everything of `trl.SFTConfig` and `transformers.TrainingArguments` applies, with these differences:
    ``per_device_train_batch_size`` counts isomer SETS (each brings one sequence for every domain), the loss is on
    the completion only, ``optim`` also takes ``tensor_adamw`` and ``masked_adamw`` and by default follows the method,
    and ``bf16`` is off by default on a CPU.
    Field help texts describe the options that are our own.

    Raises:
        IsodistillError: if an option that the alignment cannot do right is on; the message names it.
    """

    method: str = field(
        default="iga",
        metadata={"help": "Gradient method; `isodistill methods` lists them. 'erm' is plain fine-tuning."},
    )
    method_options: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'The method\'s own options, for example {"penalty_weight": 10}.'}
    )
    penalty: str | None = field(
        default=None, metadata={"help": "A penalty or reweighting beside the method, for example 'consistency'."}
    )
    penalty_options: dict[str, Any] | str | None = field(default=None, metadata={"help": "The penalty's own options."})
    shuffle_domains: bool = field(
        default=False, metadata={"help": "Control: permute the domain labels, so that they mean nothing."}
    )
    tau: float | None = field(
        default=None,
        metadata={
            "help": "Temperature of the conflict mask M = exp(-tau Z). Default: 3 / (K - 1) for K domains, so that"
            " what one domain alone uses is damped alike for any K."
        },
    )
    mask_space: str | None = field(
        default=None,
        metadata={
            "help": "Where the mask acts: factor, weight, factored, tangent, inputs or directions. Default: directions,"
            " 32 of each side."
        },
    )
    mask_stage: str | None = field(
        default=None,
        metadata={"help": "Mask the 'gradient' or the optimizer's 'update'. Default: update in factor space."},
    )
    statistics_decay: float = field(
        default=0.95, metadata={"help": "Decay of the running mean and variance of the domain gradients, in [0, 1)."}
    )
    conflict_normalization: str = field(
        default="relative", metadata={"help": "How variance becomes conflict: relative, bounded, layer_mean or raw."}
    )
    projection_rank: int | None = field(
        default=None, metadata={"help": "Rank of the truncated SVD in weight space. Default: full rank."}
    )
    direction_rank: int | None = field(
        default=None,
        metadata={
            "help": "mask_space 'directions': the directions of each side told apart. Default: all, if it is named."
        },
    )
    conflict_estimator: str = field(
        default="plain",
        metadata={
            "help": "mask_space 'inputs' and 'directions': 'plain', or 'cross', which compares two halves of the steps"
            " so that noise has no sign, or 'split', which also counts as none what is no larger than noise."
        },
    )
    projection: str = field(default="randomized", metadata={"help": "SVD algorithm: 'randomized' or 'exact'."})
    domain_weighting: str = field(
        default="tokens", metadata={"help": "Weight of a domain: its share of label 'tokens', or 'uniform'."}
    )
    distillation: str | None = field(
        default=None,
        metadata={"help": "Also learn a teacher's token distributions: forward_kl, reverse_kl or jsd."},
    )
    distillation_weight: float = field(
        default=0.5, metadata={"help": "The divergence's share of the loss; the cross-entropy has the rest."}
    )
    distillation_temperature: float = field(
        default=1.0, metadata={"help": "Softens the teacher's and the student's distribution in the divergence."}
    )
    distillation_beta: float = field(
        default=0.5, metadata={"help": "jsd only: the teacher's weight in the mixture, between 0 and 1."}
    )
    distillation_teacher: str | None = field(
        default=None,
        metadata={"help": "hf:PATH or openai:MODEL. Default: the one teacher whose distributions are in the store."},
    )
    distillation_store: str | None = field(
        default=None,
        metadata={"help": "The trace store with the distributions. Without it a local teacher scores every step."},
    )
    distillation_top_k: int | None = field(
        default=None, metadata={"help": "The teacher's tokens at each place. Default: what the store has; else 32."}
    )
    on_policy_fraction: float = field(
        default=0.0, metadata={"help": "GKD's lambda: the chance of a step on completions that the student samples."}
    )
    on_policy_every: int = field(
        default=1, metadata={"help": "Only every n-th step may be one on the student's own completions."}
    )
    on_policy_temperature: float = field(default=1.0, metadata={"help": "The temperature that they are sampled at."})
    on_policy_max_new_tokens: int = field(default=128, metadata={"help": "The most tokens of one of them."})
    engine: str = field(default="tap", metadata={"help": "Per-domain gradients: 'tap' (one pass) or 'loop'."})
    system_prompt: str | None = field(
        default=None, metadata={"help": "System message before each problem. Default: the chat template's own."}
    )
    # A plain string, so that the command line accepts our own name beside those of transformers.
    optim: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Optimizer: any of transformers', 'tensor_adamw' (one second moment for each tensor)"
            " or 'masked_adamw' (the second moment of the gradient before the mask). Default: masked_adamw where the"
            " method masks the gradient, else TRL's."
        },
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Train in bf16 autocast. Default: on where an accelerator supports it."}
    )
    completion_only_loss: bool | None = field(
        default=True, metadata={"help": "Always on: the loss is computed on the completion only."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Always off: the collator needs the domain columns."}
    )

    def __post_init__(self) -> None:
        """Checks the options and fills in the defaults that depend on the machine."""
        self._refuse_options()
        self._refuse_distillation()
        self._read_mappings()
        if self.bf16 is None:
            self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported() and not self.fp16
        if self.optim is None:
            masks = build_method(self.method, **self.options_for_method()).masks_gradient
            self.optim = "masked_adamw" if masks else PLAIN_OPTIMIZER
        # transformers validates `optim` against its own list, so ours is hidden from it for a moment.
        ours = str(self.optim) if str(self.optim) in OPTIMIZERS else None
        if ours is not None:
            self.optim = "adamw_torch"
        super().__post_init__()
        if ours is not None:
            self.optim = ours

    def options_for_method(self) -> dict[str, Any]:
        """Returns the arguments of the gradient method that this configuration holds."""
        own: dict[str, Any] = dict(self.method_options or {})  # type: ignore[arg-type]
        if self.method != "iga":
            return own
        return {
            "tau": self.tau,
            "mask_space": self.mask_space,
            "mask_stage": self.mask_stage,
            "statistics_decay": self.statistics_decay,
            "conflict_normalization": self.conflict_normalization,
            "projection_rank": self.projection_rank,
            "projection": self.projection,
            "direction_rank": self.direction_rank,
            "conflict_estimator": self.conflict_estimator,
        } | own

    def _refuse_distillation(self) -> None:
        """Refuses what contradicts itself in the distillation's options, before anything is loaded."""
        if self.distillation is None:
            given = [name for name in _DISTILLATION if getattr(self, name) is not None]
            given += ["on_policy_fraction"] if self.on_policy_fraction else []
            if given:
                raise IsodistillError(f"{given[0]} is given without distillation: name forward_kl, reverse_kl or jsd")
            return
        if self.distillation not in DIVERGENCES:
            raise IsodistillError(
                f"distillation={self.distillation!r} is unknown: choose one of {', '.join(DIVERGENCES)}"
            )
        ranges = {
            "distillation_weight": (0.0 <= self.distillation_weight <= 1.0, "from 0 to 1"),
            "distillation_temperature": (0.0 < self.distillation_temperature < float("inf"), "above 0"),
            "distillation_beta": (0.0 < self.distillation_beta < 1.0, "between 0 and 1; a KL is the end"),
            "distillation_top_k": (self.distillation_top_k is None or self.distillation_top_k >= 1, "of 1 or more"),
            "on_policy_fraction": (0.0 <= self.on_policy_fraction <= 1.0, "from 0 to 1"),
            "on_policy_every": (self.on_policy_every >= 1, "of 1 or more"),
            "on_policy_temperature": (0.0 <= self.on_policy_temperature < float("inf"), "of 0 or more"),
            "on_policy_max_new_tokens": (self.on_policy_max_new_tokens >= 1, "of 1 or more"),
        }
        for name, (fits, allowed) in ranges.items():
            if not fits:
                raise IsodistillError(f"{name}={getattr(self, name)} is out of range: give a number {allowed}")
        if self.loss_type != "nll" or self.label_smoothing_factor:
            raise IsodistillError(
                "distillation is mixed with the plain cross-entropy: set loss_type='nll' and label_smoothing_factor=0"
            )

    def _read_mappings(self) -> None:
        for name in ("method_options", "penalty_options"):
            value = getattr(self, name)
            if isinstance(value, str):
                try:
                    value = json.loads(value)
                except ValueError:
                    value = False
            if value is not None and not isinstance(value, dict):
                raise IsodistillError(
                    f'{name} is not a mapping of option names to values: write, for example, {{"penalty_weight": 10}}'
                )
            setattr(self, name, value)
        if self.penalty_options and self.penalty is None:
            raise IsodistillError("penalty_options are given without a penalty: name it in penalty")

    def _refuse_options(self) -> None:
        reasons = {
            "packing": "joins sequences of several domains into one row",
            "padding_free": "flattens the batch, so rows no longer belong to domains",
            "eval_packing": "joins sequences of several domains into one row",
            "assistant_only_loss": "needs conversations; isomer sets are prompt and completion",
            "fp16": "scales the gradients before the mask sees them; use bf16",
            "auto_find_batch_size": "restarts training inside and would keep stale gradient statistics",
            "use_liger_kernel": "replaces layers that the per-domain gradients are read from",
        }
        for option, reason in reasons.items():
            if getattr(self, option, None):
                raise IsodistillError(f"{option}=True is not supported: it {reason}; set {option}=False")
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):  # type: ignore[union-attr]
            raise IsodistillError(
                "gradient_checkpointing_kwargs={'use_reentrant': True} is not supported: per-domain gradients need"
                " non-reentrant checkpointing; set use_reentrant to False"
            )
        if self.completion_only_loss is False:
            raise IsodistillError("completion_only_loss=False is not supported: the student learns completions only")
        if self.remove_unused_columns:
            raise IsodistillError("remove_unused_columns=True is not supported: the collator needs the domain columns")
        for option in ("deepspeed", "fsdp"):
            if getattr(self, option, None):
                raise IsodistillError(f"{option} is not supported: sharded adapters were not tested; leave it unset")
