"""Which rows of files and batches are meant: by a query, as SQL, and by an erasure, in Arrow; which columns."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from headrace.events import CODE, EVENT_ID, ROW, SEQUENCE, TIME_US
from services.monitoring.events.files.arrow import REQUEST_ID, TENANT, TRACEPARENT, header_of
from services.monitoring.events.values import Erasure, Query

# What makes a position: the newest have the greatest.
POSITION = (TIME_US, SEQUENCE, EVENT_ID)


def conditions(query: Query) -> tuple[str, list[object]]:
    """SQL and its parameters."""
    found: list[tuple[str, list[object]]] = [
        (f'"{TIME_US}" BETWEEN ? AND ?', [query.first_us, query.last_us]),
    ]
    if query.event_id:
        found.append((f'"{EVENT_ID}" = ?', [query.event_id]))
    if query.tenant:
        found.append((f'"{TENANT}" = ?', [query.tenant]))
    if query.request_id:
        found.append((f'"{REQUEST_ID}" = ?', [query.request_id]))
    if query.row is not None:
        found.append((f'"{ROW}" = ?', [query.row]))
    if query.trace_id:
        found.append((f'contains("{TRACEPARENT}", ?)', [f"-{query.trace_id}-"]))
    if query.failed:
        found.append((f'"{CODE}" <> 0', []))
    if query.before is not None:
        place = ", ".join(f'"{name}"' for name in POSITION)
        found.append(
            (f"({place}) < (?, ?, ?)", [query.before.time_us, query.before.sequence, query.before.event_id])
        )
    return " AND ".join(sql for sql, _ in found), [value for _, values in found for value in values]


def columns(names: Iterable[str]) -> str:
    """SQL for those of these columns that there are."""
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"COLUMNS(lambda c: c IN ({quoted}))"


def concerned(table: pa.Table, who: Erasure) -> pa.ChunkedArray:
    """bool: which events go."""
    own = pc.equal(table[TENANT], who.tenant)
    if who.whole_tenant:
        return own
    about = pc.is_in(table[REQUEST_ID], value_set=pa.array(who.request_ids, pa.string()))
    masked = header_of(table.schema).masked
    for subject in who.subjects:
        if subject.column not in table.column_names or subject.column.startswith(("@", "$")):
            continue
        column = table[subject.column]
        if subject.column in masked:
            about = pc.or_(about, _equal(column, subject.masked)) if subject.masked else about
        elif pa.types.is_binary(column.type):
            about = pc.or_(about, _equal(column, subject.value.encode()))
        elif not pa.types.is_nested(column.type):
            about = pc.or_(about, pc.equal(_texts(column), subject.value))
    return pc.and_(own, pc.fill_null(about, False))


def _equal(column: pa.ChunkedArray, value: bytes) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Numbers as Python writes them."""
    texts = [
        None if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in column.to_pylist()
    ]
    return pa.array(texts, pa.string())
