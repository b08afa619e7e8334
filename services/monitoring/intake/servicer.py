"""FactsService: messages → the rooms that keep their parts. One that fails holds up no other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable

from headrace.api.monitoring.v1 import events_pb2, explanations_pb2
from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.events import messages as event_messages
from headrace.hop.call import Call
from headrace.ticks import messages as tick_messages
from services.monitoring import errors
from services.monitoring.cost.from_explanations import ExplanationCost, ExplanationWork
from services.monitoring.events.reception import Reception
from services.monitoring.explanations.explanations import Explanations
from services.monitoring.explanations.records import Explanation
from services.monitoring.intake.answered import Answered
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log
from services.monitoring.ticks import Ticks

# A router tells each second; one that was silent for so long takes no part of the caps that routers share.
_LIVE_S = 5.0
_ID_BYTES = 16
_MOST, _MOST_COLUMNS = 1000, 256
_MOST_WORKS = 2000


class FactsServicer:
    """Serves headrace.api.monitoring.v1.FactsService."""

    def __init__(
        self,
        ticks: Ticks,
        reception: Reception,
        explanations: Explanations,
        answered: Answered,
        cost: ExplanationCost,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._ticks = ticks
        self._reception = reception
        self._explanations = explanations
        self._answered = answered
        self._cost = cost
        self._metrics = metrics
        self._log = log

    async def Report(self, request: pb.ReportRequest, call: Call) -> pb.ReportResponse:
        errors.check_trusted(call)
        if request.durable:
            return pb.ReportResponse(events=await self._commit(request.events))
        reply = pb.ReportResponse()
        for stream in request.answered:
            self._answered.heard(stream.epoch, stream.sequence)
        if request.HasField("tick"):
            reply.tick.CopyFrom(self._count(request))
        parts: dict[str, Awaitable[pb.PartReceipt]] = {}
        if request.HasField("events"):
            parts["events"] = self._store(request.events)
        if request.HasField("explanations"):
            parts["explanations"] = self._explain(request.epoch, request.explanations)
        receipts = await asyncio.gather(*parts.values(), return_exceptions=True)
        for name, receipt in zip(parts, receipts, strict=True):
            getattr(reply, name).CopyFrom(self._receipt(name, receipt))
        return reply

    def _receipt(self, part: str, receipt: pb.PartReceipt | BaseException) -> pb.PartReceipt:
        if not isinstance(receipt, BaseException):
            return receipt
        if isinstance(receipt, StorageError):
            return pb.PartReceipt(again=True, problem=str(receipt))
        if not isinstance(receipt, Exception):
            raise receipt
        told = f"{type(receipt).__name__}: {receipt}"
        self._log.error("a part of a report was not taken", part=part, error=told)
        return pb.PartReceipt(again=True, problem=type(receipt).__name__)

    def _count(self, request: pb.ReportRequest) -> pb.TickReceipt:
        try:
            tick = tick_messages.read(request.epoch, request.tick)
        except tick_messages.UnreadableError as error:
            raise errors.unreadable(str(error)) from None
        behind = self._ticks.take(tick)
        self._metrics.ticks.inc()
        return pb.TickReceipt(behind=behind, live_router_count=self._ticks.routers(_LIVE_S))

    async def _store(self, message: events_pb2.EventReport) -> pb.PartReceipt:
        try:
            groups, refused = event_messages.read(message)
        except event_messages.UnreadableError as error:
            return _lost(_rows(message), str(error))
        receipt = _lost(self._reception.refused(refused), refused[0].why if refused else "")
        taken = await self._reception.take(
            message.replica, message.epoch, message.noted_count, groups, durable=False
        )
        receipt.stored_count = taken.stored
        receipt.dropped_count += taken.dropped
        receipt.problem = receipt.problem or taken.problem
        return receipt

    async def _commit(self, message: events_pb2.EventReport) -> pb.PartReceipt:
        """Raises Fault: what the sender keeps is not on the disk."""
        try:
            groups, refused = event_messages.read(message)
        except event_messages.UnreadableError as error:
            raise errors.unreadable(str(error)) from None
        try:
            taken = await self._reception.take(
                message.replica, message.epoch, message.noted_count, groups, durable=True
            )
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        self._reception.refused(refused)
        if refused:
            raise errors.unreadable(refused[0].why)
        return pb.PartReceipt(stored_count=taken.stored)

    async def _explain(self, epoch: int, message: explanations_pb2.ExplanationReport) -> pb.PartReceipt:
        try:
            explanations, works = _read_explanations(message)
        except _UnreadableError as error:
            return _lost(len(message.explanations), str(error))
        report = b"".join(n.to_bytes(8, "big") for n in (epoch, message.number)) if message.number else b""
        stored, first = await self._explanations.record(explanations, report)
        if first:
            self._cost.take(works)
        return pb.PartReceipt(stored_count=stored)


def _lost(rows: int, problem: str) -> pb.PartReceipt:
    return pb.PartReceipt(dropped_count=rows, problem=problem)


def _rows(message: events_pb2.EventReport) -> int:
    return sum(len(group.batch.rows.request_ids) for group in message.groups)


class _UnreadableError(ValueError):
    """No router sends it. The text names the field."""


def _read_explanations(
    message: explanations_pb2.ExplanationReport,
) -> tuple[list[Explanation], list[ExplanationWork]]:
    """Explanations, and what they took. Raises _UnreadableError."""
    if len(message.explanations) > _MOST:
        raise _UnreadableError(f"explanations: at most {_MOST} in one message")
    if len(message.works) > _MOST_WORKS:
        raise _UnreadableError(f"works: at most {_MOST_WORKS} in one message")
    found = [_explanation(f"explanations[{i}]", e) for i, e in enumerate(message.explanations)]
    works = [_work(f"works[{i}]", w) for i, w in enumerate(message.works)]
    return found, works


def _work(place: str, message: explanations_pb2.ExplanationWork) -> ExplanationWork:
    """Raises _UnreadableError."""
    if not message.pipeline:
        raise _UnreadableError(f"{place}.pipeline is empty")
    busy = dict(message.busy_us)
    if not all(math.isfinite(us) and us >= 0 for us in busy.values()):
        raise _UnreadableError(f"{place}.busy_us is no time")
    return ExplanationWork(
        message.tenant, message.pipeline, message.explanation_count, message.row_count, busy
    )


def _explanation(place: str, message: explanations_pb2.Explanation) -> Explanation:
    """Raises _UnreadableError."""
    lists = (message.columns, message.contributions, message.standard_errors, message.base_sources)
    count = len(message.columns)
    if len(message.prediction_id) != _ID_BYTES:
        raise _UnreadableError(f"{place}.prediction_id has {_ID_BYTES} bytes")
    if not message.pipeline:
        raise _UnreadableError(f"{place}.pipeline is empty")
    if not 0 < count <= _MOST_COLUMNS or {len(each) for each in lists} != {count}:
        raise _UnreadableError(f"{place}: the lists have one value for each of 1 to {_MOST_COLUMNS} columns")
    numbers = (message.base, message.value, *message.contributions, *message.standard_errors)
    if not all(map(math.isfinite, numbers)):
        raise _UnreadableError(f"{place}: all numbers are finite")
    return Explanation(
        message.prediction_id,
        message.tenant,
        message.pipeline,
        message.revision,
        message.arm,
        message.output,
        message.base,
        message.value,
        message.exact,
        tuple(message.columns),
        tuple(message.contributions),
        tuple(message.standard_errors),
        tuple(message.base_sources),
    )
