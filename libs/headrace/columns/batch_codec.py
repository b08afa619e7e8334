"""How calls that carry a batch share one message: what hop's coalescer needs for every data hop."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headrace.columns.batch import Batch, RowError, Rows, concat
from headrace.columns.column import Column, Ragged
from headrace.columns.wire import Carrier, decode, encode_into
from headrace.hop.errors import CALLEE_FAULTS, Code, Fault, Reason

Header = TypeVar("Header", bound=Hashable)
Req = TypeVar("Req", bound=Carrier)
Resp = TypeVar("Resp", bound=Carrier)

# A row's time is its sender's choice; that a callee hangs is seen by the calls that time out.
_ROW_FAULTS = CALLEE_FAULTS - {Code.DEADLINE_EXCEEDED}
_NO_ERRORS: Mapping[int, RowError] = {}
# What a caller keeps of a row's time, so that a callee's answer still finds it waiting. Otherwise a callee that waits
# in vain for somebody else would be as late as that one, and be taken for the one that hangs.
_KEPT_SHARE = 0.05
_MAX_KEPT_S = 0.05


@dataclass(slots=True, eq=False)
class BatchCall(Generic[Header]):
    """What one caller wants done.

    `header`: what the message says besides the rows, for example (pipeline, version).
    """

    header: Header
    batch: Batch


@dataclass(slots=True, eq=False)
class BatchReply(Generic[Resp]):
    """What one caller gets: its rows of the reply, and the whole reply for its other fields."""

    response: Resp
    batch: Batch


@dataclass(frozen=True, slots=True)
class ColumnCodec(Generic[Header, Req, Resp]):
    """hop's `BatchCodec` of BatchCall items.

    Items share a call if header, column names, their order, types and row shapes are the same. The reply's rows
    must be the request's, in the same order. `make_request` gives the request without its batch. `callee`: what the
    callee gives as the stage of the rows that it failed itself; by other stages it names the services behind it.
    """

    make_request: Callable[[Header], Req]
    clock: Callable[[], float] = time.monotonic
    callee: str = ""

    def key(self, item: BatchCall[Header]) -> Hashable:
        return item.header, *[(c.name, c.dtype, c.row_shape) for c in item.batch.columns.values()]

    def rows(self, item: BatchCall[Header]) -> int:
        return len(item.batch.rows.request_ids)

    def size(self, item: BatchCall[Header]) -> int:
        """Bytes of the columns' values."""
        values = [c.values for c in item.batch.columns.values()]
        return sum([v.size_bytes if isinstance(v, Ragged) else v.nbytes for v in values])

    def deadline(self, item: BatchCall[Header]) -> float:
        """Latest deadline among the rows; −inf for a batch without rows."""
        return max(item.batch.rows.deadlines, default=float("-inf"))

    def priority(self, item: BatchCall[Header]) -> int:
        return max(item.batch.rows.priorities, default=0)

    def traceparents(self, items: Sequence[BatchCall[Header]]) -> list[str]:
        """Trace contexts of the rows that have one, for links from the call's span."""
        return [t for item in items for t in item.batch.rows.traceparents if t]

    def failed(self, results: Sequence[BatchReply[Resp]]) -> float:
        """Share of the rows that the callee itself could not answer, for its breaker."""
        if not any([r.batch.errors for r in results]):  # noqa: C419 - a list is faster here than a generator
            return 0.0
        rows = sum(len(r.batch.rows) for r in results)
        return sum(self._is_callees(e) for r in results for e in r.batch.errors.values()) / max(rows, 1)

    def _is_callees(self, error: RowError) -> bool:
        # A step of the sender's own specification that breaks is no reason to spare the callee.
        if error.code not in _ROW_FAULTS or error.reason == Reason.REASON_STEP_FAILED:
            return False
        return error.stage in ("", self.callee)

    def merge(self, items: Sequence[BatchCall[Header]]) -> Req:
        now = self.clock()
        request = self.make_request(items[0].header)
        encode_into(request.batch, _hurried(items, now), now)
        return request

    def load(self, items: Sequence[BatchCall[Header]]) -> tuple[Req, Batch]:
        """The request without its batch, and the batch, for a callee in this process."""
        return self.make_request(items[0].header), _hurried(items, self.clock())

    def split(self, items: Sequence[BatchCall[Header]], response: Resp) -> list[BatchReply[Resp]]:
        """Raises Fault INTERNAL if the reply is malformed or has another number of rows."""
        try:
            whole = decode(response.batch, self.clock())
        except Fault as fault:
            raise _misfit(f"the reply is malformed: {fault.message}") from fault
        return self._dealt(items, response, whole)

    def unload(
        self, items: Sequence[BatchCall[Header]], response: Resp, returned: Batch
    ) -> list[BatchReply[Resp]]:
        """The same of a batch that a callee in this process returned as it is."""
        return self._dealt(items, response, returned)

    def _dealt(
        self, items: Sequence[BatchCall[Header]], response: Resp, whole: Batch
    ) -> list[BatchReply[Resp]]:
        counts = [len(i.batch.rows.request_ids) for i in items]
        if len(whole) != sum(counts):
            raise _misfit(f"the reply has {len(whole)} rows; {sum(counts)} were sent")
        if len(items) == 1:
            # The rows are the caller's own: same order, and their deadlines have not been through rounding.
            return [
                BatchReply(response, Batch(items[0].batch.rows, whole.columns, whole.errors, whole.timings))
            ]
        replies, start = [], 0
        for item, count in zip(items, counts, strict=True):
            stop = start + count
            batch = Batch(
                item.batch.rows,
                _Slice(whole.columns, start, stop),
                _errors(whole.errors, start, stop) if whole.errors else _NO_ERRORS,
                whole.timings,
            )
            replies.append(BatchReply(response, batch))
            start = stop
        return replies


def _hurried(items: Sequence[BatchCall[Header]], now: float) -> Batch:
    """The rows of all items, with deadlines a little before those that their senders know."""
    batch = concat([i.batch for i in items])
    given = batch.rows
    deadlines = [d - min(_KEPT_SHARE * (d - now), _MAX_KEPT_S) for d in given.deadlines]
    rows = Rows(given.request_ids, given.tenants, given.priorities, deadlines, given.traceparents)
    return Batch(rows, batch.columns, batch.errors, batch.timings)


class _Slice(Mapping[str, Column]):
    """Rows start…stop−1 of columns, cut out when asked for: whoever waited for a row looks at a few of its columns."""

    __slots__ = ("_columns", "_start", "_stop")

    def __init__(self, columns: Mapping[str, Column], start: int, stop: int) -> None:
        self._columns, self._start, self._stop = columns, start, stop

    def __getitem__(self, name: str) -> Column:
        return self._columns[name].slice(self._start, self._stop)

    def get(self, name: str, default: Any = None) -> Any:
        # The mixin's way round by an exception costs more than the cut.
        column = self._columns.get(name)
        return default if column is None else column.slice(self._start, self._stop)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _errors(errors: Mapping[int, RowError], start: int, stop: int) -> dict[int, RowError]:
    return {row - start: errors[row] for row in range(start, stop) if row in errors}


def _misfit(message: str) -> Fault:
    return Fault(Code.INTERNAL, Reason.REASON_INTERNAL, message)
