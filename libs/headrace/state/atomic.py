"""Replaces files in one step: a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces the content of `path` in one step. Once this returns, it survives a crash of the machine.

    The file is created with `mode`, so that a secret is never readable by others in between. Raises OSError that names
    `path`, which is then unchanged.
    """
    replace(path, content, mode=mode)
    try:
        sync_folder(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise


def write_first(path: Path, content: bytes, *, mode: int = 0o644) -> bool:
    """As `write`, but a file that is there stays as it is: of several processes, one writes it. Returns whether we did."""
    if path.exists():
        return False
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write(fresh, content, mode=mode)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    sync_folder(path.parent)
    return True


def replace(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """As `write`, but only once the folder was synced the new content has its name after a crash of the machine."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(path)  # a full disk gives no name, other errors that of the new file
        raise


def sync_folder(folder: Path) -> None:
    """Makes the creations and renames in `folder` survive a crash of the machine. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
