"""Evaluation: what a student answers, how sure it is, and whether it treats isomers alike."""

from isodistill.evaluation.compare import (
    Comparison,
    PairedComparison,
    flip_rate,
    is_ood_split,
    ood_accuracy,
    ood_gap,
    paired_difference,
)
from isodistill.evaluation.evaluate import evaluate
from isodistill.evaluation.generation import generate_completions
from isodistill.evaluation.items import EvalItem, list_splits, read_items
from isodistill.evaluation.probe import Decodability
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
from isodistill.statistics.bootstrap import Estimate

__all__ = [
    "AnswerScore",
    "Comparison",
    "Decodability",
    "Estimate",
    "EvalItem",
    "Evaluation",
    "EvaluationConfig",
    "ItemRecord",
    "PairedComparison",
    "Probes",
    "SplitResult",
    "WorstDomain",
    "WorstGroup",
    "evaluate",
    "flip_rate",
    "generate_completions",
    "is_ood_split",
    "list_splits",
    "ood_accuracy",
    "ood_gap",
    "paired_difference",
    "read_items",
    "score_answers",
]
