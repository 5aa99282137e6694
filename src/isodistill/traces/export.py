"""Takes traces out of the store, as lines of JSON."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.traces.record import TraceRecord


def export_records(records: Iterable[TraceRecord], out: Path) -> int:
    """Writes records to a file, one JSON object a line, whole or not at all.

    Args:
        records: The records; they are written as they come, so there may be any number.
        out: The file; it is replaced if it exists.

    Returns:
        How many were written.

    Raises:
        IsodistillError: If the file cannot be written.
    """
    count = 0
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=out.parent, delete=False) as file:
            temporary = Path(file.name)
            for record in records:
                file.write(json.dumps(record.as_dict(), ensure_ascii=False) + "\n")
                count += 1
        os.replace(temporary, out)
    except OSError as error:
        raise IsodistillError(
            f"the traces cannot be written to {out} ({error.strerror}): choose another file"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return count
