"""The last good text of each document, kept where it outlives the process: what serves while a document is broken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from headrace.pipeline.document.parse import Stamp, read, stamp_of
from headrace.pipeline.problems import DocumentError
from headrace.state import atomic

_END = ".yaml"


class Kept:
    """Copies of documents in a folder of their own, one file for each subfolder of the pipelines' folder.

    Several processes may share the folder: each file is replaced in one step, and all write what they accepted. Those
    that only read it (`writes` False) follow the one that writes, so that all serve the same revision.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.folder = folder
        self.writes = writes

    def stamp(self, name: str) -> Stamp | None:
        """Changes when the copy does; None: there is none."""
        try:
            return stamp_of(self._file(name))
        except OSError:
            return None

    def text(self, name: str) -> str | None:
        """The copy; None: there is none, or it can't be read."""
        try:
            return read(self._file(name))
        except DocumentError:
            return None

    def save(self, name: str, text: str) -> None:
        """Keeps a text, if it is not there already. Raises OSError."""
        if self.writes and self.text(name) != text:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self._file(name), text.encode(), mode=0o600)

    def drop(self, name: str) -> None:
        """Forgets a copy, if it may. One that can't be removed is found again."""
        if self.writes:
            with suppress(OSError):
                self._file(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The subfolders of which there are copies."""
        try:
            names = [p.name for p in self.folder.iterdir()]
        except OSError:
            return []
        return sorted(n.removesuffix(_END) for n in names if n.endswith(_END))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{_END}"
