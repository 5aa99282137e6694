"""Writing files: checked before the work, and never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from isodistill.errors import IsodistillError


def write_text_atomically(path: Path, text: str) -> Path:
    """Writes a text file under a temporary name beside its place, then renames it.

    Args:
        path: Where the file is to stand; missing folders are made, an old file is replaced.
        text: Its contents, written as UTF-8.

    Returns:
        The path.
    """
    return write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> Path:
    """Writes a file under a temporary name beside its place, then renames it.

    Args:
        path: Where the file is to stand; missing folders are made, an old file is replaced.
        content: Its contents.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; a result is an ordinary file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def check_writable(folder: str | Path) -> Path:
    """Makes sure, before any work, that a folder can be written.

    Args:
        folder: The output folder; it is made if it does not exist.

    Returns:
        The folder.

    Raises:
        IsodistillError: if it cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise IsodistillError(
            f"output folder {path} cannot be written ({error.strerror}): choose another one"
        ) from None
    return path
