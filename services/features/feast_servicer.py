"""Feast's ServingService: Feast's own clients, unmodified, get the same values as pipelines."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib import metadata

from headrace.columns import Batch, Rows
from headrace.hop.call import Call
from services.features.feast.messages import serving as pb
from services.features.freshness.freshness import Source, ViewResult
from services.features.plan.catalog import Catalog
from services.features.reader import Reader
from services.features.reply import feast_messages as serving

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ServingService"]
# Trailing metadata that names the views with values that are not the store's current ones, as `view=stale`.
FALLBACKS = "headrace-fallbacks"


class ServingServicer:
    """See feast/serving/ServingService.proto in Feast."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def GetFeastServingInfo(
        self, _request: pb.GetFeastServingInfoRequest, _call: Call
    ) -> pb.GetFeastServingInfoResponse:
        return pb.GetFeastServingInfoResponse(version=metadata.version("feast"))

    async def GetOnlineFeatures(self, request: pb.GetOnlineFeaturesRequest, call: Call) -> bytes:
        """The reply as bytes; see reply/feast_messages.py."""
        if request.WhichOneof("kind") == "features":
            plan = self._catalog.plan_of(tuple(request.features.val))
        else:
            plan = self._catalog.plan(request.feature_service)
        given = {**request.entities, **request.request_context}
        columns, count = serving.columns_of(given, plan)
        deadline = call.deadline if math.isfinite(call.deadline) else time.monotonic() + 3600
        batch = Batch(Rows.one_request(count, "", "", deadline), columns)
        judged, answered = await self._reader.read(plan, batch, call.remaining())
        call.notes = answered.timings[0].attributes
        names, results = list(columns), [serving.echo(given[name]) for name in columns]
        for one, shown in zip(judged, plan.given_counts, strict=True):
            if shown > 0:
                prefix = f"{one.view.name}__" if request.full_feature_names else ""
                names += [prefix + feature.name for feature in one.view.features[:shown]]
                results += serving.vectors(one, shown)
        if told := _fallbacks(judged):
            call.trailing.append((FALLBACKS, told))
        return serving.response(names, results)


def _fallbacks(judged: Sequence[ViewResult]) -> str:
    """`view=stale,view=default` for the views with values that the store did not confirm."""
    told = [
        f"{one.view.name}={source.name.lower()}"
        for one in judged
        for source in (Source.STALE, Source.DEFAULT)
        if source in one.sources
    ]
    return ",".join(told)
