"""The bounds of finished runs: risks from their evaluations, divergences from their adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import Evaluation, SplitResult
from isodistill.runs import EVALUATION_FILE, RUN_FILE, RunRecord
from isodistill.theory.bounds import (
    DomainBound,
    domains_needed,
    empirical_bernstein,
    gaussian_kl,
    pac_bayes_empirical_bernstein,
    pac_bayes_kl,
)

ADAPTER_FILE = "adapter_model.safetensors"
"""PEFT's name for an adapter's weights."""

SEEN_SPLIT = "iid"
"""The split with fresh problems in the training domains."""

SAYS_SOMETHING = 0.99
"""Domains are counted to here and not to 1: the kl bound falls below 1 long before it leaves it by a visible amount."""

ZERO_PRIOR = "a Gaussian around zero for A and B (valid whatever the start was; it also pays for A's start)"
START_PRIOR = "a Gaussian around the A and the zero B of the start {}"
WARM_PRIOR = "a Gaussian around the start {}, whose B is not zero: valid only if no training domain had a part in it"


class RunBound(BaseModel):
    """A bound on the risk in a new domain, of one run on one split.

    Attributes:
        run: The run's folder or file, as it was given.
        method: Its method; ``None`` where the folder has no record.
        split: The split.
        domains: Whether the run was trained on them (``"training"``) or never (``"unseen"``).
        risks: 1 - accuracy by domain.
        bound: The bound.
        vacuous: Whether it is 1 or more.
        domains_needed: The number of domains from which it would be below `SAYS_SOMETHING`; ``None`` where none is
            enough.
        constant_risk: The risk of the best constant answer; ``None`` where the problems have no choices.
        domains_needed_below_constant: The number of domains from which the bound would be below that.
        sigma: The standard deviation of prior and posterior; ``None`` where nothing is paid.
        prior: What the prior is; ``None`` where nothing is paid.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    method: str | None
    split: str
    domains: Literal["unseen", "training"]
    risks: dict[str, float]
    bound: DomainBound
    vacuous: bool
    domains_needed: int | None
    constant_risk: float | None
    domains_needed_below_constant: int | None
    sigma: float | None = None
    prior: str | None = None


class BoundReport(BaseModel):
    """The bounds of several runs.

    Attributes:
        bounds: One entry for each run, split and inequality.
        notes: What could not be computed, and why.
        versions: Versions of the packages.
    """

    model_config = ConfigDict(extra="forbid")

    bounds: list[RunBound]
    notes: list[str]
    versions: dict[str, str]


@dataclass(frozen=True)
class BoundOptions:
    """What is asked of every run.

    Args:
        splits: Splits of unseen domains; none for every split whose name begins with ``unseen_domain``.
        seen_split: The split whose domains the run was trained on.
        delta: The probability with which each bound may fail.
        sigma: The standard deviation of prior and posterior.
        start: The folder of the adapter before training, or ``None`` for a prior around zero.
    """

    splits: tuple[str, ...] = ()
    seen_split: str = SEEN_SPLIT
    delta: float = 0.05
    sigma: float = 0.01
    start: Path | None = None


def bound_runs(places: Sequence[Path], options: BoundOptions) -> BoundReport:
    """Bounds the risk in a new domain of each of several runs.

    Args:
        places: Folders of runs with an ``evaluation.json``, or files that hold an evaluation.
        options: The rest.

    Returns:
        The bounds, in the order of the runs.

    Raises:
        IsodistillError: if a file is missing or damaged, a split is missing or shows too few domains, or a domain that
            ought to be unseen was trained on.
    """
    if not (0.0 < options.delta < 1.0 and 0.0 < options.sigma < float("inf")):
        raise IsodistillError(
            f"delta={options.delta} must lie between 0 and 1, and sigma={options.sigma} must be a positive number"
        )
    start = None if options.start is None else _weights(options.start)
    bounds: list[RunBound] = []
    notes: list[str] = []
    for place in places:
        file = place / EVALUATION_FILE if place.is_dir() else place
        evaluation, folder = _evaluation(file), file.parent
        record = RunRecord.load(folder) if (folder / RUN_FILE).is_file() else None
        bounds += _unseen(str(place), evaluation, record, options)
        found = _training(str(place), folder, evaluation, record, options, start)
        if isinstance(found, str):
            notes.append(found)
        else:
            bounds += found
    packages = ("isodistill", "numpy", "scipy", "safetensors")
    return BoundReport(bounds=bounds, notes=notes, versions={name: metadata.version(name) for name in packages})


def adapter_divergence(
    weights: Mapping[str, torch.Tensor], prior: Mapping[str, torch.Tensor] | None, sigma: float
) -> float:
    """Computes the divergence of a Gaussian around an adapter from one around its prior, over all its tensors.

    Args:
        weights: The adapter's tensors by name.
        prior: The prior's centre, or ``None`` for zero.
        sigma: The standard deviation of both.

    Returns:
        The divergence in nats.

    Raises:
        IsodistillError: if the names or shapes differ, a weight is no number, or sigma is not positive.
    """
    if prior is not None and {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in prior.items()}:
        raise IsodistillError(
            "--start has other tensors than the adapter: give the same student, rank and layers before training"
        )
    total = 0.0
    for name, tensor in weights.items():
        values = tensor.double().numpy()
        centre = np.zeros_like(values) if prior is None else prior[name].double().numpy()
        total += gaussian_kl(values, centre, sigma)
    if not np.isfinite(total):
        raise IsodistillError("the adapter or its start holds weights that are no finite numbers: train anew")
    return total


def _unseen(run: str, evaluation: Evaluation, record: RunRecord | None, options: BoundOptions) -> list[RunBound]:
    chosen = options.splits or tuple(split for split in evaluation.splits if split.startswith("unseen_domain"))
    if not chosen:
        raise IsodistillError(
            f"{run}: no split here is called unseen_domain (there are: {_list(evaluation.splits)}); evaluate one,"
            " or name one with --split"
        )
    bounds = []
    for split in chosen:
        result = evaluation.splits.get(split)
        if result is None:
            raise IsodistillError(f"{run}: split {split!r} was not evaluated; there are: {_list(evaluation.splits)}")
        if record is None and not split.startswith("unseen_domain"):
            raise IsodistillError(
                f"{run}: without {RUN_FILE} beside the evaluation nobody knows which domains it was trained on, so"
                f" split {split!r} cannot be taken for unseen; give the run's folder"
            )
        trained = sorted(set(result.by_domain) & set(record.domains if record else ()))
        if trained:
            raise IsodistillError(
                f"{run}: split {split!r} shows domains that the run was trained on ({_list(trained)}); name one of"
                " unseen domains with --split"
            )
        risks = _risks(run, split, result)
        bound = empirical_bernstein(list(risks.values()), options.delta)
        bounds.append(_row(run, record, split, "unseen", result, risks, bound))
    return bounds


def _training(
    run: str,
    folder: Path,
    evaluation: Evaluation,
    record: RunRecord | None,
    options: BoundOptions,
    start: Mapping[str, torch.Tensor] | None,
) -> list[RunBound] | str:
    """The PAC-Bayes bounds over the training domains, or the reason why there is none."""
    none = f"{run}: no PAC-Bayes bound over the training domains, since"
    split = options.seen_split
    result = evaluation.splits.get(split)
    if not (folder / ADAPTER_FILE).is_file():
        return f"{none} {folder} holds no {ADAPTER_FILE}"
    if record is None:
        return f"{none} {folder} holds no {RUN_FILE}, which names them"
    if result is None:
        return f"{none} split {split!r} was not evaluated"
    strange = sorted(set(result.by_domain) - set(record.domains))
    if strange:
        return f"{none} split {split!r} shows domains that were not trained on ({_list(strange)})"
    risks = _risks(run, split, result)
    weights = _weights(folder)
    price = adapter_divergence(weights, start, options.sigma)
    values = list(risks.values())
    return [
        _row(run, record, split, "training", result, risks, bound).model_copy(
            update={"sigma": options.sigma, "prior": _prior(options.start, start)}
        )
        for bound in (
            pac_bayes_kl(values, price, options.delta),
            pac_bayes_empirical_bernstein(np.array([values]), price, options.delta),
        )
    ]


def _prior(place: Path | None, start: Mapping[str, torch.Tensor] | None) -> str:
    if start is None:
        return ZERO_PRIOR
    warm = any(bool(tensor.any()) for name, tensor in start.items() if "lora_B" in name)
    return (WARM_PRIOR if warm else START_PRIOR).format(place)


def _row(
    run: str,
    record: RunRecord | None,
    split: str,
    domains: Literal["unseen", "training"],
    result: SplitResult,
    risks: dict[str, float],
    bound: DomainBound,
) -> RunBound:
    constant = None if result.constant_accuracy is None else 1.0 - result.constant_accuracy
    return RunBound(
        run=run,
        method=record.method if record else None,
        split=split,
        domains=domains,
        risks=risks,
        bound=bound,
        vacuous=bound.vacuous,
        domains_needed=domains_needed(bound, SAYS_SOMETHING),
        constant_risk=constant,
        domains_needed_below_constant=None if constant is None else domains_needed(bound, constant),
    )


def _risks(run: str, split: str, result: SplitResult) -> dict[str, float]:
    wrong = [name for name, share in result.by_domain.items() if not 0.0 <= share <= 1.0]
    if wrong:
        raise IsodistillError(f"{run}: an accuracy in split {split!r} is no share ({_list(wrong)}); evaluate anew")
    if len(result.by_domain) < 2:
        raise IsodistillError(
            f"{run}: a bound over domains needs at least two of them, and split {split!r} shows"
            f" {_list(result.by_domain) or 'none'}; generate data with more"
        )
    return {name: 1.0 - share for name, share in result.by_domain.items()}


def _evaluation(file: Path) -> Evaluation:
    try:
        return Evaluation.load(file)
    except UnicodeDecodeError:
        raise IsodistillError(f"{file} is not an evaluation, nor any text; give a run's {EVALUATION_FILE}") from None


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / ADAPTER_FILE
    try:
        weights = load_file(file)
    except OSError as error:
        why = error.strerror or "there is no such file"
        raise IsodistillError(f"{file} cannot be read ({why}); give an adapter's folder") from None
    except SafetensorError as error:
        raise IsodistillError(f"{file} is damaged ({error}); save the adapter again") from None
    return weights


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names)
