"""AccuracyService: figures → messages."""

from __future__ import annotations

from dataclasses import asdict

from headrace.api.monitoring.v1 import accuracy_pb2 as pb
from headrace.hop.call import Call
from services.monitoring import errors
from services.monitoring.accuracy.figures import VersionFigures
from services.monitoring.accuracy.keeper import AccuracyKeeper
from services.monitoring.outcomes.records import StorageError


class AccuracyServicer:
    """Serves headrace.api.monitoring.v1.AccuracyService."""

    def __init__(self, keeper: AccuracyKeeper) -> None:
        self._keeper = keeper

    async def ReadAccuracy(self, request: pb.ReadAccuracyRequest, call: Call) -> pb.ReadAccuracyResponse:
        errors.check_trusted(call)
        try:
            found = await self._keeper.figures(request.pipeline)
        except StorageError as error:
            raise errors.unread(str(error)) from None
        wanted = self._keeper.settings.least_coverage
        return pb.ReadAccuracyResponse(versions=map(_version, found), coverage_wanted=wanted)


def _version(found: VersionFigures) -> pb.VersionAccuracy:
    # None leaves an optional field out.
    message = pb.VersionAccuracy(
        **{name: value for name, value in asdict(found).items() if name not in ("delays_s", "newest")}
    )
    for field, delay_s in zip(("delay_p50", "delay_p90", "delay_p99"), found.delays_s or (), strict=False):
        getattr(message, field).FromMilliseconds(round(delay_s * 1000))
    return message
