"""A process of its own that collects from a server: `collecting_process.py STORE URL PROBLEMS`; tests kill it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from teacher_server import make_problems

from isodistill.teachers import collect
from isodistill.teachers.collect import Collector
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.server import ServerLimits, ServerTeacher
from isodistill.traces import TraceStore

if __name__ == "__main__":
    collect.POLL_SECONDS = 0.05
    teacher = ServerTeacher("m", sys.argv[2], limits=ServerLimits(concurrency=4, timeout=5, base_delay=0.01))
    with TraceStore(sys.argv[1]) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        try:
            outcomes = Collector(teacher, Sampling(retries=6), store).collect(make_problems(int(sys.argv[3])))
        except KeyboardInterrupt:
            sys.exit(130)
    assert all(outcome.completion for outcome in outcomes)
    sys.stdout.write(f"sent {teacher.meter.requests}\n")
