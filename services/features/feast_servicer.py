"""Feast's ServingService: Feast's own clients, unmodified, get the same values as pipelines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from headrace.columns import Batch, Rows
from headrace.hop.call import Call
from services.features.call_groups import CallGroups
from services.features.feast.messages import RepeatedValue
from services.features.feast.messages import serving as pb
from services.features.freshness.freshness import Source, ViewResult
from services.features.plan.catalog import Catalog
from services.features.plan.plan import ServicePlan
from services.features.reader import Reader, fallbacks_of
from services.features.reply import feast_messages as serving

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ServingService"]
# Trailing metadata that names the views with values that are not the store's current ones, as `view=stale`.
FALLBACKS = "headrace-fallbacks"
_HOUR_S = 3600
_MANY_ROWS = 256


@dataclass(frozen=True, slots=True)
class _Query:
    """A call: its request, the plan of its feature service, and its columns by name."""

    request: pb.GetOnlineFeaturesRequest
    plan: ServicePlan
    given: Mapping[str, RepeatedValue]
    call: Call


class ServingServicer:
    """See feast/serving/ServingService.proto in Feast. `store_timeout_s`: see config.py."""

    def __init__(self, catalog: Catalog, reader: Reader, store_timeout_s: float) -> None:
        self._catalog = catalog
        self._reader = reader
        self._ample_s = 2 * store_timeout_s
        self._groups = CallGroups(self._serve)

    async def GetFeastServingInfo(
        self, _request: pb.GetFeastServingInfoRequest, _call: Call
    ) -> pb.GetFeastServingInfoResponse:
        return pb.GetFeastServingInfoResponse(version=metadata.version("feast"))

    async def GetOnlineFeatures(self, request: pb.GetOnlineFeaturesRequest, call: Call) -> bytes:
        """The reply as bytes; see reply/feast_messages.py. Calls that come at about the same time are read together."""
        if request.WhichOneof("kind") == "features":
            plan = self._catalog.plan_of(tuple(request.features.val))
        else:
            plan = self._catalog.plan(request.feature_service)
        given = {**request.entities, **request.request_context}
        # A function of an author could fail for the rows of others. Calls of many rows, or of little time, would harm others.
        alone = plan.fallback or plan.on_demand or call.remaining() < self._ample_s
        large = max([len(values.val) for values in given.values()], default=0) > _MANY_ROWS
        key = None if alone or large else (id(plan), frozenset(given))
        return await self._groups.submit(key, _Query(request, plan, given, call))

    async def _serve(self, queries: Sequence[_Query]) -> list[bytes]:
        plan = queries[0].plan
        columns, counts = serving.columns_of([query.given for query in queries], plan)
        rows = sum(counts)
        now = time.monotonic()
        budget_s = min([query.call.remaining() for query in queries])
        batch = Batch(Rows.one_request(rows, "", "", now + min(budget_s, _HOUR_S)), columns)
        results, answered = await self._reader.read(plan, batch, budget_s)
        replies, start = [], 0
        for query, vectors, count in zip(
            queries, serving.vectors(results, plan, counts), counts, strict=True
        ):
            if answered.timings[0].attributes:
                own = results if rows == count else [one.part(start, start + count) for one in results]
                query.call.notes = fallbacks_of(own)
                if named := _fallbacks(own):
                    query.call.trailing.append((FALLBACKS, named))
            start += count
            names = (*columns, *plan.feature_names[query.request.full_feature_names])
            echoes = [serving.echo(query.given[name]) for name in columns]
            replies.append(serving.response(names, echoes + vectors))
        return replies


def _fallbacks(judged: Sequence[ViewResult]) -> str:
    """`view=stale,view=default` for the views with values that the store did not confirm."""
    told = [
        f"{one.view.name}={source.name.lower()}"
        for one in judged
        for source in (Source.STALE, Source.DEFAULT)
        if source in one.sources
    ]
    return ",".join(told)
