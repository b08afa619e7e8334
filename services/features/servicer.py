"""FeaturesService: messages in, messages out."""

from __future__ import annotations

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import decode, encode
from headrace.hop.call import Call
from services.features.reading import Reader
from services.features.refreshing import Catalog


class FeaturesServicer:
    """See headrace/api/features/v1/features.proto."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        plan = self._catalog.plan(request.feature_service)
        features = await self._reader.read(plan, decode(request.batch), call.remaining())
        return pb.GetFeaturesResponse(batch=encode(features), plan_revision=plan.revision)
