"""Reads predictions out of stored events, for bias slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.events import CODE, EVENT_ID, ROW, TIME_US, GroupHeader
from services.monitoring.events.files.arrow import REQUEST_ID, TENANT
from services.monitoring.events.store import EventStore
from services.monitoring.explanations.bias import Predictions

MOST_PREDICTIONS = 200_000
_NULL = "null"
_IDS = (EVENT_ID, TENANT, REQUEST_ID, ROW)
_COLUMNS = "SELECT column_name, column_type FROM (DESCRIBE events)"
# Of rows that were answered by the arm itself, at the time of the request.
_ANSWERED = f'"{CODE}" = 0 AND NOT "$replayed" AND "$shadow_of" = \'\' AND "{TIME_US}" >= ?'


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions, and what makes the groups. `output` "": the first that can be averaged. `first_us`: not older."""

    pipeline: str
    column: str
    output: str = ""
    first_us: int = 0


class NoGroupsError(Exception):
    """The column makes no groups. `cause`: `unknown`, `masked`, `values` or `output`; `known`: what could be named instead."""

    def __init__(self, cause: str, known: Sequence[str] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.known = tuple(known)


def predictions(store: EventStore, wanted: Wanted) -> tuple[Predictions, str]:
    """The newest predictions of a pipeline, and the output that was taken. Blocks.

    Raises NoGroupsError, StorageError.
    """
    headers = store.headers(wanted.pipeline, wanted.first_us)
    if not headers:
        return Predictions([], [], [], np.array([], np.float64), False, {}), wanted.output
    described, _ = store.ask(_COLUMNS, [], wanted.pipeline, wanted.first_us)
    types = dict(zip(*(column.to_pylist() for column in described.columns), strict=True))
    _check_column(wanted.column, headers, types)
    outputs = [n for n in dict.fromkeys(n for h in headers for n in h.outputs) if _averages(types.get(n, ""))]
    if wanted.output and wanted.output not in outputs:
        raise NoGroupsError("output", outputs)
    output = wanted.output or min(outputs, key=lambda n: types[n] not in _FLOATS, default="")
    if not output:
        raise NoGroupsError("output")
    names = [*_IDS, wanted.column, *(n for n in outputs if n != wanted.column)]
    chosen = ", ".join(quoted(name) for name in names)
    newest = f'FROM events SELECT {chosen} WHERE {_ANSWERED} ORDER BY "{TIME_US}" DESC LIMIT {MOST_PREDICTIONS + 1}'
    table, _ = store.ask(newest, [wanted.first_us], wanted.pipeline, wanted.first_us)
    found = table.slice(0, MOST_PREDICTIONS)
    return Predictions(
        found[EVENT_ID].to_pylist(),
        list(zip(*(found[name].to_pylist() for name in _IDS[1:]), strict=True)),
        [_text(value) for value in found[wanted.column].to_pylist()],
        _numbers(found[output]),
        types[output] == "BOOLEAN",
        {name: _numbers(found[name]) for name in sorted(outputs) if types[name] not in _FLOATS},
        table.num_rows > found.num_rows,
    ), output


def _check_column(column: str, headers: Sequence[GroupHeader], types: dict[str, str]) -> None:
    """Raises NoGroupsError."""
    masked = {name for header in headers for name in header.masked}
    known = [
        n for n in dict.fromkeys(n for h in headers for n in (*h.inputs, *h.features)) if n not in masked
    ]
    if column in masked:
        raise NoGroupsError("masked", known)
    if column not in known or column not in types:
        raise NoGroupsError("unknown", known)
    if types[column].endswith("]"):
        raise NoGroupsError("values", known)


_FLOATS = ("FLOAT", "DOUBLE")


def _averages(kind: str) -> bool:
    """Whether values of this type of DuckDB have a mean."""
    return kind in (*_FLOATS, "BOOLEAN") or kind.endswith("INT") or kind in ("INTEGER", "UINTEGER")


def quoted(name: str) -> str:
    """The name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """NaN: no value."""
    return np.array(pc.cast(column, pa.float64()).to_numpy(), np.float64)


def _text(value: object) -> str:
    if value is None:
        return _NULL
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value).lower() if isinstance(value, bool) else str(value)
