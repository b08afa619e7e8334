"""What survives a restart: ended windows by series, and the references of error rates, in the database `facts`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from headrace.sketches import Layout, Sketch
from services.monitoring.database.columns import insert, table
from services.monitoring.database.facts import Facts
from services.monitoring.drift.metrics import CountingMetrics
from services.monitoring.drift.ports import Series, Version
from services.monitoring.drift.windows import KEPT_S, Ended, Window
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

_KEY = ("pipeline", "revision", "arm", "traffic", "layout", "span", "start")
WINDOWS = table(
    "drift_windows", texts="pipeline revision arm traffic layout span", reals="start end", blobs="sketch"
)
STATES = table("drift_states", texts="pipeline arm runs state")


class Unsaved(NamedTuple):
    """Windows of a series that ended since they were asked for last."""

    series: Series
    layout: Layout
    ended: Sequence[Ended]


class Memory:
    """Methods block, raise nothing, and belong to one thread. What can't be stored is lost with this process, not now."""

    def __init__(self, facts: Facts, metrics: CountingMetrics, log: Log) -> None:
        self._facts = facts
        self._metrics = metrics
        self._log = log

    def save(
        self, unsaved: Sequence[Unsaved], states: Mapping[Version, Mapping[str, Any]], now: float
    ) -> None:
        """Adds windows; the states of versions replace the earlier ones; what is too old goes."""
        windows = [
            {**_key(found.series, found.layout), "span": e.span, "start": e.window.start}
            | {"end": e.window.end, "sketch": e.window.sketch.to_bytes()}
            for found in unsaved
            for e in found.ended
        ]
        rows = [{**version._asdict(), "state": json.dumps(state)} for version, state in states.items()]

        def save(connection: sa.Connection) -> None:
            if windows:
                new = insert(connection, WINDOWS)
                changed = {name: new.excluded[name] for name in ("end", "sketch")}
                connection.execute(new.on_conflict_do_update(index_elements=_KEY, set_=changed), windows)
            connection.execute(sa.delete(STATES))
            if rows:
                connection.execute(sa.insert(STATES), rows)
            for span, kept_s in KEPT_S.items():
                old = WINDOWS.c.span == span, WINDOWS.c.end < now - kept_s
                connection.execute(sa.delete(WINDOWS).where(*old))

        try:
            self._facts.write(save)
        except StorageError:
            return  # said by the database

    def windows(self, series: Series, layout: Layout) -> list[Ended]:
        """What was counted by this layout before, the oldest first."""
        c = WINDOWS.c
        found = sa.select(c.span, c.start, c.end, c.sketch).order_by(c.start)
        found = found.where(*(c[name] == value for name, value in _key(series, layout).items()))
        ended = []
        for span, start, end, packed in self._rows(found):
            try:
                ended.append(Ended(span, Window(start, end, Sketch.from_bytes(packed, layout))))
            except ValueError as error:
                self._metrics.unreadable()
                self._log.error("a window of drift can't be read", start=start, error=str(error))
        return ended

    def concepts(self) -> dict[Version, Any]:
        """States of versions that an earlier process left."""
        c = STATES.c
        try:
            return {
                Version(pipeline, arm, runs): json.loads(state)
                for pipeline, arm, runs, state in self._rows(sa.select(c.pipeline, c.arm, c.runs, c.state))
            }
        except ValueError:
            self._metrics.unreadable()
            self._log.error("references of error rates can't be read; they begin anew")
            return {}

    def _rows(self, found: sa.Select[Any]) -> Sequence[Any]:
        try:
            return self._facts.query(lambda connection: connection.execute(found).all())
        except StorageError:
            return ()


def _key(series: Series, layout: Layout) -> dict[str, str]:
    by = {"pipeline": series.pipeline, "revision": series.revision, "arm": series.arm}
    return {**by, "traffic": series.traffic.value, "layout": layout.digest}
