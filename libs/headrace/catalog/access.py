"""What can be done with records, whoever has them: this process' database, or control."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.audit.chain import AuditLine

# Of each record so many versions are kept; older ones are deleted.
KEPT_VERSIONS = 10


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of the records. `epoch`: from 1; rises when the history is begun anew. `number`: of the last change.
    `head`: SHA-256 of the audit's line of that number, 32 bytes."""

    epoch: int
    number: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One version of a record. `version`: from 1. `number`: of the change that wrote it. `content` None: it was deleted (or the
    contents were not asked for)."""

    kind: str
    name: str
    version: int
    number: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Write:
    """What becomes of one record. `content` None: it is deleted. `expected`: the version that it must have now (0: it was never
    written); None: any."""

    kind: str
    name: str
    content: bytes | None
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseToken:
    """Proves that a lease is held."""

    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction. `actor`: who makes it; `action`: what is done (`release.deploy`); `subject`: what to (a pipeline's name).
    `id`: the change is made once for each, so a caller that did not hear the answer may send it again. `lease`: must be held at
    the commit. `requires`: (kind, name) → the version that further records must have then; 0: never written."""

    actor: str
    action: str
    subject: str
    writes: Sequence[Write] = ()
    reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    lease: LeaseToken | None = None
    requires: Mapping[tuple[str, str], int] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Made:
    """A change that was made. `records`: as they were written, in the order of the writes, without contents."""

    position: Position
    records: tuple[Record, ...]


class Records(Protocol):
    """Threads may share it; methods block. All raise RecordsUnavailableError (an OSError)."""

    def read(self, kind: str, name: str, versions: int = 1) -> list[Record]:
        """The newest versions, newest first; empty: it was never written."""
        ...

    def list(self, kind: str, prefix: str = "", *, names_only: bool = False) -> list[Record]:
        """The newest version of each record of the kind, by name, without deleted ones."""
        ...

    def change(self, change: Change) -> Made:
        """All writes and the audit's line, or nothing.

        Raises RecordChangedError, LeaseLostError, RecordInvalidError, RecordsDivergedError.
        """
        ...

    def position(self) -> Position:
        """The newest position."""
        ...

    def wait(self, known: Position | None, timeout_s: float) -> Position:
        """Returns the position as soon as it differs from `known`, at the latest after `timeout_s`."""
        ...

    def lines(self, after: int = 0) -> Iterator[AuditLine]:
        """The audit's lines with a greater number, oldest first."""
        ...

    def take_lease(self, name: str, holder: str, duration_s: float, token: str = "") -> str:
        """Takes a lease, or with its `token` prolongs it. Returns the token; "": somebody else holds it, or it has ended and
        must be taken anew."""
        ...

    def give_back(self, lease: LeaseToken) -> None:
        """Ends the lease early, if it is still held."""
        ...

    def close(self) -> None:
        """Ends connections; a `wait` in progress returns."""
        ...
