"""Values of stored events: what is asked for, what is erased, the files. Times are in µs since 1970, both ends included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

MAX_US = (1 << 63) - 1


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an event stands among all: the newest have the greatest."""

    time_us: int
    sequence: int
    event_id: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Which events; an empty field chooses all. `row`: of the request `request_id`; None: all of its rows. `before`: only what
    stands behind this."""

    event_id: bytes = b""
    pipeline: str = ""
    tenant: str = ""
    request_id: str = ""
    row: int | None = None
    first_us: int = 0
    last_us: int = MAX_US
    limit: int = 20
    before: Position | None = None
    trace_id: str = ""
    arm: str = ""
    release: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """Whoever a value of an input stands for; text, as `headrace.events.mask.texts` writes it. `masked`: its hash, where the
    input is masked; None: the salt is not known."""

    column: str
    value: str
    masked: bytes | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose events go: of one tenant all, or those of any of the requests or subjects."""

    tenant: str
    subjects: tuple[Subject, ...] = ()
    request_ids: tuple[str, ...] = ()
    whole_tenant: bool = False


class ErasedEvent(NamedTuple):
    """What is known elsewhere of an event that goes. `row`: of its request."""

    event_id: bytes
    request_id: str
    row: int


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file of events. `path`: below the root of all files; `sha256`: hexadecimal; `header`: what the events have in common,
    as JSON."""

    path: str
    sha256: str
    bytes: int
    rows: int
    pipeline: str
    first_us: int
    last_us: int
    tenants: tuple[str, ...]
    header: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are in no file yet. `kind`: the same for all that may be in one file; `content`: `packed` by `files.arrow`."""

    id: int
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not what was stored."""

    path: str
    why: str


class MaskedError(Exception):
    """Nobody can be found by this input: hashes stand in the place of its values, and their salt is not known here."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class FileDamagedError(Exception):
    """A file can't be read. `why`: without paths."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why


@dataclass(slots=True)
class Newest:
    """Tables of the newest events that fit, each with the newest first; the positions of all of them; files that could not be
    read."""

    tables: list[pa.Table] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
