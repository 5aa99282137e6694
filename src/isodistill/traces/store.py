"""The trace store: one SQLite file in WAL mode, append-only, shared by processes, safe against a kill at any moment."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.traces.claims import Claim, Claims
from isodistill.traces.record import Recipe, TraceFilter, TraceRecord
from isodistill.traces.schema import APPLICATION_ID, GUARDS, SCHEMA, SCHEMA_VERSION
from isodistill.traces.signals import TokenSignal

_WAIT_SECONDS = 60.0
"""How long to wait for another process that is writing; it writes for milliseconds."""

_COLUMNS = (
    "t.problem, t.teacher, t.model, t.parameters, t.prompt_version, p.set_id, p.family, p.domain, p.prompt, p.expected,"
    " t.attempt, t.text, t.answer, t.verdict, t.finish, t.prompt_tokens, t.completion_tokens, t.seconds, t.created"
)
_FROM = "FROM traces t JOIN problems p ON p.digest = t.problem"


class TraceStore:
    """A file of traces, opened for reading and writing; used from one thread.

    Args:
        path: The SQLite file; it is made if it does not exist.
        create: Whether it may be made.

    Raises:
        IsodistillError: If the file cannot be opened, is no trace store, or was written by a newer version.
    """

    def __init__(self, path: Path | str, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise IsodistillError(f"there is no trace store {self.path}: give the file that `isodistill distill` wrote")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise IsodistillError(
                f"the trace store {self.path} cannot be opened ({error}); give another file"
            ) from None
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise IsodistillError(
                f"the trace store {self.path} cannot be read ({error}); give another file, or restore it from a copy"
            ) from None
        except IsodistillError:
            self._connection.close()
            raise
        self._claims = Claims(self._connection)

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what is still claimed, and closes the file."""
        self.release_claims()
        self._connection.close()

    def add(self, record: TraceRecord) -> bool:
        """Keeps a reply; it is on the disk when this returns.

        Args:
            record: The reply.

        Returns:
            Whether it is new; a key that is there already keeps its first reply.

        Raises:
            IsodistillError: If the disk is full or the file cannot be written.
        """
        recipe = record.recipe
        with self._writing():
            self._connection.execute(
                "INSERT OR IGNORE INTO problems VALUES (?, ?, ?, ?, ?, ?)",
                (recipe.problem, record.set_id, record.family, record.domain, _text(record.prompt), record.expected),
            )
            cursor = self._connection.execute(
                "INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.key,
                    recipe.problem,
                    recipe.teacher,
                    recipe.model,
                    recipe.parameters,
                    recipe.prompt_version,
                    record.attempt,
                    _text(record.text),
                    None if record.answer is None else _text(record.answer),
                    record.verdict,
                    record.finish,
                    record.prompt_tokens,
                    record.completion_tokens,
                    record.seconds,
                    record.created,
                ),
            )
            self._claims.release(record.key)
        return cursor.rowcount == 1

    def add_failure(self, recipe: Recipe, reason: str, detail: str) -> None:
        """Notes that a request got no reply; it is asked again on the next run.

        Args:
            recipe: What was asked.
            reason: A short reason, for example ``"rate limit"``.
            detail: One line of detail; the caller has taken keys out of it.
        """
        with self._writing():
            values = (recipe.key, recipe.teacher, recipe.model, reason, _text(detail)[:500], time.time())
            self._connection.execute("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?)", values)
            self._claims.release(recipe.key)

    def find(self, keys: Sequence[str]) -> dict[str, TraceRecord]:
        """Looks replies up.

        Args:
            keys: Recipes' digests.

        Returns:
            The replies that are there, by key.
        """
        found: dict[str, TraceRecord] = {}
        for start in range(0, len(keys), 500):
            part = list(keys[start : start + 500])
            marks = ",".join("?" * len(part))
            for row in self._connection.execute(f"SELECT {_COLUMNS} {_FROM} WHERE t.key IN ({marks})", part):
                record = _record(row)
                found[record.key] = record
        return found

    def select(self, wanted: TraceFilter | None = None, key: str = "") -> Iterator[TraceRecord]:
        """Goes through the replies, oldest first.

        Args:
            wanted: Which ones; all by default.
            key: Only keys that start like this.

        Yields:
            The replies.
        """
        where, values = _where(wanted or TraceFilter())
        if key:
            where, values = f"{where} AND substr(t.key, 1, ?) = ?", [*values, len(key), key]
        yield from map(
            _record, self._connection.execute(f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY t.rowid", values)
        )

    def count(self, wanted: TraceFilter | None = None) -> int:
        """Counts replies.

        Args:
            wanted: Which ones; all by default.

        Returns:
            Their number.
        """
        where, values = _where(wanted or TraceFilter())
        return int(self._connection.execute(f"SELECT count(*) {_FROM} WHERE {where}", values).fetchone()[0])

    def mean_tokens(self, teacher: str, model: str, prompt_version: str) -> float | None:
        """Tells how long a teacher's replies have been.

        Args:
            teacher: The kind of teacher.
            model: The model's name.
            prompt_version: The instruction's version.

        Returns:
            The mean number of tokens written, or ``None`` where the store has no reply of it.
        """
        (mean,) = self._connection.execute(
            "SELECT avg(completion_tokens) FROM traces WHERE teacher = ? AND model = ? AND prompt_version = ?",
            (teacher, model, prompt_version),
        ).fetchone()
        return None if mean is None else float(mean)

    def failures(self) -> dict[str, int]:
        """Counts the requests that got no reply.

        Returns:
            How often, by reason, most frequent first.
        """
        rows = self._connection.execute("SELECT reason, count(*) FROM failures GROUP BY reason ORDER BY 2 DESC, 1")
        return {str(reason): int(number) for reason, number in rows}

    def claim(self, key: str, seconds: float) -> Claim:
        """Asks for the right to send a request, so that two processes do not pay for the same reply.

        Args:
            key: The recipe's digest.
            seconds: How long the reply may take; a claim ends then, or when its process dies.

        Returns:
            ``"mine"``, ``"taken"`` by another process, or ``"done"``: the reply is here by now.
        """
        with self._writing():
            if self._connection.execute("SELECT 1 FROM traces WHERE key = ?", (key,)).fetchone():
                return "done"
            return self._claims.claim(key, seconds)

    def release_claims(self) -> None:
        """Gives back every claim of this process."""
        with self._writing():
            self._claims.release_all()

    def add_signal(
        self, prompt: str, completion: str, scorer: str, vocabulary: str, k: int, signal: TokenSignal
    ) -> None:
        """Keeps a teacher's token distributions over a completion.

        Args:
            prompt: The digest of the rendered prompt.
            completion: The digest of the completion.
            scorer: The model that gave them.
            vocabulary: The vocabulary's digest.
            k: How many tokens were asked for at each position.
            signal: The distributions.
        """
        values = (prompt, completion, scorer, vocabulary, k, len(signal.token_ids), signal.to_bytes(), time.time())
        with self._writing():
            self._connection.execute("INSERT OR IGNORE INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def find_signal(self, prompt: str, completion: str, scorer: str, vocabulary: str, k: int) -> TokenSignal | None:
        """Looks token distributions up.

        Args:
            prompt: The digest of the rendered prompt.
            completion: The digest of the completion.
            scorer: The model that gave them.
            vocabulary: The vocabulary's digest.
            k: How many tokens were asked for at each position.

        Returns:
            The distributions, or ``None`` where there are none.

        Raises:
            IsodistillError: If they are damaged.
        """
        row = self._connection.execute(
            "SELECT data FROM signals WHERE prompt = ? AND completion = ? AND scorer = ? AND vocabulary = ? AND k = ?",
            (prompt, completion, scorer, vocabulary, k),
        ).fetchone()
        return None if row is None else TokenSignal.from_bytes(row[0], f"a token signal in {self.path}")

    def signal_sizes(self) -> tuple[int, int, int]:
        """Tells how much the token distributions take.

        Returns:
            The number of completions, of tokens, and of bytes.
        """
        row = self._connection.execute(
            "SELECT count(*), coalesce(sum(tokens), 0), coalesce(sum(length(data)), 0) FROM signals"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def signal_sources(self) -> list[tuple[str, str, int]]:
        """Tells whose token distributions are here.

        Returns:
            Each scorer, its vocabulary's digest and k, in order.
        """
        rows = self._connection.execute("SELECT DISTINCT scorer, vocabulary, k FROM signals ORDER BY 1, 2, 3")
        return [(str(scorer), str(vocabulary), int(k)) for scorer, vocabulary, k in rows]

    def prune_signals(self) -> int:
        """Deletes all token distributions; a local model gives them again.

        Returns:
            How many completions had one.
        """
        with self._unguarded():
            cursor = self._connection.execute("DELETE FROM signals")
        self._connection.execute("VACUUM")
        return cursor.rowcount

    def prune(self, wanted: TraceFilter) -> int:
        """Deletes replies for good, and gives their space back.

        Args:
            wanted: Which ones.

        Returns:
            How many were deleted.
        """
        where, values = _where(wanted)
        with self._unguarded():
            cursor = self._connection.execute(
                f"DELETE FROM traces WHERE key IN (SELECT t.key {_FROM} WHERE {where})", values
            )
            self._connection.execute("DELETE FROM problems WHERE digest NOT IN (SELECT problem FROM traces)")
        self._connection.execute("VACUUM")
        return cursor.rowcount

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a reply costs more than the disk's answer
        with self._writing():
            application, version = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if application == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif application != APPLICATION_ID:
                raise IsodistillError(f"the file {self.path} is a database but no trace store; give another file")
            elif version > SCHEMA_VERSION:
                raise IsodistillError(
                    f"the trace store {self.path} has the format {version}, this version reads {SCHEMA_VERSION};"
                    " upgrade isodistill"
                )

    @contextmanager
    def _unguarded(self) -> Iterator[None]:
        """One transaction that may delete; the guards come back in it."""
        with self._writing():
            for name, _ in GUARDS:
                self._connection.execute(f"DROP TRIGGER {name}")
            yield
            for _, statement in GUARDS:
                self._connection.execute(statement)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it reaches the disk or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise IsodistillError(
                f"the trace store {self.path} cannot be written ({error}); free it or make it writable, then run again"
            ) from None
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise IsodistillError(
                    f"the trace store {self.path} cannot be written ({error}); mend that and run again: what it holds"
                    " is kept"
                ) from None
            raise


def _record(row: Iterable[Any]) -> TraceRecord:
    problem, teacher, model, parameters, prompt_version, *others = row
    return TraceRecord(Recipe(problem, teacher, model, parameters, prompt_version), *others)


def _where(wanted: TraceFilter) -> tuple[str, list[Any]]:
    columns = {
        "t.teacher": wanted.teacher,
        "t.model": wanted.model,
        "t.prompt_version": wanted.prompt_version,
        "p.family": wanted.family,
        "p.domain": wanted.domain,
        "t.verdict": None if wanted.verdict == "rejected" else wanted.verdict,
    }
    parts = ["1"]
    values: list[Any] = []
    for column, value in columns.items():
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if wanted.verdict == "rejected":
        parts.append("t.verdict <> 'accepted'")
    if wanted.before is not None:
        parts.append("t.created < ?")
        values.append(wanted.before)
    return " AND ".join(parts), values


def _text(text: str) -> str:
    """Makes any string one that a database can hold: a lone surrogate is not text."""
    return text.encode("utf-8", "replace").decode("utf-8")
