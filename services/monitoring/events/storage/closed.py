"""Where closed segments are kept: a folder. `far.py`: one whose segments move to object storage."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from headrace.events import GroupHeader
from headrace.state import plain_files
from headrace.state.files.claims import claimed
from services.monitoring.events.storage.files import ASIDE_SUFFIX, SUFFIX
from services.monitoring.events.storage.segments import (
    Segment,
    UnreadableError,
    holds_request,
    read_closed,
    read_described,
    read_header,
    write_closed,
)

T = TypeVar("T")


class AwayError(OSError):
    """Object storage can't be reached, or refuses. The text says why, without addresses and keys."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EIO, f"object storage of segments: {why}")

    def __str__(self) -> str:
        return str(self.strerror)


class ClosedSegments:
    """Closed segments by name. Methods block; they raise OSError, what reads also FileNotFoundError and UnreadableError.

    Who removes or replaces one holds its lock, so that what was removed does not come back."""

    # Whether the folder has all of them.
    all_local = True

    def __init__(self, folder: Path, aside: Path) -> None:
        self.folder = folder
        self._aside = aside

    def prepare(self) -> None:
        """Makes the folders."""
        for folder in (self.folder, self._aside):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def local_names(self) -> set[str]:
        """Those in the folder."""
        return {path.name for path in self.folder.glob(f"*{SUFFIX}")}

    def names(self) -> set[str]:
        """All of them."""
        return self.local_names()

    def write(self, table: pa.Table) -> Segment:
        """Makes a segment of a table of at least one event."""
        return write_closed(self.folder, table)

    def settle(self, name: str) -> None:
        """When this returns, a segment that was just written is where it will be kept."""

    def read(self, name: str) -> pa.Table:
        """Its events."""
        return self._from(name, read_closed)

    def holds_request(self, name: str, request_id: str) -> bool:
        """Whether it may have events of a request."""
        return self._from(name, lambda source: holds_request(source, request_id))

    def header(self, name: str) -> GroupHeader:
        """What its events have in common."""
        return self._from(name, read_header)

    def described(self, name: str) -> tuple[Segment, str]:
        """What the index keeps of it, and its replica."""
        return self._from(name, lambda source: read_described(source, name))

    def remove(self, name: str) -> None:
        """Removes it if it is there."""
        with claimed(self.folder / name, wait=True):
            (self.folder / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        """Moves it where nobody looks for events."""
        with claimed(self.folder / name, wait=True):
            (self.folder / name).rename(self._aside / (name + ASIDE_SUFFIX))

    def _from(self, name: str, read: Callable[[Path | pa.NativeFile], T]) -> T:
        path = self.folder / name
        with plain_files.opened(path):
            return read(path)


@dataclass(slots=True)
class Survey:
    """How closed segments differ from the index. `unreadable`: names, and why."""

    gone: set[str] = field(default_factory=set)
    new: list[tuple[Segment, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def survey(closed: ClosedSegments, known: set[str], there: set[str], *, everything: bool) -> Survey:
    """`known`: what the index had before `there` was listed; `everything`: what is not there is gone. Raises OSError."""
    found = Survey(gone=known - there if everything else set())
    for name in sorted(there - known):
        try:
            found.new.append(closed.described(name))
        except FileNotFoundError:
            continue  # erased or swept meanwhile
        except UnreadableError as error:
            found.unreadable.append((name, str(error)))
    return found
