"""The newest rows of an arm, out of stored events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from headrace.columns import DType
from headrace.drift import Baseline
from headrace.drift.signature import element_names
from headrace.drift.values import Values
from headrace.events import CACHED, CODE, TIME_US, GroupHeader
from services.monitoring.drift.ports import Followed, Rows, Series, Traffic
from services.monitoring.events.files.arrow import TENANT, answered_column
from services.monitoring.events.files.selection import columns
from services.monitoring.events.store import EventStore

# How far it is looked back, in seconds, until there are rows enough.
_BACK_S = (60.0, 3600.0, 86_400.0, 7 * 86_400.0)
_DAY_S = 86_400.0
# Rows that failed have no outputs; kept and replayed answers say nothing of today's.
_CHOSEN = (
    f'"$revision" = ? AND "$arm" = ? AND ("$shadow_of" <> \'\') = ? AND "$release" >= ? AND NOT "$replayed"'
    f' AND "{CODE}" = 0 AND NOT "{CACHED}" AND "{TIME_US}" >= ?'
)


def newest_rows(
    store: EventStore, series: Series, followed: Followed, most: int, now: float, judged: object = None
) -> Rows | None:
    """At most so many; None: as those that were judged (their `stored`). Personal data, of which events have hashes, is left
    out. Blocks. Raises StorageError."""
    baseline = followed.baseline
    assert baseline is not None, "only series with one are judged"
    # Each day some rows may have become too old.
    stored = (*store.manifest.extent(series.pipeline), now // _DAY_S)
    if stored == judged:
        return None
    found = Rows({}, 0, stored=stored)
    for back_s in _BACK_S:
        first_us = int((now - back_s) * 1e6)
        headers = [h for h in store.headers(series.pipeline, first_us) if _is_of(h, series, followed)]
        wanted = _wanted(headers, baseline)
        if not wanted:
            continue
        sql = f'FROM events SELECT {columns((TENANT, *wanted))} WHERE {_CHOSEN} ORDER BY "{TIME_US}" DESC LIMIT {most}'
        shadow = series.traffic is Traffic.SHADOW
        parameters = [series.revision, series.arm, shadow, followed.since, first_us]
        table, _ = store.ask(sql, parameters, series.pipeline, first_us)
        there = set(table.column_names)
        values = {name: _values(table, name) if name in there else None for name in wanted}
        found = Rows(_flat(values, baseline), table.num_rows, table[TENANT].to_pylist(), stored)
        if found.count >= most:
            break
    return found


def _is_of(header: GroupHeader, series: Series, followed: Followed) -> bool:
    return (header.revision, header.arm, bool(header.shadow_of)) == (
        series.revision,
        series.arm,
        series.traffic is Traffic.SHADOW,
    ) and header.release >= followed.since


def _wanted(headers: Sequence[GroupHeader], baseline: Baseline) -> list[str]:
    """Columns of the baseline, or of tensors whose elements are, that these events have, or some of them."""
    names = dict.fromkeys(
        n for h in headers for n in (*h.inputs, *h.features, *h.outputs) if n not in h.masked
    )
    elements = {name.partition("[")[0] for name in baseline.columns}
    return [n for n in names if n in baseline.columns or n in baseline.tensors or n in elements]


def _values(table: pa.Table, name: str) -> Values | None:
    """None: lists of several lengths, or byte strings of several elements a row, which have no baseline."""
    column = answered_column(table, name)
    if column is None:
        return None
    if column.dtype is DType.BYTES:
        return None if column.row_shape else list(column.text())
    values = column.array
    if column.valid is None:
        return values
    missing = ~column.valid.reshape(len(values), *(1,) * (values.ndim - 1))
    return np.ma.masked_array(values, np.broadcast_to(missing, values.shape))


def _flat(columns: Mapping[str, Values | None], baseline: Baseline) -> dict[str, Values | None]:
    """Arrays of two dimensions as the columns of their elements."""
    flat: dict[str, Values | None] = {}
    for name, values in columns.items():
        if not isinstance(values, np.ndarray) or values.ndim < 2:
            flat[name] = values
            continue
        elements = values.reshape(len(values), -1)
        names = baseline.tensors.get(name) or element_names(name, elements.shape[1])
        flat |= {n: elements[:, i] for i, n in enumerate(names[: elements.shape[1]])}
    return flat
