"""The arms of a study: its methods and controls, held to the same data, budget and number of trials."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.methods import METHODS, build_method, build_penalty
from isodistill.study.cells import Arm
from isodistill.study.config import StudyConfig
from isodistill.trainer import IsomerConfig, TrainJob

_JOB = {field.name for field in fields(TrainJob)}
_TRAINER = {field.name for field in fields(IsomerConfig)}

_SET_BY_STUDY = {
    *("output_dir", "data", "student", "split", "adapter", "resume", "resume_from_checkpoint", "seed", "data_seed"),
    *("method", "method_options", "penalty", "penalty_options", "shuffle_domains", "save_strategy", "eval_strategy"),
}

LENGTH = ("max_steps", "num_train_epochs")
"""The length of training, which may be searched: for every arm alike."""

SHARED = (
    *LENGTH,
    *("per_device_train_batch_size", "gradient_accumulation_steps", "train_sampling_strategy", "dataloader_drop_last"),
    *("lora_r", "lora_rslora", "lora_target_modules", "lora_first_layer", "max_length", "system_prompt", "loss_type"),
)
"""What every arm must share: the data order, the tokens and the adapter's size."""

_DEFAULTS: dict[str, Any] = {
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def build_arms(config: StudyConfig) -> list[Arm]:
    """Lists a study's arms, methods first, and refuses what would make the comparison unfair.

    Args:
        config: The study.

    Returns:
        The arms.

    Raises:
        IsodistillError: if an option is unknown, wrong or set by the study itself, a method is given another budget
            than the others, or a control does not fit.
    """
    _check_names(config.training, "training")
    arms = []
    for label, entry in config.methods.items():
        _check_names(entry.training, f"methods.{label}.training")
        arms.append(
            Arm(
                label=label,
                kind="method",
                method=entry.method or label,
                method_options=entry.method_options,
                penalty=entry.penalty,
                penalty_options=entry.penalty_options,
                training=_DEFAULTS | config.training | entry.training,
                trials_of=label,
            )
        )
    _check_data_training(config)
    if config.fair:
        _check_fairness(config, arms)
    if config.search is not None:
        _check_names(config.search.space, "search.space")
    given = config.training.get("system_prompt")
    if config.evaluation.system_prompt not in (None, given):
        raise IsodistillError(
            "evaluation.system_prompt differs from training.system_prompt: leave it out, evaluation uses that of"
            " training"
        )
    arms += [control for name in config.controls for control in _control(name, config, arms)]
    labels = [arm.label for arm in arms]
    for label in labels:
        if labels.count(label) > 1:
            raise IsodistillError(f"methods.{label} has the name of a control: give it another label")
    for arm in arms:
        check_options(arm)
        for name, data in config.data.items():
            if data.training:
                check_options(arm_on(arm, config, name), f"data.{name}.training, methods.{arm.label}")
    return arms


def arm_on(arm: Arm, config: StudyConfig, data: str) -> Arm:
    """Gives an arm the trainer options of a data set.

    Args:
        arm: The arm.
        config: The study.
        data: The data set's name.

    Returns:
        The arm as it runs there; the arm itself where the data set has no options of its own.
    """
    own = config.data[data].training
    return arm.model_copy(update={"training": arm.training | own}) if own else arm


def check_options(arm: Arm, where: str | None = None) -> None:
    """Refuses options that the method, its penalty or the trainer does not take.

    Args:
        arm: The arm.
        where: What the options stand in, for errors; by default the arm.

    Raises:
        IsodistillError: if there is one; the message says where.
    """
    try:
        build_method(arm.method, **arm.method_options)
        if arm.penalty is not None:
            build_penalty(arm.penalty, **arm.penalty_options)
        elif arm.penalty_options:
            raise IsodistillError("penalty_options are given without a penalty")
        trainer_config(arm, arm.training, "unused", 0)
    except (IsodistillError, TypeError, ValueError) as error:
        raise IsodistillError(f"{where or f'methods.{arm.label}'}: {str(error).splitlines()[0]}") from None


def trainer_config(arm: Arm, training: Mapping[str, Any], out: str, seed: int) -> IsomerConfig:
    """Builds the trainer's configuration of one run of an arm.

    Args:
        arm: The arm, with the method options of the run.
        training: Its trainer and job options.
        out: The run's folder.
        seed: The training seed.

    Returns:
        The configuration.
    """
    return IsomerConfig(
        output_dir=out,
        seed=seed,
        save_strategy="steps" if "save_steps" in training else "no",
        method=arm.method,
        method_options=dict(arm.method_options),
        penalty=arm.penalty,
        penalty_options=dict(arm.penalty_options) or None,
        shuffle_domains=arm.kind == "shuffled_domains",
        # Two: the older one goes when the newer one is there, and before that one is known to be whole.
        **{"save_total_limit": 2} | {name: value for name, value in training.items() if name in _TRAINER},
    )


def job_options(training: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the options of `TrainJob`.

    Args:
        training: Trainer and job options.

    Returns:
        Those of the job.
    """
    return {name: value for name, value in training.items() if name in _JOB}


def _check_names(options: Mapping[str, Any], where: str) -> None:
    for name in options:
        if name in _SET_BY_STUDY:
            raise IsodistillError(f"{where}.{name} is set by the study for each run: leave it out")
        if name not in _JOB | _TRAINER:
            near = difflib.get_close_matches(name, _JOB | _TRAINER, n=1)
            hint = f"; did you mean {near[0]}?" if near else ": `isodistill train --help` lists them"
            raise IsodistillError(f"{where}.{name} is no option of training{hint}")


def _check_data_training(config: StudyConfig) -> None:
    """Refuses options of a data set that a method or the search has too: which of the two holds would be a guess."""
    for data, entry in config.data.items():
        _check_names(entry.training, f"data.{data}.training")
        for name in entry.training:
            others = [f"methods.{label}.training" for label, each in config.methods.items() if name in each.training]
            if config.search is not None and name in config.search.space:
                others.append("search.space")
            if others:
                raise IsodistillError(f"data.{data}.training.{name} stands in {others[0]} too: say it in one of them")


def _check_fairness(config: StudyConfig, arms: list[Arm]) -> None:
    for name in SHARED:
        values = {arm.label: arm.training.get(name) for arm in arms}
        first = values[config.baseline]
        for label, value in values.items():
            if value != first:
                raise IsodistillError(
                    f"methods.{label}.training.{name} is {value!r} where the baseline {config.baseline!r} has"
                    f" {first!r}: every method gets the same; set it in training, or say fair: false"
                )
    for name in config.search.space if config.search else ():
        if name in SHARED and name not in LENGTH:
            raise IsodistillError(
                f"search.space.{name} would give methods different data or adapters: set it in training, or say"
                " fair: false"
            )


def _control(name: str, config: StudyConfig, arms: list[Arm]) -> list[Arm]:
    baseline = next(arm for arm in arms if arm.label == config.baseline)
    if name == "shuffled_domains":
        named = set(config.shuffled)
        blind = next((arm.label for arm in arms if arm.label in named and not _uses_domains(arm)), None)
        if blind is not None:
            raise IsodistillError(f"shuffled names {blind!r}, whose method reads no domain: leave it out")
        return [
            arm.model_copy(update={"label": label, "kind": name, "trials_of": label})
            for arm in arms
            if arm.kind == "method" and _uses_domains(arm) and (not named or arm.label in named)
            for label in (f"{arm.label}, shuffled domains",)
        ]
    if name == "untuned":
        return [baseline.model_copy(update={"label": "untuned student", "kind": name})]
    if baseline.method != "erm" or baseline.penalty is not None:
        raise IsodistillError(f"the control {name} needs a baseline whose method is erm: set baseline, or leave it out")
    if name == "no_cue":
        for data, entry in config.data.items():
            if entry.generate is None:
                raise IsodistillError(f"the control no_cue needs generated data, and data.{data} is a path: drop it")
            if entry.generate.shortcut is None:
                raise IsodistillError(f"the control no_cue needs a cue, and data.{data} has no shortcut: drop it")
        return [baseline.model_copy(update={"label": f"{baseline.label}, no cue", "kind": name})]
    return [baseline.model_copy(update={"label": f"{baseline.label}, slow", "kind": name})]


def _uses_domains(arm: Arm) -> bool:
    names = [arm.method] if arm.penalty is None else [arm.method, arm.penalty]
    return any(METHODS[name].uses_domains for name in names if name in METHODS)
