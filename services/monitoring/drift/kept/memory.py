"""What survives a restart of this process, and what other processes of this machine have counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headrace.sketches import Layout, Sketch
from services.monitoring.drift.kept.slots import Slot
from services.monitoring.drift.kept.window_file import StoredWindow, WindowFile, read_other
from services.monitoring.drift.metrics import CountingMetrics
from services.monitoring.drift.ports import Series, Version
from services.monitoring.drift.windows import Ended, Window
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log


class Unsaved(NamedTuple):
    """Windows of a series that ended since they were asked for last."""

    series: Series
    layout: Layout
    ended: Sequence[Ended]


class Memory:
    """Methods block, raise nothing, and belong to one thread. What can't be stored is lost with this process, not now."""

    def __init__(self, folder: Path, metrics: CountingMetrics, log: Log) -> None:
        """Raises OSError."""
        self._slot = Slot(folder)
        self._file = WindowFile(self._slot.path, log, metrics.unreadable)
        self._metrics = metrics
        self._log = log
        self._failing = ""
        self._unread: set[Path] = set()
        # (file, series, layout) → up to which window it was read.
        self._read: dict[tuple[Path, Series, str], int] = {}

    def save(
        self, unsaved: Sequence[Unsaved], concepts: Mapping[Version, Mapping[str, Any]], now: float
    ) -> None:
        """Adds windows; the states of versions replace the earlier ones."""
        windows = {
            (found.series, found.layout.digest): [
                StoredWindow(0, e.span, e.window.start, e.window.end, e.window.sketch.to_bytes())
                for e in found.ended
            ]
            for found in unsaved
        }
        try:
            self._file.write(windows, concepts, now)
        except StorageError as error:
            self._fails(str(error))
        else:
            self._works()

    def windows(self, series: Series, layout: Layout) -> list[Ended]:
        """What earlier processes with this file counted by this layout, the oldest first."""
        try:
            found = self._file.windows(series, layout.digest)
        except StorageError as error:
            self._fails(str(error))
            return []
        return self._opened(found, layout, self._slot.path)

    def concepts(self) -> dict[Version, Any]:
        """States of versions that an earlier process left."""
        try:
            return self._file.concepts()
        except StorageError as error:
            self._fails(str(error))
        except ValueError:
            self._metrics.unreadable()
            self._log.error(
                "references of error rates can't be read; they begin anew", file=self._slot.path.name
            )
        return {}

    def others(self, series: Series, layout: Layout) -> dict[str, list[Ended]]:
        """By process, what others counted since the last call."""
        found: dict[str, list[Ended]] = {}
        for path in self._slot.others():
            key = (path, series, layout.digest)
            try:
                stored = read_other(path, series, layout.digest, self._read.get(key, 0))
            except (sqlite3.Error, OSError) as error:
                self._tell_unread(path, error)
                continue
            self._unread.discard(path)
            if stored:
                self._read[key] = max(w.id for w in stored)
                found[path.name] = self._opened(stored, layout, path)
        return found

    def forget(self, series: Series) -> None:
        """The series is counted no more: if it comes again, all of it is read anew."""
        for key in [key for key in self._read if key[1] == series]:
            del self._read[key]

    def close(self) -> None:
        self._file.close()
        self._slot.close()

    def _opened(self, stored: Sequence[StoredWindow], layout: Layout, path: Path) -> list[Ended]:
        found = []
        for w in stored:
            try:
                sketch = Sketch.from_bytes(w.sketch, layout)
            except ValueError as error:
                self._metrics.unreadable()
                self._log.error(
                    "a window of drift can't be read", file=path.name, start=w.start, error=str(error)
                )
                continue
            found.append(Ended(w.span, Window(w.start, w.end, sketch)))
        return found

    def _tell_unread(self, path: Path, error: Exception) -> None:
        # A file that its process is about to make has no tables yet; one that stays so is told once.
        if path not in self._unread:
            self._unread.add(path)
            self._log.warning("windows of another process can't be read", file=path.name, error=str(error))

    def _fails(self, why: str) -> None:
        self._metrics.storage(failing=True)
        if why != self._failing:
            self._failing = why
            self._log.error("windows of drift can't be kept; they are judged all the same", error=why)

    def _works(self) -> None:
        self._metrics.storage(failing=False)
        if self._failing:
            self._failing = ""
            self._log.info("windows of drift are kept again")
