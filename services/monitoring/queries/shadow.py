"""How a pipeline's shadows compare with what callers got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.columns import Batch, RowError, Rows
from headrace.comparison import ComparisonReport, ShadowReport, quantiles
from headrace.events import (
    BUSY_US,
    CACHED,
    CODE,
    LATENCY_US,
    REASON,
    ROW,
    SEQUENCE,
    TIME_US,
    GroupHeader,
    prediction_id,
)
from headrace.hop.errors import Code
from services.monitoring.events.files.arrow import REQUEST_ID, TENANT, answered_column
from services.monitoring.events.files.selection import columns
from services.monitoring.events.store import EventStore
from services.monitoring.events.values import Problem

# Release, arm, and the arm that answered.
Group: TypeAlias = tuple[int, str, str]
MOST_PAIRS, MOST_REPORTS = 100_000, 8
_KEY = f'"{TENANT}", "{REQUEST_ID}", "{ROW}"'
# Whether a row is a shadow's. No column of a pipeline begins so.
_COPIED = "$copied"
_FACTS = (_COPIED, TENANT, REQUEST_ID, ROW, TIME_US, CODE, REASON, LATENCY_US, BUSY_US, CACHED)
# The rows of both arms, in the same order. A request may come again with the same id: its rows are
# numbered from the newest.
_PAIRS = f"""
WITH arms AS NOT MATERIALIZED (
    FROM events SELECT *, "$shadow_of" <> '' AS "{_COPIED}"
    WHERE "{TIME_US}" >= $1 AND "$release" = $2 AND NOT "$replayed"
        AND ("$arm", "$shadow_of") IN (($3, $4), ($4, ''))
), newest AS (
    FROM arms SELECT {_KEY} WHERE "{_COPIED}" ORDER BY "{TIME_US}" DESC LIMIT {MOST_PAIRS}
), numbered AS (
    FROM arms SEMI JOIN newest USING ({_KEY})
    SELECT *, row_number() OVER (
        PARTITION BY {_KEY}, "{_COPIED}" ORDER BY "{TIME_US}" DESC, "{SEQUENCE}" DESC
    ) AS "$number"
)
FROM numbered SELECT {{columns}}
QUALIFY count(*) OVER (PARTITION BY {_KEY}, "$number") = 2
ORDER BY "$number", {_KEY} LIMIT {2 * MOST_PAIRS}
"""  # noqa: S608 - of names and numbers of this program


def shadow_reports(store: EventStore, pipeline: str, first_us: int) -> tuple[list[ShadowReport], set[str]]:
    """Of rows since then, the newest release first; and the paths of files that could not be read.

    Blocks; raises StorageError.
    """
    reports, unreadable = list[ShadowReport](), set[str]()
    headers = store.headers(pipeline, first_us)
    groups = {(h.release, h.arm, h.shadow_of) for h in headers if h.shadow_of}
    for group in sorted(groups, reverse=True)[:MOST_REPORTS]:
        outputs = _outputs([h for h in headers if h.release == group[0]], *group[1:])
        table, problems = _pairs(store, pipeline, first_us, group, outputs)
        unreadable.update(problem.path for problem in problems)
        if table.num_rows:
            live, shadow = table.filter(pc.invert(table[_COPIED])), table.filter(table[_COPIED])
            reports.append(_report(pipeline, group, live, shadow, outputs))
    return reports, unreadable


def _pairs(
    store: EventStore, pipeline: str, first_us: int, group: Group, outputs: Sequence[str]
) -> tuple[pa.Table, list[Problem]]:
    sql = _PAIRS.format(columns=columns((*_FACTS, *outputs)))
    return store.ask(sql, [first_us, *group], pipeline, first_us, lambda header: header.release == group[0])


def _outputs(headers: Sequence[GroupHeader], arm: str, against: str) -> list[str]:
    """Those that both arms have, without personal data."""
    masked = {name for h in headers for name in h.masked}
    shadowed = {n for h in headers if (h.arm, h.shadow_of) == (arm, against) for n in h.outputs}
    live = dict.fromkeys(n for h in headers if (h.arm, h.shadow_of) == (against, "") for n in h.outputs)
    return [name for name in live if name in shadowed and name not in masked]


def _report(
    pipeline: str, group: Group, live: pa.Table, shadow: pa.Table, outputs: Sequence[str]
) -> ShadowReport:
    compared = ComparisonReport()
    compared.add(_answers(live, outputs), _answers(shadow, outputs), outputs)
    found = compared.message()
    found.pipeline, (found.release, found.arm, found.against) = pipeline, group
    found.begin_time.FromMicroseconds(int(_numbers(live, TIME_US).min()))
    # For a kept answer nothing was run, so its time is compared with nothing.
    ran = ~_numbers(live, CACHED).astype(bool)
    found.live_seconds.CopyFrom(quantiles([_numbers(live, LATENCY_US)[ran] / 1e6]))
    found.shadow_seconds.CopyFrom(quantiles([_numbers(shadow, LATENCY_US)[ran] / 1e6]))
    found.live_busy_seconds = _numbers(live, BUSY_US)[ran].sum() / 1e6
    found.shadow_busy_seconds = _numbers(shadow, BUSY_US)[ran].sum() / 1e6
    return found


def _answers(rows: pa.Table, outputs: Sequence[str]) -> Batch:
    """By their prediction ids."""
    names = [prediction_id(*of) for of in zip(*(rows[n].to_pylist() for n in (REQUEST_ID, ROW)), strict=True)]
    count = len(names)
    about = Rows(names, rows[TENANT].to_pylist(), [0] * count, [0.0] * count, [""] * count)
    found = [answered_column(rows, name) for name in outputs]
    return Batch(about, {c.name: c for c in found if c is not None}, dict(_errors(rows)))


def _errors(rows: pa.Table) -> Iterator[tuple[int, RowError]]:
    codes, reasons = _numbers(rows, CODE), _numbers(rows, REASON)
    for row in np.flatnonzero(codes).tolist():
        yield row, RowError(Code(int(codes[row])), cast("Any", int(reasons[row])), "")


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy())
