"""The trace store: every reply that a teacher was paid for, kept once and for good."""

from __future__ import annotations

from isodistill.traces.record import Recipe, TraceFilter, TraceRecord, problem_digest
from isodistill.traces.signals import TokenSignal
from isodistill.traces.store import TraceStore

__all__ = ["Recipe", "TokenSignal", "TraceFilter", "TraceRecord", "TraceStore", "problem_digest"]
