"""The audits that are hash chains in files: what happened, and whether the chain still holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.state import chain

_MOST = 500


@dataclass(frozen=True, slots=True)
class TrailView:
    """The newest entries of an audit, newest first. `problem`: why it can't be trusted or read; empty: the chain holds."""

    title: str
    entries: Sequence[Mapping[str, Any]]
    count: int
    problem: str = ""


class ChainTrail:
    """A file of `headrace.state.chain`. Verified from the first line whenever the file has changed. Threads may share it.

    `name`: a word for addresses and programs."""

    def __init__(self, name: str, title: str, path: Path) -> None:
        self.name = name
        self._title = title
        self._path = path
        self._seen: tuple[tuple[int, ...], TrailView] | None = None

    def read(self, newest: int) -> TrailView:
        """Verifies it and returns its newest entries. Blocks. Raises OSError."""
        try:
            stamp = _stamp(self._path)
        except FileNotFoundError:
            return TrailView(self._title, (), 0)
        seen = self._seen
        if seen is None or seen[0] != stamp:
            seen = (stamp, self._verified())
            self._seen = seen
        view = seen[1]
        return TrailView(view.title, view.entries[:newest], view.count, view.problem)

    def _verified(self) -> TrailView:
        last: deque[dict[str, Any]] = deque(maxlen=_MOST)
        count, problem = 0, ""
        try:
            for entry in chain.entries(self._path):
                count += 1
                last.append(entry)
        except ValueError as error:
            # The text begins with the path, which is nobody's business on a page.
            problem = str(error).removeprefix(f"{self._path}, ")
        return TrailView(self._title, tuple(reversed(last)), count, problem)


def _stamp(path: Path) -> tuple[int, ...]:
    # ctime too: unlike mtime, nobody can set it back.
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
