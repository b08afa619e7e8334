"""Joins the batches of several calls into one message and splits the reply: what hop's batching needs for every data hop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headrace.columns.batch import Batch, RowError, Rows, concat
from headrace.columns.column import Column
from headrace.columns.wire import Carrier, decode, encode_into
from headrace.hop.batching.codec import ItemDescription
from headrace.hop.errors import Code, Fault, Reason, counts_against_callee

Header = TypeVar("Header", bound=Hashable)
Req = TypeVar("Req", bound=Carrier)
Resp = TypeVar("Resp", bound=Carrier)

_NO_ERRORS: Mapping[int, RowError] = {}
# The share of a row's remaining time that the caller keeps for itself, so that the callee's error still reaches it in time.
# Otherwise a callee that waits for a service behind it would time out together with it, and would be taken for the one that
# hangs.
_KEPT_SHARE = 0.05
_MAX_KEPT_S = 0.05
_FAR_S = _MAX_KEPT_S / _KEPT_SHARE


@dataclass(slots=True, eq=False)
class BatchCall(Generic[Header]):
    """The call of one caller. `header`: the fields of its message besides the batch, for example (pipeline, version)."""

    header: Header
    batch: Batch


@dataclass(slots=True, eq=False)
class BatchReply(Generic[Resp]):
    """The reply for one caller: its own rows as `batch`, and the shared message for its other fields."""

    response: Resp
    batch: Batch


@dataclass(frozen=True, slots=True)
class ColumnCodec(Generic[Header, Req, Resp]):
    """hop's `BatchCodec` of BatchCall items.

    Items share a message if their header and the names, order, types and row shapes of their columns are equal. The reply's rows
    must be the request's, in the same order. `make_request`: makes the request without its batch. `callee`: the stage that
    the callee names in errors of rows that it failed itself; other stages are services behind it.
    """

    make_request: Callable[[Header], Req]
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    callee: str = ""

    def describe(self, item: BatchCall[Header]) -> ItemDescription:
        """Size: bytes of the columns' values. Deadline of a batch without rows: −inf.

        Rows of several tenants come from a queue where these had equal shares already: they count as one more tenant.
        """
        batch = item.batch
        rows, columns, tenants = batch.rows, [*batch.columns.values()], batch.rows.tenants
        key = (item.header, *[(c.name, c.dtype, c.row_shape) for c in columns])
        size, count = sum([c.values.nbytes for c in columns]), len(tenants)
        if not count:
            return key, None, 0, size, -math.inf, 0
        tenant = tenants[0] if tenants.count(tenants[0]) == count else None
        return key, tenant, count, size, max(rows.deadlines), max(rows.priorities)

    def failed(self, results: Sequence[BatchReply[Resp]]) -> float:
        """Share of the rows (0 to 1) that the callee itself failed, for its circuit breaker."""
        return self.failed_share([r.batch for r in results])

    def failed_share(self, batches: Sequence[Batch]) -> float:
        """The same of the rows of several batches."""
        errors = [e for b in batches if b.errors for e in b.errors.values()]
        return sum(map(self._is_fault_of_callee, errors)) / sum(map(len, batches)) if errors else 0.0

    def _is_fault_of_callee(self, error: RowError) -> bool:
        # Not a row's passed deadline: the sender chooses it. A callee that hangs is noticed by the calls that time out.
        if error.code == Code.DEADLINE_EXCEEDED or not counts_against_callee(error.code, error.reason):
            return False
        return error.stage in ("", self.callee)

    def merge(self, items: Sequence[BatchCall[Header]]) -> Req:
        now = self.clock()
        request = self.make_request(items[0].header)
        encode_into(request.batch, _with_earlier_deadlines(items, now), now)
        return request

    def load(self, items: Sequence[BatchCall[Header]]) -> tuple[Req, Batch]:
        """The request without its batch, and the joined batch, for a callee in this process."""
        return self.make_request(items[0].header), _with_earlier_deadlines(items, self.clock())

    def split(self, items: Sequence[BatchCall[Header]], response: Resp) -> list[BatchReply[Resp]]:
        """Raises Fault INTERNAL if the reply is malformed or has another number of rows."""
        try:
            whole = decode(response.batch, self.clock())
        except Fault as fault:
            raise _bad_reply(f"the reply is malformed: {fault.message}") from fault
        return self.unload(items, response, whole)

    def unload(
        self, items: Sequence[BatchCall[Header]], response: Resp, whole: Batch
    ) -> list[BatchReply[Resp]]:
        """As `split`, of a batch that a callee in this process returned as an object."""
        given, own = len(whole.rows.request_ids), items[0].batch.rows
        if len(items) == 1 and given == len(own.request_ids):
            # The caller's own rows: the same order, and deadlines that were not rounded to microseconds.
            return [BatchReply(response, Batch(own, whole.columns, whole.errors, whole.timings))]
        counts = [len(i.batch.rows.request_ids) for i in items]
        if given != sum(counts):
            raise _bad_reply(f"the reply has {given} rows; {sum(counts)} were sent")
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


def _with_earlier_deadlines(items: Sequence[BatchCall[Header]], now: float) -> Batch:
    """The rows of all items, with deadlines a little earlier than the senders' own."""
    batch = items[0].batch if len(items) == 1 else concat([i.batch for i in items])
    given = batch.rows
    far = now + _FAR_S
    deadlines = [d - (_MAX_KEPT_S if d > far else _KEPT_SHARE * (d - now)) for d in given.deadlines]
    rows = Rows(given.request_ids, given.tenants, given.priorities, deadlines, given.traceparents)
    return Batch(rows, batch.columns, batch.errors, batch.timings)


class _Slice(Mapping[str, Column]):
    """Rows start…stop−1 of columns. A column is sliced when it is read, because a caller reads only a few of them."""

    __slots__ = ("_columns", "_start", "_stop")

    def __init__(self, columns: Mapping[str, Column], start: int, stop: int) -> None:
        self._columns, self._start, self._stop = columns, start, stop

    def __getitem__(self, name: str) -> Column:
        return self._columns[name].slice(self._start, self._stop)

    def get(self, name: str, default: Any = None) -> Any:
        # Mapping's own `get` catches a KeyError, which takes longer than the slice.
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


def _bad_reply(message: str) -> Fault:
    return Fault(Code.INTERNAL, Reason.REASON_INTERNAL, message)
