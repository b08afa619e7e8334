"""A batch: rows, their columns, the rows that failed, and how long each stage took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Column, Mask, join
from headrace.hop.errors import Code, Fault, Reason

ANNOTATION = "@"
"""A column whose name begins so is passed on with the rows and is never an input of a model."""


@dataclass(slots=True)
class Rows:
    """The request that each row belongs to, as parallel lists of one length.

    `deadlines`: monotonic seconds. `priorities`: lower is shed first. `traceparents`: W3C trace context; "" if none.
    """

    request_ids: list[str]
    tenants: list[str]
    priorities: list[int]
    deadlines: list[float]
    traceparents: list[str]

    def __len__(self) -> int:
        return len(self.request_ids)

    @classmethod
    def one_request(
        cls,
        count: int,
        request_id: str,
        tenant: str,
        deadline: float,
        priority: int = 1,
        traceparent: str = "",
    ) -> Rows:
        ids, tenants, traces = [request_id] * count, [tenant] * count, [traceparent] * count
        return cls(ids, tenants, [priority] * count, [deadline] * count, traces)

    def slice(self, start: int, stop: int) -> Rows:
        return Rows(
            self.request_ids[start:stop],
            self.tenants[start:stop],
            self.priorities[start:stop],
            self.deadlines[start:stop],
            self.traceparents[start:stop],
        )

    def take(self, index: Sequence[int]) -> Rows:
        return Rows(
            [self.request_ids[i] for i in index],
            [self.tenants[i] for i in index],
            [self.priorities[i] for i in index],
            [self.deadlines[i] for i in index],
            [self.traceparents[i] for i in index],
        )


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row has no result: the fields of a Fault, and the name of the stage that failed it."""

    code: Code
    reason: Reason
    message: str
    stage: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fault: Fault, stage: str = "") -> RowError:
        return cls(fault.code, fault.reason, fault.message, stage, fault.metadata)

    def fault(self) -> Fault:
        """The row's error as that of a call. A limiter says in `retry_after_ms` when to try again."""
        wait = self.metadata.get("retry_after_ms", "")
        retry = int(wait) / 1000 if wait.isdecimal() else None
        return Fault(self.code, self.reason, self.message, metadata=self.metadata, retry_after_s=retry)


@dataclass(slots=True)
class Timing:
    """How long one stage took, in microseconds. `start_us`: counted from when the reporting service received the call."""

    stage: str
    service: str
    start_us: int
    duration_us: int
    row_count: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)

    def shifted(self, by_us: int) -> Timing:
        """The timing from the caller's view: the caller sent the call `by_us` microseconds after its own start."""
        return Timing(
            self.stage, self.service, self.start_us + by_us, self.duration_us, self.row_count, self.attributes
        )


@dataclass(slots=True, eq=False)
class Batch:
    """Rows with their columns. `errors`: row position → why it failed (its values then mean nothing)."""

    rows: Rows
    columns: Mapping[str, Column]
    errors: Mapping[int, RowError] = field(default_factory=dict)
    timings: Sequence[Timing] = ()

    @classmethod
    def of(cls, rows: Rows, columns: Iterable[Column]) -> Batch:
        return cls(rows, {c.name: c for c in columns})

    def __len__(self) -> int:
        return len(self.rows.request_ids)

    def ok(self) -> Mask:
        """bool (rows,): rows without an error."""
        mask = np.ones(len(self), bool)
        for row in self.errors:
            mask[row] = False
        return mask

    def slice(self, start: int, stop: int) -> Batch:
        """Rows start…stop−1, sharing memory; the timings are those of the whole batch."""
        errors = {r - start: e for r, e in self.errors.items() if start <= r < stop} if self.errors else {}
        columns = {n: c.slice(start, stop) for n, c in self.columns.items()}
        return Batch(self.rows.slice(start, stop), columns, errors, self.timings)

    def take(self, index: NDArray[np.intp]) -> Batch:
        """The rows at `index`, in that order (copied)."""
        positions = index.tolist()
        columns = {n: c.take(index) for n, c in self.columns.items()}
        failed = self.errors
        errors = {i: failed[old] for i, old in enumerate(positions) if old in failed} if failed else {}
        return Batch(self.rows.take(positions), columns, errors, self.timings)

    def with_columns(self, columns: Iterable[Column]) -> Batch:
        added = {c.name: c for c in columns}
        return Batch(self.rows, {**self.columns, **added}, self.errors, self.timings)

    def select(self, names: Iterable[str]) -> Batch:
        """This batch with only these columns. Raises KeyError for one that is not there."""
        return Batch(self.rows, {n: self.columns[n] for n in names}, self.errors, self.timings)

    def with_errors(self, errors: Mapping[int, RowError]) -> Batch:
        """This batch with more failed rows; a row that failed before keeps its first error."""
        return Batch(self.rows, self.columns, {**errors, **self.errors}, self.timings) if errors else self

    def expired(self, now: float, stage: str) -> dict[int, RowError]:
        """Errors for the rows whose deadline is at or before `now` (monotonic seconds)."""
        deadlines = self.rows.deadlines
        if not deadlines or min(deadlines) > now:
            return {}
        message = "the time budget of the row ended; allow it more time"
        late = RowError(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, stage)
        return {i: late for i, d in enumerate(deadlines) if d <= now}


def concat(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches with the same columns, one batch after the other; timings are dropped.

    Raises ValueError if their columns differ in name, type or row shape.
    """
    if len(batches) == 1:
        return batches[0]
    columns = batches[0].columns
    if [b for b in batches if len(b.columns) != len(columns)]:
        raise ValueError("batches with different columns can't be joined")
    try:
        joined = {name: join([b.columns[name] for b in batches]) for name in columns}
    except KeyError as missing:
        raise ValueError(f"column {missing} is not in every batch, so they can't be joined") from None
    rows = Rows(
        [i for b in batches for i in b.rows.request_ids],
        [i for b in batches for i in b.rows.tenants],
        [i for b in batches for i in b.rows.priorities],
        [i for b in batches for i in b.rows.deadlines],
        [i for b in batches for i in b.rows.traceparents],
    )
    return Batch(rows, joined, _joined_errors(batches))


def _joined_errors(batches: Sequence[Batch]) -> dict[int, RowError]:
    errors: dict[int, RowError] = {}
    if not any([b.errors for b in batches]):  # noqa: C419 - a list is faster here than a generator
        return errors
    start = 0
    for batch in batches:
        errors.update({start + row: error for row, error in batch.errors.items()})
        start += len(batch)
    return errors
