"""What of a home a backup holds."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headrace.cli.installation.layout import Layout

# Of a run (sockets, logs, traces, ports), or made again by `headrace up`; deployed versions lie in checkouts of their own.
LEFT_OUT = frozenset({"deployed", "prepare.lock", "replay", "run"})
_SQLITE = b"SQLite format 3\0"
_SQLITE_WAIT_S = 30.0


def files(layout: Layout) -> Iterator[Path]:
    """The regular files, relative to the home. Links are not followed and not kept: nothing of ours makes one.

    The side files of SQLite are left out, because a copy of the database has what is in them.
    """
    for root, folders, names in os.walk(layout.home):
        if Path(root) == layout.home:
            # A hidden one is of a file that is being replaced.
            folders[:] = [name for name in folders if name not in LEFT_OUT]
            names = [name for name in names if name not in LEFT_OUT and not name.startswith(".")]
        folders.sort()
        for path in (Path(root) / name for name in sorted(names)):
            if path.is_file() and not path.is_symlink() and not _is_side_file(path):
                yield path.relative_to(layout.home)


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
