"""Timings: always ratios within one run, never absolute promises."""
