"""Theory made checkable: bounds over domains from finished runs, and convergence rates that are measured."""

from isodistill.theory.bounds import (
    DomainBound,
    domains_needed,
    empirical_bernstein,
    gaussian_kl,
    pac_bayes_empirical_bernstein,
    pac_bayes_kl,
)
from isodistill.theory.convergence import ConvergenceRate, Problem, fit_rate, measure_rates
from isodistill.theory.rate import RateReport, measure_rate

__all__ = [
    "ConvergenceRate",
    "DomainBound",
    "Problem",
    "RateReport",
    "domains_needed",
    "empirical_bernstein",
    "fit_rate",
    "gaussian_kl",
    "measure_rate",
    "measure_rates",
    "pac_bayes_empirical_bernstein",
    "pac_bayes_kl",
]
