"""AccuracyService: figures → messages."""

from __future__ import annotations

from headrace.api.monitoring.v1 import accuracy_pb2 as pb
from headrace.hop.call import Call
from services.monitoring import errors
from services.monitoring.accuracy.figures import VersionFigures
from services.monitoring.accuracy.keeper import AccuracyKeeper
from services.monitoring.outcomes.records import StorageError


class AccuracyServicer:
    """Serves headrace.api.monitoring.v1.AccuracyService."""

    def __init__(self, keeper: AccuracyKeeper, least_coverage: float) -> None:
        self._keeper = keeper
        self._least_coverage = least_coverage

    async def ReadAccuracy(self, request: pb.ReadAccuracyRequest, call: Call) -> pb.ReadAccuracyResponse:
        errors.check_trusted(call)
        try:
            found = await self._keeper.figures(request.pipeline)
        except StorageError as error:
            raise errors.unread(str(error)) from None
        return pb.ReadAccuracyResponse(
            versions=[_version(f) for f in found], coverage_wanted=self._least_coverage
        )


def _version(found: VersionFigures) -> pb.VersionAccuracy:
    # None leaves an optional field out.
    message = pb.VersionAccuracy(
        pipeline=found.pipeline,
        version=found.version,
        prediction_count=found.rows,
        label_count=found.labels,
        coverage=found.coverage,
        accuracy=found.accuracy,
        judged_count=found.labelled,
        wrong_count=found.wrong,
        told_window_count=found.told,
        window_count=found.windows,
        expected_accuracy=found.expected,
        contradiction_count=found.contradictions,
    )
    if found.delays_s is not None:
        for field, delay_s in zip(("delay_p50", "delay_p90", "delay_p99"), found.delays_s, strict=True):
            getattr(message, field).FromMilliseconds(round(delay_s * 1000))
    return message
