"""A lock for writers in an object store: the writer that creates the lock object holds the lock."""

from __future__ import annotations

import errno
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

# A change writes a few objects: a writer that holds the lock for longer than this is dead, or has very large models.
_PATIENCE_S = 60.0
_LOOK_S = 0.1


@contextmanager
def held(
    files: Any,
    path: str,
    patience: float = _PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds the lock at `path` of a file system of fsspec.

    The store itself decides which writer was first (S3: If-None-Match; likewise GCS, Azure, a disk). The lock of a dead writer
    is never taken over: two writers that did so at once would both believe that they hold it. Raises OSError.
    """
    mine = json.dumps(
        {"by": uuid.uuid4().hex, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    ).encode()
    until = clock() + patience
    while not _made(files, path, mine):
        if clock() >= until:
            raise OSError(errno.EBUSY, _why(files, path), path)
        sleep(_LOOK_S)
    try:
        yield
    finally:
        # If somebody removed our lock meanwhile, the object may be another writer's: that one stays.
        if _content(files, path) == mine:
            files.rm_file(path)


def _made(files: Any, path: str, content: bytes) -> bool:
    try:
        if "file" in files.protocol:
            # fsspec checks first and writes afterwards, so two writers could both succeed.
            with files.open(path, "xb") as file:
                file.write(content)
        else:
            files.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    # A driver that ignores the mode has overwritten the object: then the last writer holds the lock.
    return _content(files, path) == content


def _content(files: Any, path: str) -> bytes | None:
    try:
        content: bytes = files.cat_file(path)
    except FileNotFoundError:
        return None
    return content


def _why(files: Any, path: str) -> str:
    try:
        since = f" since {json.loads(_content(files, path) or b'')['since']}"
    except (ValueError, KeyError, TypeError):
        since = ""
    return f"another writer is at work there{since}; if that one is dead, remove {path}"
