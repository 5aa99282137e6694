"""Evaluation: what a student answers, how sure it is, and whether it treats isomers alike."""

from isodistill.evaluation.bootstrap import Estimate
from isodistill.evaluation.compare import Comparison, PairedComparison, is_ood_split, ood_accuracy, paired_difference
from isodistill.evaluation.evaluate import evaluate
from isodistill.evaluation.generation import generate_completions
from isodistill.evaluation.items import EvalItem, list_splits, read_items
from isodistill.evaluation.results import Evaluation, EvaluationConfig, ItemRecord, SplitResult, WorstDomain
from isodistill.evaluation.scoring import AnswerScore, score_answers

__all__ = [
    "AnswerScore",
    "Comparison",
    "Estimate",
    "EvalItem",
    "Evaluation",
    "EvaluationConfig",
    "ItemRecord",
    "PairedComparison",
    "SplitResult",
    "WorstDomain",
    "evaluate",
    "generate_completions",
    "is_ood_split",
    "list_splits",
    "ood_accuracy",
    "paired_difference",
    "read_items",
    "score_answers",
]
