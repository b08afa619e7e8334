"""Stores events: each number of a stream once, in segments that are closed by size or age."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.events import SEQUENCE, EventGroup
from services.monitoring.events.metrics import SegmentMetrics
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.storage.arrow import REPLICA, record_batch
from services.monitoring.events.storage.closed import AwayError, ClosedSegments, Survey, survey
from services.monitoring.events.storage.files import ASIDE, ASIDE_SUFFIX, OPEN, SEGMENTS, SUFFIX
from services.monitoring.events.storage.index import EventIndex, Stream
from services.monitoring.events.storage.ranges import Ranges
from services.monitoring.events.storage.segments import (
    OpenSegment,
    Segment,
    UnreadableError,
    orphans,
    read_open,
)
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# Segments that are open at once: of arms, revisions and sets of models. Beyond it the oldest is closed.
_MAX_OPEN = 64
_DAY_MS = 86_400_000


@dataclass(slots=True)
class Taken:
    """What became of events. `fresh`: those that were not there before; `stored` and `dropped`: how many of them."""

    stored: int = 0
    dropped: int = 0
    fresh: list[EventGroup] = field(default_factory=list)
    problem: str = ""


class EventStore:
    """Methods block, are called by one thread at a time, and raise StorageError. `clock`: monotonic seconds; `wall`: those since
    1970."""

    def __init__(
        self,
        folder: Path,
        index: EventIndex,
        settings: EventStorage,
        metrics: SegmentMetrics,
        clock: Callable[[], float],
        wall: Callable[[], float],
        log: Log,
        closed: ClosedSegments | None = None,
    ) -> None:
        """`closed`: where closed segments are kept, if not in the folder."""
        self._settings = settings
        self.index = index
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self._log = log
        self._open_folder = folder / OPEN
        self._aside = folder / ASIDE
        self.closed = closed or ClosedSegments(folder / SEGMENTS, self._aside)
        self._open: dict[Any, OpenSegment] = {}
        # Full or old, and could not be closed yet.
        self._closing: list[OpenSegment] = []
        self._streams: dict[int, Stream] = {}
        self._started = False

    def start(self) -> None:
        """Takes up what earlier processes left: closes their segments, and adds to the index what it lacks. What fails is tried
        again by the next call of any method."""
        if self._started:
            return
        try:
            self._open_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.closed.prepare()
            self._streams = self.index.streams()
            # What is far is looked at later: it may be out of reach.
            known, there = self.index.names(), self.closed.local_names()
            self.adopt(survey(self.closed, known, there, everything=self.closed.all_local))
            self._close_orphans()
        except OSError as error:
            raise failed(error) from error
        self._started = True

    def take(
        self, replica: str, epoch: int, noted: int, groups: Sequence[EventGroup], *, durable: bool
    ) -> Taken:
        """Stores events that are not there yet. What can't be stored is dropped; if `durable`, StorageError is raised instead."""
        try:
            self.start()
        except StorageError as error:
            if durable:
                raise
            return Taken(dropped=sum(map(len, groups)), fresh=list(groups), problem=str(error))
        stream = self._stream(replica, epoch)
        stream.noted, stream.heard = max(stream.noted, noted), self._wall()
        taken = Taken()
        for group in groups:
            fresh = _without(group, stream.received)
            if not len(fresh):
                continue
            try:
                self._append(replica, epoch, fresh, sync=durable)
            except OSError as error:
                if durable:
                    raise failed(error) from error
                taken.dropped += len(fresh)
                taken.problem = str(failed(error))
            else:
                stream.received.add_all(fresh.batch.columns[SEQUENCE].array)
                taken.stored += len(fresh)
            taken.fresh.append(fresh)
        return taken

    def close_due(self, *, everything: bool = False) -> None:
        """Closes segments that are full or old; `everything`: all."""
        self.start()
        oldest = self._clock() - self._settings.segment_s
        for key, segment in list(self._open.items()):
            if everything or segment.began <= oldest or segment.size >= self._settings.segment_bytes:
                self._closing.append(self._open.pop(key))
        try:
            while self._closing:
                segment = self._closing[0]
                self._close_file(segment.path)
                segment.release()
                del self._closing[0]
        except OSError as error:
            raise failed(error) from error

    def open_paths(self) -> list[Path]:
        """Files with events that are not in a closed segment, the newest first."""
        return [s.path for s in reversed([*self._closing, *self._open.values()])]

    def streams(self) -> Mapping[int, Stream]:
        """What was received, that in open segments included."""
        found = self.index.streams()
        for epoch, stream in self._streams.items():
            if epoch not in found:
                found[epoch] = stream
                continue
            other = found[epoch]
            other.noted, other.heard = max(other.noted, stream.noted), max(other.heard, stream.heard)
            for first, last in stream.received.ranges():
                other.received.add(first, last)
        return found

    def sweep(self) -> int:
        """Removes segments that are too old or too much; returns how many events went."""
        now_ms, policy = self._wall() * 1000, self._settings.retention
        size, gone = 0, list[Segment]()
        for segment in self.index.segments():  # the newest first
            size += segment.bytes
            if (
                segment.last_ms < now_ms - policy.days_of(segment.pipeline) * _DAY_MS
                or size > policy.max_bytes
            ):
                gone.append(segment)
        longest = max([policy.days, *policy.pipelines.values()])
        oldest = self._wall() - longest * _DAY_MS / 1000
        self.index.hear(self._streams, oldest)
        for epoch in [e for e, s in self._streams.items() if s.heard < oldest]:
            del self._streams[epoch]
        done: list[Segment] = []
        try:
            for segment in gone:
                # What is out of reach goes when it is back; what of it is on this disk has gone.
                with suppress(AwayError):
                    self.closed.remove(segment.name)
                    done.append(segment)
        except OSError as error:
            raise failed(error) from error
        finally:
            self.index.remove(s.name for s in done)
        return sum(s.rows for s in done)

    def set_aside(self, name: str, why: str) -> None:
        """A segment can't be read: it goes where nobody looks for events, and somebody must hear of it."""
        self._log.error("a segment of events can't be read; it was set aside", segment=name, error=why)
        self._metrics.unreadable.inc()
        is_closed = name.endswith(SUFFIX)
        try:
            if is_closed:
                self.closed.set_aside(name)
            else:
                (self._open_folder / name).rename(self._aside / (name + ASIDE_SUFFIX))
        except OSError as error:
            self._log.error("it can't be moved", segment=name, error=str(error.strerror))
        if is_closed:
            self.index.remove([name])

    def adopt(self, found: Survey) -> None:
        """Adds closed segments that the index lacks (it was damaged, another machine wrote them); removes those that are gone."""
        self.index.remove(found.gone)
        for name, why in found.unreadable:
            self.set_aside(name, why)
        for segment, replica in found.new:
            self._add(segment, replica)

    def refresh(self) -> None:
        """Looks at all closed segments. Raises StorageError if they are out of reach."""
        self.start()
        try:
            known = self.index.names()
            self.adopt(survey(self.closed, known, self.closed.names(), everything=True))
        except OSError as error:
            raise failed(error) from error

    def close(self) -> None:
        """Closes all segments, if it can be done; what can't is taken up by the next process."""
        try:
            self.close_due(everything=True)
        except StorageError as error:
            self._log.error("segments of events stay open", error=str(error))
        self.index.close()

    def _append(self, replica: str, epoch: int, group: EventGroup, *, sync: bool) -> None:
        batch = record_batch(replica, epoch, group)
        key = (group.header, batch.schema)
        segment = self._open.get(key)
        if segment is not None and segment.size >= self._settings.segment_bytes:
            self._closing.append(self._open.pop(key))
            segment = None
        if segment is None:
            if len(self._open) >= _MAX_OPEN:
                self._closing.append(self._open.pop(next(iter(self._open))))
            segment = self._open[key] = OpenSegment(self._open_folder, batch.schema, self._clock())
        segment.append(batch, sync=sync)

    def _close_file(self, path: Path) -> None:
        """Makes a closed segment of an open one's file, which goes. Twice is as good as once. Raises OSError, StorageError."""
        try:
            table = read_open(path)
        except UnreadableError as error:
            self.set_aside(path.name, str(error))
            return
        if table.num_rows:
            segment = self.closed.write(table)
            self._add(segment, table[REPLICA][0].as_py())
            self._metrics.closed.inc()
        path.unlink(missing_ok=True)

    def _close_orphans(self) -> None:
        for path in orphans(self._open_folder):
            self._close_file(path)

    def _add(self, segment: Segment, replica: str) -> None:
        for epoch, ranges in segment.received.items():
            stream = self._stream(replica, epoch)
            for first, last in ranges.ranges():
                stream.received.add(first, last)
                stream.noted = max(stream.noted, last)
        self.index.add(segment, {e: self._streams[e] for e in segment.received})

    def _stream(self, replica: str, epoch: int) -> Stream:
        found = self._streams.get(epoch)
        if found is None:
            found = self._streams[epoch] = Stream(replica, 0, self._wall(), Ranges())
        return found


def _without(group: EventGroup, received: Ranges) -> EventGroup:
    """The events of a group that were not received before."""
    known = received.contains(group.batch.columns[SEQUENCE].array)
    if not known.any():
        return group
    return EventGroup(group.header, group.batch.take(np.flatnonzero(~known)))


def failed(error: OSError) -> StorageError:
    """What callers are told, without paths."""
    return StorageError((error.strerror or type(error).__name__).lower())
