"""Statistics of a study as pure functions of arrays: intervals, tests, corrections, effects."""

from isodistill.statistics.bootstrap import (
    Estimate,
    bootstrap_mean,
    bootstrap_mean_of_ratios,
    bootstrap_over_seeds,
    bootstrap_ratio,
)
from isodistill.statistics.significance import holm, mcnemar, paired_t_test, sign_flip_test
from isodistill.statistics.study import LEVEL, MethodEffect, compare_with_baseline

__all__ = [
    "LEVEL",
    "Estimate",
    "MethodEffect",
    "bootstrap_mean",
    "bootstrap_mean_of_ratios",
    "bootstrap_over_seeds",
    "bootstrap_ratio",
    "compare_with_baseline",
    "holm",
    "mcnemar",
    "paired_t_test",
    "sign_flip_test",
]
