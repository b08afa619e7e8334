"""Stores events: each number of a stream once, committed to the database; by size or age they go into files."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from headrace.events import SEQUENCE, TIME_US, EventGroup, GroupHeader
from services.monitoring.events.files.arrow import header_of, packed, record_batch, unpacked, unpacked_header
from services.monitoring.events.files.location import SUFFIX
from services.monitoring.events.manifest.manifest import (
    Also,
    ChangedError,
    Forget,
    Manifest,
    NewBatch,
    Waiting,
)
from services.monitoring.events.manifest.ranges import Ranges
from services.monitoring.events.metrics import FileMetrics
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.values import (
    MAX_US,
    Batch,
    Erasure,
    EventFile,
    FileDamagedError,
    MaskedError,
    Newest,
    Problem,
    Query,
)
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

_DAY_US = 86_400_000_000
# What few events wait for: a file of its own for each would be many small ones.
_FEW_ROWS, _FEW_S = 5_000, 21_600.0
# A file that was begun so long ago is not written any more.
_WRITING_S = 3600.0
_ATTEMPTS = 5


class Worker(Protocol):
    """Runs methods of `EventFiles`; raises OSError, FileDamagedError."""

    def run(self, method: str, *args: object) -> Any: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Taken:
    """What became of events. `fresh`: those that were not there before; `stored` and `dropped`: how many of them."""

    stored: int = 0
    dropped: int = 0
    fresh: list[EventGroup] = field(default_factory=list)
    problem: str = ""


@dataclass(slots=True)
class Erased:
    """`unreadable`: files of which it is unknown whether they hold such events."""

    events: int = 0
    files: int = 0
    unreadable: list[str] = field(default_factory=list)


class UnwrittenError(StorageError):
    """Events of some pipelines can't be put into files. `why`: by pipeline."""

    def __init__(self, why: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"events of {pipeline}: {text}" for pipeline, text in why.items()))
        self.why = why


class EventStore:
    """Methods block and raise StorageError. `wall`: seconds since 1970."""

    def __init__(
        self,
        manifest: Manifest,
        worker: Worker,
        settings: EventStorage,
        metrics: FileMetrics,
        wall: Callable[[], float],
        log: Log,
    ) -> None:
        self.manifest = manifest
        self._worker = worker
        self._settings = settings
        self._metrics = metrics
        self._wall = wall
        self._log = log
        self._reported: set[str] = set()
        # Pipelines of which nothing more is stored until their events are in files.
        self.full: frozenset[str] = frozenset()

    def take(
        self, replica: str, epoch: int, noted: int, groups: Sequence[EventGroup], *, durable: bool
    ) -> Taken:
        """Stores events that are not there yet. What can't be stored is dropped; if `durable`, StorageError is raised instead."""
        taken, over, full = Taken(), Taken(), self.full
        if above := [group for group in groups if group.header.pipeline in full]:
            names = ", ".join(sorted({group.header.pipeline for group in above}))
            why = StorageError(f"too many events of {names} wait to be put into files")
            over = self._dropped(above, why, durable=durable)
        within = [group for group in groups if group.header.pipeline not in full]

        def fresh(known: Ranges) -> tuple[list[NewBatch], Ranges]:
            taken.fresh = [part for group in within if len(part := _without(group, known))]
            batches = [_batch(replica, epoch, group) for group in taken.fresh]
            return batches, Ranges(r for group in taken.fresh for r in _numbers(group).ranges())

        try:
            self.manifest.store(replica, epoch, noted, self._wall(), fresh)
        except StorageError as error:
            return self._dropped(groups, error, durable=durable)
        stored = sum(map(len, taken.fresh))
        return Taken(stored, over.dropped, [*taken.fresh, *over.fresh], over.problem)

    def close_due(self, *, everything: bool = False) -> None:
        """Puts events into files where there are enough of them, or they are old; `everything`: all. Raises UnwrittenError when
        it has tried those of each kind."""
        now, settings, failed = self._wall(), self._settings, dict[str, str]()
        waiting = self.manifest.waiting()
        left = Counter[str]()
        for found in waiting:
            left[found.pipeline] += found.bytes
        self.full = _above_share(left, settings.retention.max_bytes)
        for found in waiting:
            wait_s = settings.file_s if found.rows >= _FEW_ROWS else max(settings.file_s, _FEW_S)
            if everything or found.bytes >= settings.file_bytes or found.since <= now - wait_s:
                try:
                    self._close_kind(found, left)
                except StorageError as error:  # the other kinds go on
                    failed[found.pipeline] = str(error)
        if failed:
            raise UnwrittenError(failed)

    def sweep(self) -> int:
        """Removes files that are too old or too much; returns how many events went."""
        now, policy = self._wall(), self._settings.retention
        size, gone = 0, list[EventFile]()
        for file in self.manifest.files():  # the newest first
            size += file.bytes
            oldest = now * 1e6 - policy.days_of(file.pipeline) * _DAY_US
            if file.last_us < oldest or size > policy.max_bytes:
                gone.append(file)
        longest = max([policy.days, *policy.pipelines.values()])
        self.manifest.forget(now - longest * _DAY_US / 1e6)
        if gone:
            self.manifest.doom([file.path for file in gone], now)
        self._remove_doomed()
        return sum(file.rows for file in gone)

    def newest(self, query: Query) -> Newest:
        """The newest events that fit."""
        first, last = query.first_us, query.last_us
        if query.event_id:
            first = int.from_bytes(query.event_id[:6], "big") * 1000
            last = first + 999
        if query.before is not None:
            last = min(last, query.before.time_us)
        for _ in range(_ATTEMPTS):
            files, batches = self.manifest.possible(
                pipeline=query.pipeline, tenant=query.tenant, first_us=first, last_us=last
            )
            if query.arm or query.release:
                files = [file for file in files if _is_of(query, unpacked_header(file.header))]
                kinds = {kind for kind, header in _headers(batches).items() if _is_of(query, header)}
                batches = [batch for batch in batches if batch.kind in kinds]
            found: Newest = self._done("newest", query, files, batches)
            if not self._changed(found.problems):
                return found
        raise StorageError("files of events change too fast; try again")

    def headers(self, pipeline: str, first_us: int, last_us: int = MAX_US) -> list[GroupHeader]:
        """What events of a pipeline in this time have in common, each once."""
        files, batches = self.manifest.possible(pipeline=pipeline, first_us=first_us, last_us=last_us)
        found = [unpacked_header(header) for header in dict.fromkeys(file.header for file in files)]
        return list(dict.fromkeys([*found, *_headers(batches).values()]))

    def ask(
        self,
        sql: str,
        parameters: Sequence[object],
        pipeline: str,
        first_us: int,
        of: Callable[[GroupHeader], bool] = lambda _: True,
        last_us: int = MAX_US,
    ) -> tuple[pa.Table, list[Problem]]:
        """The answer to a question about the view `events`: those of a pipeline in this time (in whole files, so others are among
        them), of which there must be some. `of`: of
        such headers alone, as columns of the same name in other documents may have types that fit into no view with these."""
        for _ in range(_ATTEMPTS):
            files, batches = self.manifest.possible(pipeline=pipeline, first_us=first_us, last_us=last_us)
            headers = _headers(batches)
            wanted = {text for text in {file.header for file in files} if of(unpacked_header(text))}
            files = [file for file in files if file.header in wanted]
            batches = [batch for batch in batches if of(headers[batch.kind])]
            answer, problems = self._done("ask", sql, parameters, files, batches)
            if not self._changed(problems):
                return answer, problems
        raise StorageError("files of events change too fast; try again")

    def erase(self, who: Erasure, forget: Forget) -> Erased:
        """Raises MaskedError: nothing was erased. After a StorageError some files may be done; the same call does the rest."""
        self.close_due(everything=True)
        erased = Erased()
        files, _ = self.manifest.possible(tenant=who.tenant)
        _check_findable(who, files)
        for file in files:
            try:
                gone = self._done("concerned", who, file)
                if not gone:
                    continue
                self._replace(who, file, partial(forget, who=who, gone=gone))
            except FileDamagedError as error:
                if not self._changed([Problem(error.path, error.why)]):
                    erased.unreadable.append(file.path)
                continue
            except ChangedError:
                raise StorageError("files of events were written meanwhile; ask again") from None
            erased.events += len(gone)
            erased.files += 1
        self.manifest.also(partial(forget, who=who, gone=()))
        self._remove_doomed()
        return erased

    def check(self) -> list[Problem]:
        """Reads all files: those that are not what was stored, are gone, or were not written by this store."""
        problems: list[Problem] = []
        for file in self.manifest.files():
            problems += self._done("check", [file])
        known = self.manifest.paths()
        there = self._done("listed")
        known |= self.manifest.paths()
        live = {file.path for file in self.manifest.files()}
        problems = [problem for problem in problems if problem.path in live]
        problems += [Problem(path, "nobody has stored it") for path in there if path not in known]
        for problem in problems:
            self._report(problem)
        return problems

    def close(self) -> None:
        """Ends the process that has the files."""
        self._worker.close()

    def _dropped(self, groups: Sequence[EventGroup], why: StorageError, *, durable: bool) -> Taken:
        if durable:
            raise why
        return Taken(dropped=sum(map(len, groups)), fresh=list(groups), problem=str(why))

    def _close_kind(self, found: Waiting, left: Counter[str]) -> None:
        """`left`: bytes that wait, by pipeline."""
        more = found.bytes
        while more > 0 and (closed := self._close(found.kind)):
            more -= closed
            left[found.pipeline] -= closed
            self.full = _above_share(left, self._settings.retention.max_bytes)

    def _close(self, kind: str) -> int:
        """Puts the oldest events of a kind into a file; returns their size, 0: another process did."""
        now = self._wall()
        batches = self.manifest.oldest(kind, self._settings.file_bytes)
        if not batches:
            return 0
        path = self._begin(now)
        file = self._done("write", path, batches)
        try:
            self.manifest.close(file, [batch.id for batch in batches], now)
        except ChangedError:
            self.manifest.doom([path], now)
            return 0
        self._metrics.closed.inc()
        return sum(len(batch.content) for batch in batches)

    def _replace(self, who: Erasure, file: EventFile, also: Also) -> None:
        """Raises FileDamagedError, ChangedError."""
        now = self._wall()
        path = self._begin(now)
        new = self._done("rewrite", who, file, path)
        self.manifest.replace(file.path, new, now, also)

    def _begin(self, now: float) -> str:
        moment = datetime.fromtimestamp(now, UTC)
        path = f"{moment:%Y-%m-%d}/{moment:%H%M%S}-{secrets.token_hex(8)}{SUFFIX}"
        self.manifest.begin(path, now)
        return path

    def _remove_doomed(self) -> None:
        gone = []
        try:
            for path in self.manifest.doomed(self._wall() - _WRITING_S):
                self._done("remove", path)
                gone.append(path)
        finally:
            if gone:
                self.manifest.removed(gone)

    def _changed(self, problems: Sequence[Problem]) -> bool:
        """Whether the files with these problems are no longer read, so that it is as it should be; else they are reported."""
        if not problems:
            return False
        live = {file.path for file in self.manifest.files()}
        if any(problem.path not in live for problem in problems):
            return True
        for problem in problems:
            self._report(problem)
        return False

    def _report(self, problem: Problem) -> None:
        if problem.path not in self._reported:
            self._reported.add(problem.path)
            self._metrics.unreadable.inc()
            self._log.error("a file of events is not what was stored", file=problem.path, error=problem.why)

    def _done(self, method: str, *args: object) -> Any:
        """In the process that has the files. Raises StorageError, FileDamagedError."""
        try:
            return self._worker.run(method, *args)
        except OSError as error:
            raise StorageError(str(error.strerror)) from error


def _above_share(waiting: Mapping[str, int], most: int) -> frozenset[str]:
    """Pipelines with more bytes than their share of `most`, where all together have more than that: what one of them can't put
    into files costs no other an event."""
    if sum(waiting.values()) <= most:
        return frozenset()
    share = most / sum(size > 0 for size in waiting.values())
    return frozenset(pipeline for pipeline, size in waiting.items() if size > share)


def _check_findable(who: Erasure, files: Sequence[EventFile]) -> None:
    """Raises MaskedError."""
    columns = {subject.column for subject in who.subjects if subject.masked is None}
    for header in {file.header for file in files} if columns else ():
        if hidden := columns.intersection(unpacked_header(header).masked):
            raise MaskedError(min(hidden))


def _batch(replica: str, epoch: int, group: EventGroup) -> NewBatch:
    batch = record_batch(replica, epoch, group)
    times = group.batch.columns[TIME_US].array
    kind = hashlib.sha256(batch.schema.serialize()).hexdigest()
    return NewBatch(
        kind, group.header.pipeline, packed(batch), len(group), int(times.min()), int(times.max())
    )


def _headers(batches: Sequence[Batch]) -> dict[str, GroupHeader]:
    """By kind."""
    firsts = {batch.kind: batch for batch in batches}
    return {kind: header_of(unpacked(batch.content).schema) for kind, batch in firsts.items()}


def _is_of(query: Query, header: GroupHeader) -> bool:
    return query.arm in ("", header.arm) and query.release in (0, header.release)


def _numbers(group: EventGroup) -> Ranges:
    found = Ranges()
    found.add_all(group.batch.columns[SEQUENCE].array)
    return found


def _without(group: EventGroup, received: Ranges) -> EventGroup:
    """The events of a group that were not received before."""
    known = received.contains(group.batch.columns[SEQUENCE].array)
    if not known.any():
        return group
    return EventGroup(group.header, group.batch.take(np.flatnonzero(~known)))
