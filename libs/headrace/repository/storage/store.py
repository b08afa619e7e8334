"""Where a repository's files are stored: the interface that a folder and an object store implement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class EscapeError(OSError):
    """A path leads out of the repository."""


class Store(Protocol):
    """Files in folders. A path is names joined by `/`; the caller has checked each name.

    Every method raises OSError with a readable `strerror`, and FileNotFoundError, FileExistsError and EscapeError where these
    apply.
    """

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder, sorted, without those that begin with `.` or `_`."""
        ...

    def files(self, path: str) -> list[str]:
        """Names of all files in a folder, also hidden ones, sorted."""
        ...

    def read(self, path: str, limit: int | None = None) -> bytes:
        """A file's bytes. `limit`: a longer file is refused."""
        ...

    def create(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Writes a new folder; of several writers one succeeds. Readers look for the last of `files`, so this one is written
        last."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Replaces a file in one step; creates its folder if it is not there."""
        ...

    def remove(self, folder: str) -> None:
        """Removes a folder and its files."""
        ...


def open_store(root: Path | str) -> Store:
    """A folder, or any URL that fsspec knows (`s3://bucket/models`). Raises OSError if fsspec or its driver is missing."""
    # Imported here: a service on a plain folder needs no fsspec.
    if isinstance(root, str) and "://" in root:
        from headrace.repository.storage.object_store import ObjectStore

        return ObjectStore(root)
    from headrace.repository.storage.local_folder import Folder

    return Folder(Path(root))
