"""MonitoringService: messages → domain → messages."""

from __future__ import annotations

from collections.abc import Callable

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.hop.call import Call
from headrace.ticks.messages import UnreadableError, read
from services.monitoring import errors
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.records import MAX_OUTCOMES, Outcome, StorageError
from services.monitoring.ticks import Ticks


class MonitoringServicer:
    """Serves headrace.api.monitoring.v1.MonitoringService. `wall`: seconds since 1970."""

    def __init__(self, ticks: Ticks, recorder: Recorder, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._ticks = ticks
        self._recorder = recorder
        self._metrics = metrics
        self._wall = wall

    async def ReportTicks(self, request: pb.ReportTicksRequest, call: Call) -> pb.ReportTicksResponse:
        _check_peer(call)
        try:
            tick = read(request)
        except UnreadableError as error:
            raise errors.unreadable(str(error)) from None
        behind = self._ticks.take(tick)
        self._metrics.ticks.inc()
        await self._recorder.expose(tick.exposures)
        return pb.ReportTicksResponse(behind=behind)

    async def RecordOutcomes(
        self, request: pb.RecordOutcomesRequest, call: Call
    ) -> pb.RecordOutcomesResponse:
        _check_peer(call)
        if len(request.outcomes) > MAX_OUTCOMES:
            raise errors.too_many(len(request.outcomes), MAX_OUTCOMES)
        now = self._wall()
        outcomes = [_outcome(message, now) for message in request.outcomes]
        try:
            await self._recorder.record(request.tenant, outcomes)
        except StorageError as error:
            raise errors.storage_unavailable(str(error)) from None
        return pb.RecordOutcomesResponse(accepted_count=len(outcomes))


def _outcome(message: pb.Outcome, now: float) -> Outcome:
    label = message.WhichOneof("value") == "label"
    time = message.time.seconds + message.time.nanos / 1e9 if message.HasField("time") else now
    value = float(message.label) if label else message.number
    return Outcome(message.request_id, message.row, message.name, value, label, time)


def _check_peer(call: Call) -> None:
    if not call.peer.trusted:
        raise errors.untrusted()
