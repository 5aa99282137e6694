"""Benchmarks from elsewhere, one file for each, and how they join an evaluation."""

from isodistill.benchmarks.base import Benchmark, BenchmarkKind
from isodistill.benchmarks.registry import BENCHMARKS, make_benchmark, parse_benchmark
from isodistill.benchmarks.run import add_benchmark, check_ways, join

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkKind",
    "add_benchmark",
    "check_ways",
    "join",
    "make_benchmark",
    "parse_benchmark",
]
