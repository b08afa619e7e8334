"""What of a home a backup holds."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headrace.cli.installation.layout import Layout

# Names at the top of a home. A test compares both lists with a home that has run.
KEPT = frozenset(
    {
        "audit",
        "control.key",
        "control.pub",
        "data",
        "demo.key",
        "events.salt",
        "executor",
        "feast",
        "flights.json",
        "idempotency",
        "journal",
        "kept",
        "models",
        "models.key",
        "models.pub",
        "moderation.json",
        "monitoring",
        "operator.key",
        "pipelines",
        "prepared_models.json",
        "queries",
        "records",
        "rollouts",
        "settings",
        "tls",
    }
)
# Of a run (sockets, logs, traces, ports), or made again by `headrace up`; deployed versions come from their registry.
LEFT_OUT = frozenset({"deployed", "prepare.lock", "replay", "run"})
_SQLITE = b"SQLite format 3\0"
_SQLITE_WAIT_S = 30.0


def files(layout: Layout) -> Iterator[Path]:
    """The regular files, relative to the home, sorted. Links are not followed and not kept: nothing of ours makes one.

    The side files of SQLite are left out, because a copy of the database has what is in them.
    """
    for top in sorted(KEPT):
        path = layout.home / top
        found = sorted(_below(path)) if path.is_dir() and not path.is_symlink() else [path]
        for each in found:
            if each.is_file() and not each.is_symlink() and not _is_side_file(each):
                yield each.relative_to(layout.home)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in names)


def _is_side_file(path: Path) -> bool:
    for ending in ("-wal", "-shm", "-journal"):
        if path.name.endswith(ending):
            return is_sqlite(path.with_name(path.name.removesuffix(ending)))
    return path.suffix in (".lock", ".tmp") or path.name == ".lock"


def is_sqlite(path: Path) -> bool:
    """Whether it is a database of SQLite, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


class DatabaseError(Exception):
    """SQLite can't copy a database; the text says why."""


@contextmanager
def stable(path: Path) -> Iterator[Path]:
    """A file that does not change while it is read: a database that is in use is copied by SQLite first.

    Raises DatabaseError, OSError.
    """
    if not is_sqlite(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="headrace-backup-") as folder:
        copy = Path(folder) / path.name
        try:
            with (
                closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_SQLITE_WAIT_S)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
        except sqlite3.Error as error:
            raise DatabaseError(f"SQLite can't copy it ({error})") from error
        yield copy
