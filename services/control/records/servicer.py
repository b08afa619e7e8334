"""RecordsService: messages → records → messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from headrace.api.control.v1 import records_pb2 as pb
from headrace.catalog import messages
from headrace.catalog.access import KEPT_VERSIONS, Change, Made, Record
from headrace.catalog.changes import check
from headrace.catalog.errors import RecordsDivergedError, RecordsError, RecordsUnavailableError
from headrace.catalog.faults import fault_of
from headrace.catalog.records import CatalogRecords
from headrace.catalog.verification import verify
from headrace.hop.call import Call
from services.control.head import ANSWER_S, MAX_WAIT_S, Head, Seen, seen_of
from services.control.health import Failed
from services.control.identity import Identities
from services.control.metrics import Metrics
from services.control.records import kinds, limits

R = TypeVar("R")
_PAGE_BYTES = 1 << 20
_PAGE_COUNT = 1000


class RecordsServicer:
    """Serves headrace.api.control.v1.RecordsService.

    `records`: raises RecordsUnavailableError while the database is not open;
    `refusal`: why no change is accepted now; "": changes are accepted. `newest_epoch`: that any follower has. `judged`: see
    `Publication`. `settled`: set once changes may be made after a start. `failed`: hears whether the database can be written.
    """

    def __init__(
        self,
        records: Callable[[], CatalogRecords],
        head: Head,
        identities: Identities,
        refusal: Callable[[], str],
        newest_epoch: Callable[[], int],
        judged: Callable[[int], Awaitable[None]],
        settled: asyncio.Event,
        metrics: Metrics,
        failed: Failed,
        reads: ThreadPoolExecutor,
        changes: ThreadPoolExecutor,
    ) -> None:
        self._records = records
        self._head = head
        self._identities = identities
        self._refusal = refusal
        self._newest_epoch = newest_epoch
        self._judged = judged
        self._settled = settled
        self._metrics = metrics
        self._failed = failed
        self._reads = reads
        self._changes = changes

    async def ReadRecord(self, request: pb.ReadRecordRequest, call: Call) -> pb.ReadRecordResponse:
        limits.check_names(request.kind, request.name)
        self._identities.check_read(call.peer, request.kind)
        count = min(max(request.version_count, 1), KEPT_VERSIONS)
        found = await _on(self._reads, lambda: self._records().read(request.kind, request.name, count))
        return pb.ReadRecordResponse(versions=map(messages.record_message, found))

    async def ListRecords(self, request: pb.ListRecordsRequest, call: Call) -> pb.ListRecordsResponse:
        limits.check_names(request.kind, *filter(None, (request.name_prefix, request.after_name)))
        self._identities.check_read(call.peer, request.kind)
        found, more = await _on(self._reads, lambda: self._list(request))
        return pb.ListRecordsResponse(records=map(messages.record_message, found), more=more)

    async def ChangeRecords(self, request: pb.ChangeRecordsRequest, call: Call) -> pb.ChangeRecordsResponse:
        self._identities.check_change(call.peer)
        change = messages.change_of(request)
        made = await self.once_accepted(lambda: self._change(change))
        self._metrics.changes.inc()
        return messages.made_message(made)

    async def once_accepted(self, function: Callable[[], R], *, writes: bool = True) -> R:
        """On a thread, once changes are accepted. `writes`: see `_write`. Raises Fault: the database can't be used, or has not
        what processes have."""
        try:
            self._records()
        except RecordsError as error:
            raise fault_of(error) from None
        await self._settled.wait()
        if why := self._refusal():
            self._metrics.refused.labels("diverged").inc()
            raise fault_of(RecordsDivergedError(why))
        return await self._write(function, writes=writes)

    async def BeginEpoch(self, request: pb.BeginEpochRequest, call: Call) -> pb.BeginEpochResponse:
        self._identities.check_change(call.peer)
        change = messages.change_of(request.change)
        # Also after an epoch that only processes of the data plane have.
        above = self._newest_epoch()
        made = await self._write(lambda: self._records().begin_epoch(change, above))
        await self._judged(made.position.epoch)
        self._metrics.changes.inc()
        return pb.BeginEpochResponse(position=messages.position_message(made.position))

    async def TakeLease(self, request: pb.TakeLeaseRequest, call: Call) -> pb.TakeLeaseResponse:
        self._identities.check_lease(call.peer, request.name)
        limits.check_lease(request.name, request.holder, request.token, request.duration_ms)
        duration_s = request.duration_ms / 1000
        token = await self._write(
            lambda: self._records().take_lease(request.name, request.holder, duration_s, request.token),
        )
        return pb.TakeLeaseResponse(token=token, holder=request.holder if token else "")

    async def GiveBackLease(self, request: pb.GiveBackLeaseRequest, call: Call) -> pb.GiveBackLeaseResponse:
        self._identities.check_lease(call.peer, request.lease.name)
        limits.check_lease(request.lease.name, "", request.lease.token, 1)
        await self._write(lambda: self._records().give_back(messages.lease_of(request.lease)))
        return pb.GiveBackLeaseResponse()

    async def ListAuditLines(
        self, request: pb.ListAuditLinesRequest, call: Call
    ) -> pb.ListAuditLinesResponse:
        self._identities.check_change(call.peer)
        after = min(request.after_number, limits.MAX_NUMBER)
        lines, more = await _on(self._reads, lambda: self._lines(after))
        return pb.ListAuditLinesResponse(lines=lines, more=more)

    async def VerifyRecords(self, _request: pb.VerifyRecordsRequest, call: Call) -> pb.VerifyRecordsResponse:
        self._identities.check_change(call.peer)
        problems = await _on(self._reads, lambda: verify(self._records()))
        return pb.VerifyRecordsResponse(
            problems=[pb.AuditProblem(fault=p.fault, number=p.number, text=p.text) for p in problems]
        )

    async def ReadPosition(self, request: pb.ReadPositionRequest, call: Call) -> pb.ReadPositionResponse:
        self._identities.check_known(call.peer)
        if request.HasField("known") and request.wait_ms:
            until = min(time.monotonic() + min(request.wait_ms / 1000, MAX_WAIT_S), call.deadline - ANSWER_S)
            try:
                seen = await self._head.wait(messages.position_of(request.known), until, caller=True)
            except RecordsError as error:
                raise fault_of(error) from None
        else:
            # What was just changed, by whichever process of control.
            seen = await _on(self._reads, self._seen)
        reply = pb.ReadPositionResponse(
            position=messages.position_message(seen.position), refuses_changes=self._refusal()
        )
        if seen.changed_at is not None:
            reply.changed_at.FromDatetime(seen.changed_at)
        return reply

    def _change(self, change: Change) -> Made:
        check(change)  # what is too large is not looked at
        kinds.check_documents(change)
        return self._records().change(change, kinds.check_writes)

    async def _write(self, function: Callable[[], R], *, writes: bool = True) -> R:
        """On a thread. `writes`: whether it always writes, so that its success says that this can be done. Raises Fault."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._changes, function)
        except RecordsError as error:
            if isinstance(error, RecordsUnavailableError):
                self._failed(error)
            raise fault_of(error) from None
        if writes:
            self._failed(None)
        return found

    def _seen(self) -> Seen:
        records = self._records()
        return seen_of(records, records.position())

    def _list(self, request: pb.ListRecordsRequest) -> tuple[Sequence[Record], bool]:
        found = self._records().list(
            request.kind,
            request.name_prefix,
            names_only=request.names_only,
            after=request.after_name,
            limit=_PAGE_COUNT + 1,
        )
        return _page(found, lambda record: len(record.content or b""))

    def _lines(self, after: int) -> tuple[Sequence[pb.AuditLine], bool]:
        lines = self._records().lines_page(after, _PAGE_COUNT + 1)
        return _page(list(map(messages.line_message, lines)), lambda line: len(line.line))


def _page(items: Sequence[R], size: Callable[[R], int]) -> tuple[Sequence[R], bool]:
    """As many as fit into a page, at least one, and whether there are more."""
    left = _PAGE_BYTES
    for count, item in enumerate(items):
        left -= size(item)
        if count and (left < 0 or count == _PAGE_COUNT):
            return items[:count], True
    return items, False


async def _on(threads: ThreadPoolExecutor, function: Callable[[], R]) -> R:
    """On a thread, as it blocks. Raises Fault."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, function)
    except RecordsError as error:
        raise fault_of(error) from None
