"""A repository in an object store, or in another place that fsspec can reach."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

_HIDDEN = (".", "_")


class ObjectStore:
    """Objects under a URL. There are no symbolic links.

    The driver finds the credentials itself (environment, profile, machine role); this code never handles them.
    """

    def __init__(self, url: str) -> None:
        try:
            # Not a dependency of every service: only users of URLs install it.
            import fsspec
        except ImportError:
            raise OSError(errno.ENOPKG, "needs the package fsspec and a driver for the URL", url) from None
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise OSError(errno.ENOPKG, f"can't be reached: {error}", url) from error
        # A cached listing would hide what another process has published.
        self._files.use_listings_cache = False

    def folders(self, path: str) -> list[str]:
        entries = self._list(path, "directory")
        return [name for name in entries if not name.startswith(_HIDDEN)]

    def files(self, path: str) -> list[str]:
        return self._list(path, "file")

    def read(self, path: str, limit: int | None = None) -> bytes:
        at = self._at(path)
        try:
            if limit is not None and (size := int(self._files.size(at) or 0)) > limit:
                raise OSError(errno.EFBIG, f"has {size} bytes, more than {limit}", path)
            content: bytes = self._files.cat_file(at)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        return content

    def create(self, folder: str, files: Mapping[str, bytes]) -> None:
        if self._files.exists(self._at(folder)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder)
        # In this order: readers look for the last file, and of two writers one creates the first.
        for name, content in files.items():
            self._put(f"{folder}/{name}", content, new=True)

    def replace(self, path: str, content: bytes) -> None:
        self._put(path, content)

    def remove(self, folder: str) -> None:
        self._files.rm(self._at(folder), recursive=True)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else str(self._root)

    def _put(self, path: str, content: bytes, *, new: bool = False) -> None:
        """`new`: the store itself decides which writer was first (S3: If-None-Match; likewise GCS, Azure, a disk)."""
        at = self._at(path)
        self._files.makedirs(at.rpartition("/")[0], exist_ok=True)
        if new and "file" in self._files.protocol:
            # fsspec checks first and writes afterwards, so two writers could both succeed.
            with self._files.open(at, "xb") as file:
                file.write(content)
        elif new:
            self._files.pipe_file(at, content, mode="create")
        else:
            self._files.pipe_file(at, content)

    def _list(self, path: str, kind: str) -> list[str]:
        try:
            entries: list[dict[str, Any]] = self._files.ls(self._at(path), detail=True)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == kind)
