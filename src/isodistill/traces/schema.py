"""The tables of a trace store, and the triggers that keep them append-only."""

from __future__ import annotations

APPLICATION_ID = 0x69736F64  # "isod"
"""Marks a SQLite file as a trace store."""

SCHEMA_VERSION = 1
"""Raised when a table changes; a file of a newer version is refused."""

GUARDS = tuple(
    (
        f"{table}_no_{action.lower()}",
        f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the trace store is append-only'); END",
    )
    for table in ("traces", "signals")
    for action in ("UPDATE", "DELETE")
)
"""The name and the statement of each trigger."""

SCHEMA = (
    """CREATE TABLE problems (
        digest TEXT PRIMARY KEY, set_id TEXT NOT NULL, family TEXT NOT NULL, domain TEXT NOT NULL,
        prompt TEXT NOT NULL, expected TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE traces (
        key TEXT PRIMARY KEY, problem TEXT NOT NULL REFERENCES problems (digest), teacher TEXT NOT NULL,
        model TEXT NOT NULL, parameters TEXT NOT NULL, prompt_version TEXT NOT NULL, attempt INTEGER NOT NULL,
        text TEXT NOT NULL, answer TEXT, verdict TEXT NOT NULL, finish TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL,
        created REAL NOT NULL
    ) STRICT""",
    "CREATE INDEX traces_by_problem ON traces (problem)",
    """CREATE TABLE failures (
        key TEXT NOT NULL, teacher TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
        created REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE signals (
        prompt TEXT NOT NULL, completion TEXT NOT NULL, scorer TEXT NOT NULL, vocabulary TEXT NOT NULL,
        k INTEGER NOT NULL, tokens INTEGER NOT NULL, data BLOB NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (prompt, completion, scorer, vocabulary, k)
    ) STRICT""",
    "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID",
    *(statement for _, statement in GUARDS),
)
"""The statements that make an empty store."""
