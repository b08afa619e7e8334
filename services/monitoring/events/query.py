"""Shows events as values of JSON or as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa

from headrace.events import (
    BUSY_US,
    CACHED,
    CODE,
    EVENT_ID,
    KEY,
    LATENCY_US,
    REASON,
    ROW,
    SEQUENCE,
    STAGE_US,
    TIME_US,
    EventGroup,
    prediction_id,
)
from headrace.hop.errors import Code, Reason, reason_name
from services.monitoring.events.files.arrow import (
    EPOCH,
    REPLICA,
    REQUEST_ID,
    TENANT,
    TRACEPARENT,
    group_of,
    header_of,
)
from services.monitoring.events.store import EventStore
from services.monitoring.events.values import Position, Query

_FALLBACKS = "@fallbacks"
_SHOWN = {
    EVENT_ID, SEQUENCE, TIME_US, ROW, CODE, REASON, LATENCY_US, BUSY_US, CACHED, _FALLBACKS,
    REPLICA, EPOCH, REQUEST_ID, TENANT, TRACEPARENT, KEY,
}  # fmt: skip


@dataclass(slots=True)
class Found:
    """Events, the newest first; and paths of files that could not be read."""

    events: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """Events as they are stored, the newest first in each group. `last`: the position of the oldest; None: there are no more."""

    groups: list[EventGroup] = field(default_factory=list)
    last: Position | None = None
    unreadable: list[str] = field(default_factory=list)


def find(store: EventStore, query: Query) -> Found:
    """The newest events that fit, as values of JSON. Blocks; raises StorageError."""
    newest = store.newest(query)
    events = [event for table in newest.tables for event in _shown(table)]
    events.sort(key=lambda e: (str(e["time"]), int(e["sequence"]), str(e["event_id"])), reverse=True)
    return Found(events, [problem.path for problem in newest.problems])


def read(store: EventStore, query: Query) -> Page:
    """The newest events that fit. Blocks; raises StorageError."""
    newest = store.newest(query)
    last = newest.positions[-1] if len(newest.positions) == query.limit else None
    return Page(
        [group_of(table) for table in newest.tables], last, [problem.path for problem in newest.problems]
    )


def _shown(table: pa.Table) -> list[dict[str, Any]]:
    """The events of a table."""
    header = header_of(table.schema)
    shown = []
    for row in table.to_pylist():
        bits = row.get(_FALLBACKS) or 0
        code = row[CODE]
        shown.append(
            {
                "prediction_id": prediction_id(row[REQUEST_ID], row[ROW]),
                "event_id": row[EVENT_ID].hex(),
                "time": datetime.fromtimestamp(row[TIME_US] / 1e6, UTC).isoformat(timespec="microseconds"),
                "request_id": row[REQUEST_ID],
                "row": row[ROW],
                "tenant": row[TENANT],
                "pipeline": header.pipeline,
                "version": header.version,
                "revision": header.revision,
                "release": header.release,
                "arm": header.arm,
                "experiment": header.experiment,
                "models": [
                    {"stage": m.stage, "model": m.model, "version": m.version, "sha256": m.sha256}
                    for m in header.models
                ],
                "code": Code(code).name,
                "reason": _reason(row[REASON]) if code else "",
                "key": _hashed(row.get(KEY)),
                "latency_us": row[LATENCY_US],
                "busy_us": row[BUSY_US],
                "stage_us": {
                    n[len(STAGE_US) :]: v for n, v in row.items() if n.startswith(STAGE_US) and v >= 0
                },
                "cached": row[CACHED],
                "fallbacks": [n for i, n in enumerate(header.fallbacks) if bits >> i & 1],
                "replayed": header.replayed,
                "shadow_of": header.shadow_of,
                "traceparent": row[TRACEPARENT],
                "inputs": _values(row, header.inputs, header.masked),
                "features": _values(row, header.features, header.masked),
                "outputs": _values(row, header.outputs, header.masked),
                "annotations": {
                    n: _plain(v)
                    for n, v in row.items()
                    if n.startswith("@") and n not in _SHOWN and not n.startswith(STAGE_US)
                },
                "masked": list(header.masked),
                "omitted": list(header.omitted),
                "replica": row[REPLICA],
                "epoch": f"{row[EPOCH]:016x}",
                "sequence": row[SEQUENCE],
            }
        )
    return shown


def _reason(number: int) -> str:
    """Its name; the number if a newer router has one that is not known here."""
    return reason_name(cast("Any", number)) if number in Reason.values() else str(number)


def _values(row: dict[str, Any], names: Sequence[str], masked: Sequence[str]) -> dict[str, Any]:
    return {n: _hashed(row[n]) if n in masked else _plain(row[n]) for n in names}


def _hashed(value: bytes | None) -> str | None:
    return None if value is None else f"hash:{value.hex()}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_plain(v) for v in value] if isinstance(value, list) else value
