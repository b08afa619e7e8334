"""What is stored of events, in the database `facts`: each number of a stream once, batches until they are in a file, files with
hash and size. A file is read only if it is listed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Protocol, TypeVar

import sqlalchemy as sa

from services.monitoring.database.columns import insert
from services.monitoring.events.manifest.ranges import Ranges
from services.monitoring.events.manifest.tables import BATCHES, FILES, RANGES, STREAMS
from services.monitoring.events.values import MAX_US, Batch, ErasedEvent, Erasure, EventFile

T = TypeVar("T")
Also = Callable[[sa.Connection], object]
"""What is done in the same transaction."""


class Facts(Protocol):
    """The database. Methods block and raise StorageError."""

    def query(self, work: Callable[[sa.Connection], T]) -> T: ...
    def write(self, work: Callable[[sa.Connection], T]) -> T: ...


class Forget(Protocol):
    """Removes what else the database has of events that an erasure found; without events, what else it names."""

    def __call__(self, connection: sa.Connection, *, who: Erasure, gone: Sequence[ErasedEvent]) -> None: ...


class State(StrEnum):
    """Of a file. It is on its way (`WRITING`), read (`LIVE`), or about to be removed (`DOOMED`)."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"


class ChangedError(Exception):
    """What was read has changed meanwhile: another process was first."""


@dataclass(slots=True)
class Stream:
    """What is known of one stream of events. `noted`: those that the router made; `heard`: seconds since 1970."""

    replica: str
    noted: int
    heard: float
    received: Ranges


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Events to store. `kind`: the same for all that may be in one file. Times in µs since 1970."""

    kind: str
    pipeline: str
    content: bytes
    rows: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Batches of one kind that are in no file. `since`: when the oldest was stored, seconds since 1970."""

    kind: str
    pipeline: str
    rows: int
    bytes: int
    since: float


class Manifest:
    """Methods block and raise StorageError; then nothing of the call was done."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def store(
        self,
        replica: str,
        epoch: int,
        noted: int,
        now: float,
        fresh: Callable[[Ranges], tuple[Sequence[NewBatch], Ranges]],
    ) -> None:
        """Stores what `fresh` gives for the numbers that are stored already: batches, and their numbers. All, or nothing."""

        def work(connection: sa.Connection) -> None:
            _hear(connection, epoch, Stream(replica, noted, now, Ranges()))
            known = _ranges(connection, epoch).get(epoch, Ranges())
            batches, numbers = fresh(known)
            for batch in batches:
                _add(connection, batch, now)
            if len(numbers):
                _extend(connection, epoch, known, numbers)

        self._facts.write(work)

    def streams(self) -> dict[int, Stream]:
        """All streams, by epoch."""

        def work(connection: sa.Connection) -> dict[int, Stream]:
            rows = connection.execute(sa.select(STREAMS)).all()
            received = _ranges(connection, None)
            return {
                r.epoch: Stream(r.replica, r.noted, r.heard, received.get(r.epoch, Ranges())) for r in rows
            }

        return self._facts.query(work)

    def forget(self, oldest: float) -> None:
        """Streams of which nothing was heard since then go."""

        def work(connection: sa.Connection) -> None:
            connection.execute(STREAMS.delete().where(STREAMS.c.heard < oldest))
            connection.execute(RANGES.delete().where(RANGES.c.epoch.not_in(sa.select(STREAMS.c.epoch))))

        self._facts.write(work)

    def waiting(self) -> list[Waiting]:
        """What is in no file yet, by kind."""
        found = sa.select(
            BATCHES.c.kind,
            BATCHES.c.pipeline,
            sa.cast(sa.func.sum(BATCHES.c.rows), sa.BigInteger),
            sa.cast(sa.func.sum(BATCHES.c.bytes), sa.BigInteger),
            sa.func.min(BATCHES.c.stored),
        ).group_by(BATCHES.c.kind, BATCHES.c.pipeline)
        return self._facts.query(lambda c: [Waiting(*row) for row in c.execute(found)])

    def oldest(self, kind: str, most_bytes: int) -> list[Batch]:
        """The oldest batches of a kind, at least one, together about `most_bytes`."""

        def work(connection: sa.Connection) -> list[Batch]:
            sizes = (
                sa.select(BATCHES.c.id, BATCHES.c.bytes).where(BATCHES.c.kind == kind).order_by(BATCHES.c.id)
            )
            last, size = 0, 0
            for identity, more in connection.execute(sizes):
                if last and size + more > most_bytes:
                    break
                last, size = identity, size + more
            return _batches(connection, BATCHES.c.kind == kind, BATCHES.c.id <= last)

        return self._facts.query(work)

    def begin(self, path: str, now: float) -> None:
        """A file is about to be written."""
        row = {"path": path, "state": State.WRITING, "audited": "", "since": now}
        self._facts.write(lambda c: c.execute(FILES.insert(), row))

    def close(self, file: EventFile, batches: Sequence[int], now: float) -> None:
        """A file holds these batches. Raises ChangedError: another process put them into one."""

        def work(connection: sa.Connection) -> None:
            if _state(connection, file.path) == State.LIVE:
                return  # it was run again
            gone = connection.execute(BATCHES.delete().where(BATCHES.c.id.in_(batches))).rowcount
            if gone != len(batches):
                raise ChangedError
            _publish(connection, file, now)

        self._facts.write(work)

    def replace(self, old: str, new: EventFile | None, now: float, also: Also) -> None:
        """A file stands for another one, or (None) nothing does; `also` is done with it. Raises ChangedError: the other one is
        not read any more."""

        def work(connection: sa.Connection) -> None:
            if new is not None and _state(connection, new.path) == State.LIVE:
                return  # it was run again
            if (
                not _doom(connection, FILES.c.path == old, FILES.c.state == State.LIVE, now=now)
                and new is not None
            ):
                raise ChangedError
            if new is not None:
                _publish(connection, new, now)
            also(connection)

        self._facts.write(work)

    def also(self, what: Also) -> None:
        """In a transaction of its own."""
        self._facts.write(what)

    def doom(self, paths: Iterable[str], now: float) -> None:
        """These files are read no more."""
        names = list(paths)
        self._facts.write(lambda c: _doom(c, FILES.c.path.in_(names), now=now))

    def doomed(self, written_before: float) -> list[str]:
        """Files to be removed: no longer read, or begun before then and never completed."""
        stale = sa.and_(FILES.c.state == State.WRITING, FILES.c.since < written_before)
        found = sa.select(FILES.c.path).where(sa.or_(FILES.c.state == State.DOOMED, stale))
        return self._facts.query(lambda c: list(c.execute(found).scalars()))

    def removed(self, paths: Sequence[str]) -> None:
        """These files are gone. Those of which the audit says that they are there stay listed until it says that they went."""
        gone = FILES.delete().where(FILES.c.path.in_(paths), FILES.c.audited != State.LIVE)
        self._facts.write(lambda c: c.execute(gone))

    def unaudited(self, limit: int) -> list[tuple[str, State, str]]:
        """Path, state and hash of files of which the audit does not say yet that they are there, or went; the oldest first."""
        new = sa.and_(FILES.c.state == State.LIVE, FILES.c.audited == "")
        old = sa.and_(FILES.c.state == State.DOOMED, FILES.c.audited == State.LIVE)
        found = sa.select(FILES.c.path, FILES.c.state, FILES.c.sha256).where(sa.or_(new, old))
        found = found.order_by(FILES.c.since).limit(limit)
        return self._facts.query(lambda c: [(path, State(s), digest) for path, s, digest in c.execute(found)])

    def audited(self, path: str, state: State) -> None:
        """The audit says so of a file."""
        self._facts.write(
            lambda c: c.execute(FILES.update().where(FILES.c.path == path).values(audited=state))
        )

    def hashes(self) -> dict[str, str]:
        """Of the files of which the audit says that they are there, by path."""
        found = sa.select(FILES.c.path, FILES.c.sha256).where(FILES.c.audited == State.LIVE)
        return self._facts.query(lambda c: {row.path: row.sha256 for row in c.execute(found)})

    def paths(self) -> set[str]:
        """Of all files that may be there, in any state."""
        return self._facts.query(lambda c: set(c.execute(sa.select(FILES.c.path)).scalars()))

    def files(self) -> list[EventFile]:
        """Those that are read, the newest first."""
        return self._facts.query(lambda c: _files(c))

    def possible(
        self, *, pipeline: str = "", tenant: str = "", first_us: int = 0, last_us: int = MAX_US
    ) -> tuple[list[EventFile], list[Batch]]:
        """Files and batches that may hold such events, as of one moment, the newest first."""

        def work(connection: sa.Connection) -> tuple[list[EventFile], list[Batch]]:
            conditions = [FILES.c.last_us >= first_us, FILES.c.first_us <= last_us]
            opened = [BATCHES.c.last_us >= first_us, BATCHES.c.first_us <= last_us]
            if pipeline:
                conditions.append(FILES.c.pipeline == pipeline)
                opened.append(BATCHES.c.pipeline == pipeline)
            files = [f for f in _files(connection, *conditions) if not tenant or tenant in f.tenants]
            return files, _batches(connection, *opened)

        return self._facts.query(work)

    def extent(self, pipeline: str) -> tuple[object, ...]:
        """How many events of a pipeline are stored, and the newest time: as before unless some came or went."""
        live = sa.select(FILES.c.rows, FILES.c.last_us).where(
            FILES.c.state == State.LIVE, FILES.c.pipeline == pipeline
        )
        opened = sa.select(BATCHES.c.rows, BATCHES.c.last_us).where(BATCHES.c.pipeline == pipeline)
        both = sa.union_all(live, opened).subquery()
        found = sa.select(sa.func.sum(both.c.rows), sa.func.max(both.c.last_us))
        return self._facts.query(lambda c: tuple(c.execute(found).one()))

    def size_bytes(self) -> int:
        """Of files and batches."""
        live = sa.select(sa.func.coalesce(sa.func.sum(FILES.c.bytes), 0)).where(FILES.c.state == State.LIVE)
        opened = sa.select(sa.func.coalesce(sa.func.sum(BATCHES.c.bytes), 0))
        return self._facts.query(
            lambda c: int(c.execute(live).scalar_one()) + int(c.execute(opened).scalar_one())
        )


def _hear(connection: sa.Connection, epoch: int, stream: Stream) -> None:
    """The row of a stream is locked from here on: who stores events of it waits for the one before."""
    row = {"epoch": epoch, "replica": stream.replica, "noted": stream.noted, "heard": stream.heard}
    connection.execute(_hearing(connection.dialect.name), row)


# Statements of `store` are built once: it runs before the answer of a regulated prediction leaves.
@cache
def _hearing(dialect: str) -> sa.Insert:
    given = insert(dialect, STREAMS)
    new, old = given.excluded, STREAMS.c
    latest = {
        name: sa.case((old[name] < new[name], new[name]), else_=old[name]) for name in ("noted", "heard")
    }
    return given.on_conflict_do_update(index_elements=["epoch"], set_=latest)


@cache
def _extending(dialect: str) -> sa.Insert:
    given = insert(dialect, RANGES)
    return given.on_conflict_do_update(index_elements=["epoch", "first"], set_={"last": given.excluded.last})


_RANGES_OF = sa.select(RANGES).where(RANGES.c.epoch == sa.bindparam("of"))
_ADDING = BATCHES.insert()


def _ranges(connection: sa.Connection, epoch: int | None) -> dict[int, Ranges]:
    """Of one stream, or of all; by epoch."""
    rows = (
        connection.execute(sa.select(RANGES))
        if epoch is None
        else connection.execute(_RANGES_OF, {"of": epoch})
    )
    found: dict[int, Ranges] = {}
    for of, first, last in rows:
        found.setdefault(of, Ranges()).add(first, last)
    return found


def _extend(connection: sa.Connection, epoch: int, known: Ranges, more: Ranges) -> None:
    before = set(known.ranges())
    after = set(Ranges([*before, *more.ranges()]).ranges())
    firsts = {first for first, _ in before} - {first for first, _ in after}
    if firsts:
        connection.execute(RANGES.delete().where(RANGES.c.epoch == epoch, RANGES.c.first.in_(firsts)))
    rows = [{"epoch": epoch, "first": first, "last": last} for first, last in after - before]
    connection.execute(_extending(connection.dialect.name), rows)


def _add(connection: sa.Connection, batch: NewBatch, now: float) -> None:
    connection.execute(_ADDING, asdict(batch) | {"bytes": len(batch.content), "stored": now})


def _batches(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Batch]:
    found = (
        sa.select(BATCHES.c.id, BATCHES.c.kind, BATCHES.c.content).where(*conditions).order_by(BATCHES.c.id)
    )
    return [Batch(*row) for row in connection.execute(found)]


def _files(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[EventFile]:
    found = (
        sa.select(*(FILES.c[field.name] for field in fields(EventFile)))
        .where(FILES.c.state == State.LIVE, *conditions)
        .order_by(FILES.c.last_us.desc(), FILES.c.path)
    )
    return [
        EventFile(**{**row, "tenants": tuple(json.loads(row["tenants"]))})
        for row in connection.execute(found).mappings()
    ]


def _state(connection: sa.Connection, path: str) -> str | None:
    return connection.execute(sa.select(FILES.c.state).where(FILES.c.path == path)).scalar()


def _publish(connection: sa.Connection, file: EventFile, now: float) -> None:
    values = asdict(file) | {"state": State.LIVE, "since": now, "tenants": json.dumps(file.tenants)}
    connection.execute(FILES.update().where(FILES.c.path == file.path).values(values))


def _doom(connection: sa.Connection, *conditions: sa.ColumnElement[bool], now: float) -> int:
    return connection.execute(
        FILES.update().where(*conditions).values(state=State.DOOMED, since=now)
    ).rowcount
