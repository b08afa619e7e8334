"""One writer at a time in an object store: who makes the lock's object has the lock."""

from __future__ import annotations

import errno
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

# A change writes a few objects: whoever holds a lock for longer than this is dead, or has very large models.
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

    The store itself decides who was first (S3: If-None-Match; likewise GCS, Azure, a disk). A lock is never taken from
    anybody: two who take it from the same dead writer would both believe that it is theirs. Raises OSError.
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
        # Another's, if somebody removed ours meanwhile: that one is not ours to give back.
        if _content(files, path) == mine:
            files.rm_file(path)


def _made(files: Any, path: str, content: bytes) -> bool:
    try:
        if "file" in files.protocol:
            # fsspec's own way looks first and writes then, which two can do at once.
            with files.open(path, "xb") as file:
                file.write(content)
        else:
            files.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    # A driver that does not know the mode has overwritten: of several, the last has it.
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
