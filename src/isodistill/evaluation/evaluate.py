"""The evaluation of one student on one data set."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from isodistill.answers import same_answer, split_completion
from isodistill.errors import IsodistillError
from isodistill.evaluation import metrics
from isodistill.evaluation.cka import cka_between_domains
from isodistill.evaluation.encoding import base_model
from isodistill.evaluation.generation import Progress, generate_completions
from isodistill.evaluation.items import TRAINING_SPLITS, EvalItem, list_splits, read_items
from isodistill.evaluation.probe import decodability
from isodistill.evaluation.results import (
    Evaluation,
    EvaluationConfig,
    ItemRecord,
    Probes,
    SplitResult,
    WorstDomain,
    WorstGroup,
)
from isodistill.evaluation.scoring import AnswerScore, score_answers
from isodistill.importers.scoring import has_scorer, score_answer
from isodistill.statistics.bootstrap import bootstrap_mean, bootstrap_ratio

_PACKAGES = ("torch", "transformers", "peft", "isodistill")


def evaluate(
    model: Any,
    tokenizer: Any,
    data_dir: Path,
    config: EvaluationConfig,
    progress: Progress | None = None,
    *,
    student: str | None = None,
    adapter: str | None = None,
) -> Evaluation:
    """Lets a student answer every problem of the test splits and measures accuracy and consistency.

    All splits are read and checked before the first token is generated.

    Args:
        model: A transformers causal language model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        data_dir: The data set's directory.
        config: What to evaluate and how.
        progress: Called as ``progress(stage, done, total)`` after each batch.
        student: The student's name in the result; by default the one the model was loaded from.
        adapter: The adapter's name in the result; by default the names and kinds of the active adapters.

    Returns:
        The measures by split and every problem with its completion.

    Raises:
        IsodistillError: If a split is missing or its rows break the contract, or the model does not fit.
    """
    started = time.monotonic()
    splits = config.splits
    if splits is None:
        splits = [split for split in list_splits(data_dir) if split not in TRAINING_SPLITS]
    if not splits:
        raise IsodistillError(f"{data_dir} has no test split to evaluate: name one, or generate the test splits.")
    if len(set(splits)) < len(splits):
        raise IsodistillError(f"A split is named twice in splits = {splits}: name each once.")
    by_split = {split: read_items(Path(data_dir), split, config.limit_sets) for split in splits}

    results: dict[str, SplitResult] = {}
    records: list[ItemRecord] = []
    for items in by_split.values():
        check_items(items, config)
    for split, items in by_split.items():
        results[split], written = evaluate_items(model, tokenizer, items, config, progress)
        records.extend(written)
    return empty_evaluation(model, config, student=student, adapter=adapter).model_copy(
        update={
            "data": Path(data_dir).resolve().name,
            "seconds": time.monotonic() - started,
            "splits": results,
            "items": records,
        }
    )


def empty_evaluation(
    model: Any, config: EvaluationConfig, *, student: str | None = None, adapter: str | None = None
) -> Evaluation:
    """Begins an evaluation that knows the student and has no measure yet.

    Args:
        model: See `evaluate`.
        config: What to evaluate and how.
        student: See `evaluate`.
        adapter: See `evaluate`.

    Returns:
        The evaluation, without a data set.
    """
    return Evaluation(
        student=student or str(getattr(base_model(model).config, "name_or_path", "") or type(model).__name__),
        adapter=adapter or _adapter(model),
        data="",
        config=config,
        versions={package: package_version(package) for package in _PACKAGES},
        seconds=0.0,
        splits={},
        items=[],
    )


def check_items(items: Sequence[EvalItem], config: EvaluationConfig) -> None:
    """Refuses problems whose answers cannot be had or judged.

    Args:
        items: The problems of a split.
        config: How they will be evaluated.

    Raises:
        IsodistillError: If only likelihoods are wanted, and a problem has no choices; or the scorer of a family is not
            at hand, or does not know its problems.
    """
    free = next((item for item in items if not item.choices), None)
    if config.by == "likelihood" and free is not None:
        raise IsodistillError(
            f"In {free.split!r}, set {free.set_id!r} has no choices whose likelihoods could be compared; evaluate by "
            "generation."
        )
    for item in {item.family: item for item in items if has_scorer(item.family)}.values():
        score_answer(item.family, item.prompt, item.answer, item.formal, item.answer)


def evaluate_items(
    model: Any,
    tokenizer: Any,
    items: Sequence[EvalItem],
    config: EvaluationConfig,
    progress: Progress | None = None,
    *,
    instruction: str = "",
) -> tuple[SplitResult, list[ItemRecord]]:
    """Lets a student answer the problems of one split and measures what comes of it.

    Args:
        model: See `evaluate`.
        tokenizer: Its tokenizer.
        items: The problems, all of one split; at least one.
        config: How to evaluate.
        progress: See `evaluate`.
        instruction: A line to put after each problem, which says how the answer is to be given.

    Returns:
        The measures, and the problems with what the student made of them.
    """
    split = items[0].split
    prompts = [f"{item.prompt}\n{instruction}" if instruction else item.prompt for item in items]
    completions = scores = None
    if config.by != "likelihood":
        completions = generate_completions(
            model,
            tokenizer,
            prompts,
            system_prompt=config.system_prompt,
            batch_size=config.batch_size,
            bf16=config.bf16,
            max_new_tokens=config.max_new_tokens,
            progress=progress,
            stage=f"{split}: generate",
        )
    if config.by != "generation":
        scores = score_answers(
            model,
            tokenizer,
            prompts,
            [item.choices for item in items],
            completions if config.rationale == "student" else None,
            system_prompt=config.system_prompt,
            batch_size=config.batch_size,
            bf16=config.bf16,
            progress=progress,
            stage=f"{split}: score",
        )
    records, values = [], []
    for place, item in enumerate(items):
        completion = None if completions is None else completions[place]
        record, value = _record(item, completion, None if scores is None else scores[place])
        records.append(record)
        values.append(value)
    result = measure_split(items, records, scores, config)
    if any(has_scorer(item.family) for item in items):
        result = result.model_copy(update={"mean_score": float(np.mean(values))})
    return result, records


def measure_split(
    items: Sequence[EvalItem],
    records: Sequence[ItemRecord],
    scores: Sequence[AnswerScore] | None,
    config: EvaluationConfig,
) -> SplitResult:
    """Computes the measures of one split from what the student wrote and held.

    Args:
        items: N problems.
        records: N records in the same order.
        scores: N scores in the same order, or ``None`` where the student only wrote.
        config: Bootstrap samples and seed.

    Returns:
        The split's measures. Sets whose members have different answers, as pairs of problems that share their structure
        alone, are kept together in the bootstrap, and their consistency is not measured.
    """
    set_ids = [item.set_id for item in items]
    domains = [item.domain for item in items]
    correct = [record.correct for record in records]
    extracted = [record.extracted for record in records]
    closed = [index for index, item in enumerate(items) if item.choices]
    cued = [index for index, item in enumerate(items) if item.cue]
    n_sets = len(set(set_ids))
    samples, seed = config.bootstrap_samples, config.seed

    accuracy = bootstrap_ratio(*_per_set(correct, [True] * len(items), set_ids), samples, seed)
    assert accuracy is not None  # a split without items is refused when it is read
    name, value = metrics.worst_group_accuracy(correct, domains)
    isomers = len({(item.set_id, item.answer) for item in items}) == n_sets
    wrong, _ = _per_set([not right for right in correct], [True] * len(items), set_ids)
    return SplitResult(
        n_sets=n_sets,
        n_items=len(items),
        accuracy=accuracy,
        likelihood_accuracy=None,
        balanced_accuracy=_finite(
            metrics.balanced_accuracy([items[index].answer for index in closed], [extracted[index] for index in closed])
        ),
        constant_accuracy=_finite(metrics.constant_accuracy([items[index].answer for index in closed])),
        answered=metrics.accuracy([answer is not None for answer in extracted]),
        cue_followed=_finite(metrics.accuracy([follows_cue(extracted[index], items[index]) for index in cued])),
        by_domain=metrics.grouped_accuracy(correct, domains),
        by_depth=dict(sorted(metrics.grouped_accuracy(correct, [item.depth for item in items]).items())),
        by_family=dict(sorted(metrics.grouped_accuracy(correct, [item.family for item in items]).items())),
        worst_domain=WorstDomain(name=name, value=value),
        lcs_raw=None,
        lcs_centred=None,
        agreement=bootstrap_mean(metrics.agreement_by_set(extracted, set_ids), samples, seed) if isomers else None,
        js_divergence=None,
        worst_group=_worst_group(items, correct),
        set_accuracy=bootstrap_mean((wrong == 0).astype(np.float64), samples, seed) if len(items) > n_sets else None,
    ).model_copy(update={} if scores is None else _measure_scores(items, scores, config, isomers))


def _measure_scores(
    items: Sequence[EvalItem], scores: Sequence[AnswerScore], config: EvaluationConfig, isomers: bool
) -> dict[str, Any]:
    """The measures that rest on what stands at the answer position, by the names of `SplitResult`."""
    set_ids = [item.set_id for item in items]
    domains = [item.domain for item in items]
    answers = [item.answer for item in items]
    samples, seed = config.bootstrap_samples, config.seed
    distributions = [score.probabilities for score in scores]
    states = np.stack([score.state for score in scores])
    likeliest = [same_answer(_likeliest(item, score), item.answer) for item, score in zip(items, scores, strict=True)]
    measured: dict[str, Any] = {
        "likelihood_accuracy": bootstrap_ratio(
            *_per_set(likeliest, [bool(item.choices) for item in items], set_ids), samples, seed
        ),
        "probes": Probes(
            domain=decodability(states, domains, set_ids),
            answer=decodability(states, answers, set_ids),
            answer_across_domains=decodability(states, answers, domains),
        ),
    }
    if not isomers:
        return measured
    alignments = cka_between_domains(states, set_ids, domains)
    measured["cka"] = _finite(float(np.mean(list(alignments.values()) or [np.nan])))
    measured["js_divergence"] = bootstrap_mean(metrics.js_by_set(distributions, set_ids), samples, seed)
    measured["lcs_raw"] = bootstrap_mean(metrics.cosine_distance_by_set(states, set_ids), samples, seed)
    # With one set every centred state is zero: that would read as perfect consistency.
    if len(set(set_ids)) > 1:
        centred = metrics.centre_by_domain(states, domains)
        measured["lcs_centred"] = bootstrap_mean(metrics.cosine_distance_by_set(centred, set_ids), samples, seed)
    return measured


def follows_cue(extracted: str | None, item: EvalItem) -> bool:
    """Tells whether an answer is the one that the item's cue points at.

    Args:
        extracted: The student's answer, or ``None``.
        item: The problem. Without choices its cue names the parity of a number, ``"even"`` or ``"odd"``.

    Returns:
        ``True`` if the answer follows the cue.
    """
    if item.choices or extracted is None or item.cue not in ("even", "odd"):
        return same_answer(extracted, item.cue)
    digits = extracted.replace(",", "").strip().lstrip("-")
    return digits.isascii() and digits.isdigit() and (int(digits[-1]) % 2 == 1) == (item.cue == "odd")


def _worst_group(items: Sequence[EvalItem], correct: Sequence[bool]) -> WorstGroup:
    cues: list[Literal["right", "wrong", "none"]] = [
        "none" if not item.cue else "right" if follows_cue(item.answer, item) else "wrong" for item in items
    ]
    groups = [(item.domain, cue) for item, cue in zip(items, cues, strict=True)]
    (domain, cue), value = metrics.worst_group_accuracy(correct, groups)
    return WorstGroup(domain=domain, cue=cue, value=value, n_items=groups.count((domain, cue)))


def _likeliest(item: EvalItem, score: AnswerScore) -> str | None:
    return None if score.probabilities is None else item.choices[int(np.argmax(score.probabilities))]


def _record(item: EvalItem, completion: str | None, score: AnswerScore | None) -> tuple[ItemRecord, float]:
    """A problem with what the student made of it, and the score of its answer in [0, 1]."""
    probabilities = extracted = None
    if completion is not None:
        extracted = split_completion(completion)[1]
    elif score is not None:
        extracted = _likeliest(item, score)
    if score is not None and score.probabilities is not None:
        probabilities = dict(zip(item.choices, score.probabilities.tolist(), strict=True))
    value = score_answer(item.family, item.prompt, item.answer, item.formal, extracted)
    record = ItemRecord(
        split=item.split,
        set_id=item.set_id,
        domain=item.domain,
        family=item.family,
        depth=item.depth,
        prompt=item.prompt,
        cue=item.cue,
        answer=item.answer,
        completion=completion or "",
        extracted=extracted,
        correct=value == 1.0,
        probabilities=probabilities,
    )
    return record, value


def _per_set(
    hits: Sequence[bool], counted: Sequence[bool], set_ids: Sequence[str]
) -> tuple[metrics.Floats, metrics.Floats]:
    """Numbers of hits and of counted items of each set, each of shape (sets,)."""
    order = {set_id: position for position, set_id in enumerate(dict.fromkeys(set_ids))}
    position = np.array([order[set_id] for set_id in set_ids])
    weights = np.asarray(counted, dtype=np.float64)
    right = weights * np.asarray(hits, dtype=np.float64)
    return (
        np.bincount(position, weights=right).astype(np.float64),
        np.bincount(position, weights=weights).astype(np.float64),
    )


def _adapter(model: Any) -> str | None:
    if not hasattr(model, "peft_config"):
        return None
    names: list[str] = list(model.active_adapters)
    return ", ".join(f"{name} ({_kind(model.peft_config[name])})" for name in names) or None


def _kind(config: Any) -> str:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    rank = getattr(config, "r", None)
    return f"{kind}, rank {rank}" if rank is not None else kind


def package_version(package: str) -> str:
    """Finds a package's version.

    Args:
        package: The distribution's name.

    Returns:
        The version, or a remark where it is not installed as a package.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
