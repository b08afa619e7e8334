"""Reads predictions out of stored events, for bias slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.events import CODE, EVENT_ID, ROW, TIME_US, GroupHeader
from services.monitoring.events.query import Query, possible_tables
from services.monitoring.events.storage.arrow import REQUEST_ID, TENANT, header_of
from services.monitoring.events.storage.store import EventStore
from services.monitoring.explanations.bias import Predictions

MOST_PREDICTIONS = 200_000
_NULL = "null"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions, and what makes the groups. `output` "": the first that can be averaged. `first_ms`: not older."""

    pipeline: str
    column: str
    output: str = ""
    first_ms: int = 0


class NoGroupsError(Exception):
    """The column makes no groups. `cause`: `unknown`, `masked`, `values` or `output`; `known`: what could be named instead."""

    def __init__(self, cause: str, known: Sequence[str] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.known = tuple(known)


def predictions(store: EventStore, wanted: Wanted) -> tuple[Predictions, str]:
    """The newest predictions of a pipeline, and the output that was taken. Blocks.

    Raises NoGroupsError; StorageError, OSError.
    """
    parts: list[_Part] = []
    left, output, truncated = MOST_PREDICTIONS, wanted.output, False
    query = Query(pipeline=wanted.pipeline, first_ms=wanted.first_ms, limit=MOST_PREDICTIONS)
    for table in possible_tables(store, query, []):
        header = header_of(table.schema)
        if header.pipeline != wanted.pipeline or header.replayed or header.shadow_of:
            continue
        output = output or _first_output(table, header)
        _check(table, header, wanted.column, output)
        chosen = table.filter(
            pc.and_(pc.equal(table[CODE], 0), pc.greater_equal(table[TIME_US], wanted.first_ms * 1000))
        )
        truncated = truncated or chosen.num_rows > left
        parts.append(_Part.of(chosen.slice(0, left), header, wanted.column, output))
        left -= len(parts[-1].ids)
        if left <= 0:
            break
    return _joined(parts, truncated), output


@dataclass(frozen=True, slots=True)
class _Part:
    ids: list[bytes]
    keys: list[tuple[str, str, int]]
    groups: list[str]
    outputs: NDArray[np.float64]
    truth: bool
    labels: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, table: pa.Table, header: GroupHeader, column: str, output: str) -> _Part:
        keys = zip(*(table[n].to_pylist() for n in (TENANT, REQUEST_ID, ROW)), strict=True)
        return cls(
            table[EVENT_ID].to_pylist(),
            list(keys),
            [_text(value) for value in table[column].to_pylist()],
            _numbers(table[output]),
            pa.types.is_boolean(table[output].type),
            {
                n: _numbers(table[n])
                for n in header.outputs
                if n in table.column_names and _labels(table[n].type)
            },
        )


def _joined(parts: Sequence[_Part], truncated: bool) -> Predictions:
    names = {name for part in parts for name in part.labels}
    nothing = np.array([], np.float64)
    return Predictions(
        [i for p in parts for i in p.ids],
        [k for p in parts for k in p.keys],
        [g for p in parts for g in p.groups],
        np.concatenate([p.outputs for p in parts]) if parts else nothing,
        bool(parts) and all(p.truth for p in parts),
        {
            n: np.concatenate([p.labels.get(n, np.full(len(p.ids), np.nan)) for p in parts])
            for n in sorted(names)
        },
        truncated,
    )


def _check(table: pa.Table, header: GroupHeader, column: str, output: str) -> None:
    """Raises NoGroupsError."""
    known = [n for n in (*header.inputs, *header.features) if n not in header.masked]
    if column in header.masked:
        raise NoGroupsError("masked", known)
    if column not in known:
        raise NoGroupsError("unknown", known)
    if pa.types.is_nested(table[column].type):
        raise NoGroupsError("values", known)
    if output not in table.column_names or output not in header.outputs or not _averages(table[output].type):
        raise NoGroupsError(
            "output", [n for n in header.outputs if n in table.column_names and _averages(table[n].type)]
        )


def _first_output(table: pa.Table, header: GroupHeader) -> str:
    there = [n for n in header.outputs if n in table.column_names and _averages(table[n].type)]
    return min(there, key=lambda n: not pa.types.is_floating(table[n].type), default="")


def _averages(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind)) or _labels(kind)


def _labels(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """NaN: no value."""
    return np.array(pc.cast(column, pa.float64()).to_numpy(), np.float64)


def _text(value: object) -> str:
    if value is None:
        return _NULL
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value).lower() if isinstance(value, bool) else str(value)
