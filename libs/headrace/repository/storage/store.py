"""Where a repository's files lie: the seam between models and a disk, or an object store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class EscapeError(OSError):
    """A path leads out of the repository, or to something that is no plain file."""


class Store(Protocol):
    """Files in folders. A path is names joined by `/`; whoever calls has checked each name.

    Every method raises OSError with a `strerror` for people; FileNotFoundError, FileExistsError and EscapeError mean
    what they say.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder, sorted; those that begin with `.` or `_` are nobody's business."""
        ...

    def files(self, path: str) -> list[str]:
        """Names of everything in a folder that is not a folder, hidden names too, sorted."""
        ...

    def read(self, path: str, limit: int | None = None) -> bytes:
        """A file's bytes; `limit`: refuses a longer one."""
        ...

    def create(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Writes a folder that is not there yet; the last of `files` is what makes it visible to readers."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Replaces a file in one step; makes its folder if need be."""
        ...

    def remove(self, folder: str) -> None:
        """Removes a folder and its files."""
        ...

    def lock(self, folder: str) -> AbstractContextManager[None]:
        """Keeps other writers of a folder waiting; OSError where one keeps us waiting too long."""
        ...


def open_store(root: Path | str) -> Store:
    """A folder, or any URL that fsspec knows (`s3://bucket/models`). Raises OSError if fsspec or its driver is missing."""
    # Imported here: a service on a plain folder needs no fsspec.
    if isinstance(root, str) and "://" in root:
        from headrace.repository.storage.object_store import ObjectStore

        return ObjectStore(root)
    from headrace.repository.storage.local_folder import Folder

    return Folder(Path(root))
