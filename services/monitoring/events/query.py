"""Finds events in segments, and shows them as values of JSON or as they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

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
from headrace.events.group import ID_BYTES
from headrace.hop.errors import Code, Reason, reason_name
from services.monitoring.events.storage.arrow import (
    EPOCH,
    REPLICA,
    REQUEST_ID,
    TENANT,
    TRACEPARENT,
    group_of,
    header_of,
)
from services.monitoring.events.storage.segments import UnreadableError, read_open
from services.monitoring.events.storage.store import EventStore

_FALLBACKS = "@fallbacks"
_SHOWN = {
    EVENT_ID, SEQUENCE, TIME_US, ROW, CODE, REASON, LATENCY_US, BUSY_US, CACHED, _FALLBACKS,
    REPLICA, EPOCH, REQUEST_ID, TENANT, TRACEPARENT, KEY,
}  # fmt: skip
_PLACE = (TIME_US, SEQUENCE, EVENT_ID)
_NEWEST_FIRST = [(name, "descending") for name in _PLACE]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands among all: the newest have the greatest."""

    time_us: int
    sequence: int
    event_id: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Which events; an empty field chooses all. Times are in milliseconds since 1970, both ends included. `row`: of the request
    `request_id`; None: all of its rows. `before`: only what stands behind this."""

    event_id: bytes = b""
    pipeline: str = ""
    tenant: str = ""
    request_id: str = ""
    row: int | None = None
    first_ms: int = 0
    last_ms: int = 1 << 62
    limit: int = 20
    before: Place | None = None
    trace_id: str = ""


@dataclass(slots=True)
class Found:
    """Events, the newest first; and names of segments that could not be read."""

    events: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """Events as they are stored, the newest first in each group. `last`: the place of the oldest; None: there are no more."""

    groups: list[EventGroup] = field(default_factory=list)
    last: Place | None = None
    unreadable: list[str] = field(default_factory=list)


def find(store: EventStore, query: Query) -> Found:
    """The newest events that fit, as values of JSON. Blocks; raises StorageError."""
    found = Found()
    for table in _newest(store, query, found.unreadable)[0]:
        found.events.extend(_shown(table))
    found.events.sort(key=lambda e: (str(e["time"]), int(e["sequence"]), str(e["event_id"])), reverse=True)
    return found


def read(store: EventStore, query: Query) -> Page:
    """The newest events that fit. Blocks; raises StorageError."""
    page = Page()
    tables, places = _newest(store, query, page.unreadable)
    page.groups = [group_of(table) for table in tables]
    page.last = places[-1] if len(places) == query.limit else None
    return page


def _newest(store: EventStore, query: Query, unreadable: list[str]) -> tuple[list[pa.Table], list[Place]]:
    """Tables of the newest events that fit, each with the newest first, and the places of all of them."""
    tables: list[pa.Table] = []
    found: list[tuple[Place, int]] = []

    def oldest_ms() -> int:
        return found[-1][0].time_us // 1000 if len(found) == query.limit else -1

    for table in possible_tables(store, query, unreadable, oldest_ms):
        fitting = table.filter(_fits(table, query))
        part = fitting.take(pc.sort_indices(fitting, sort_keys=_NEWEST_FIRST)[: query.limit])
        columns = (part[name].to_pylist() for name in _PLACE)
        found += [(Place(*place), len(tables)) for place in zip(*columns, strict=True)]
        tables.append(part)
        found.sort(reverse=True)
        del found[query.limit :]
    kept = Counter(number for _, number in found)
    return [t.slice(0, kept[i]) for i, t in enumerate(tables) if kept[i]], [place for place, _ in found]


def possible_tables(
    store: EventStore, query: Query, unreadable: list[str], oldest_ms: Callable[[], int] = lambda: 0
) -> Iterator[pa.Table]:
    """Tables that may hold such events; names of what can't be read are added to `unreadable`. `oldest_ms`:
    what is older than this is not wanted any more. Raises StorageError, OSError."""
    first, last = query.first_ms, query.last_ms
    if query.event_id:
        first = last = int.from_bytes(query.event_id[:6], "big")
    if query.before is not None:
        last = min(last, query.before.time_us // 1000)
    for path in store.open_paths():
        try:
            table = read_open(path)
        except UnreadableError as error:
            unreadable.append(path.name)
            store.set_aside(path.name, str(error))
        else:
            if query.pipeline in ("", header_of(table.schema).pipeline):
                yield table
    # Those that end last come first.
    for segment in store.index.segments(
        pipeline=query.pipeline, tenant=query.tenant, first_ms=first, last_ms=last
    ):
        if segment.last_ms < oldest_ms():
            return
        try:
            if query.request_id and not store.closed.holds_request(segment.name, query.request_id):
                continue
            table = store.closed.read(segment.name)
        except FileNotFoundError:
            store.index.remove([segment.name])  # swept by another process
        except UnreadableError as error:
            unreadable.append(segment.name)
            store.set_aside(segment.name, str(error))
        else:
            yield table


def _fits(table: pa.Table, query: Query) -> pa.ChunkedArray:
    times = table[TIME_US]
    fits = pc.and_(
        pc.greater_equal(times, query.first_ms * 1000),
        pc.less_equal(times, min(query.last_ms * 1000 + 999, (1 << 63) - 1)),
    )
    if query.event_id:
        fits = pc.and_(fits, pc.equal(table[EVENT_ID], _id(query.event_id)))
    if query.tenant:
        fits = pc.and_(fits, pc.equal(table[TENANT], query.tenant))
    if query.request_id:
        fits = pc.and_(fits, pc.equal(table[REQUEST_ID], query.request_id))
    if query.row is not None:
        fits = pc.and_(fits, pc.equal(table[ROW], query.row))
    if query.trace_id:
        fits = pc.and_(fits, pc.match_substring(table[TRACEPARENT], f"-{query.trace_id}-"))
    return fits if query.before is None else pc.and_(fits, _behind(table, query.before))


def _behind(table: pa.Table, place: Place) -> pa.ChunkedArray:
    times, numbers = table[TIME_US], table[SEQUENCE]
    last = pc.and_(pc.equal(numbers, place.sequence), pc.less(table[EVENT_ID], _id(place.event_id)))
    same_time = pc.or_(pc.less(numbers, place.sequence), last)
    return pc.or_(pc.less(times, place.time_us), pc.and_(pc.equal(times, place.time_us), same_time))


def _id(value: bytes) -> pa.Scalar:
    return pa.scalar(value, pa.binary(ID_BYTES))


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
