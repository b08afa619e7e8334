"""Copies of the last good text of each document: they serve while a document is broken, over restarts too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from headrace.pipeline.document.files import Stamp, read, stamp_of
from headrace.pipeline.problems import DocumentError
from headrace.state import atomic

_END = ".yaml"


class Kept:
    """Copies of documents in a folder of their own, one file for each subfolder of the pipelines' folder.

    Several processes may share the folder: each file is replaced in one step, and each process writes the texts that it
    accepted. A process that only reads (`writes` False) serves what the copies say, so that all serve the same revision.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.folder = folder
        self.writes = writes

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of the copy; None: there is no copy."""
        try:
            return stamp_of(self._file(name))
        except OSError:
            return None

    def text(self, name: str) -> str | None:
        """The text of the copy; None: there is no copy, or it can't be read."""
        try:
            return read(self._file(name))
        except DocumentError:
            return None

    def save(self, name: str, text: str) -> None:
        """Writes the copy, unless it has this text already. Raises OSError."""
        if self.writes and self.text(name) != text:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self._file(name), text.encode(), mode=0o600)

    def drop(self, name: str) -> None:
        """Removes a copy. If that fails, the next reload tries again."""
        if self.writes:
            with suppress(OSError):
                self._file(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The subfolders whose documents have a copy."""
        try:
            names = [p.name for p in self.folder.iterdir()]
        except OSError:
            return []
        return sorted(n.removesuffix(_END) for n in names if n.endswith(_END))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{_END}"
