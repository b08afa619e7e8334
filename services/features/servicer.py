"""FeaturesService: converts between its messages and batches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from headrace.api.batch.v1 import batch_pb2
from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import DType, encode_into, wire
from headrace.hop.call import Call
from services.features.errors import ambiguous, no_column, unknown_service, unreadable, wrong_rule
from services.features.freshness.freshness import ViewResult
from services.features.plan.catalog import Catalog
from services.features.plan.plan import FreshnessRule, ServicePlan
from services.features.reader import Reader
from services.features.reply import ReplyBuilder

_MICRO = 1_000_000
# Feature services with rules whose plans are kept. With more different rules, all are served, but some are planned again.
_MAX_PLANS = 256


class FeaturesServicer:
    """See headrace/api/features/v1/features.proto."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader
        # By feature service and rules: the catalog's plan, the same with the rules, and what builds its replies.
        self._plans: dict[object, tuple[ServicePlan, ServicePlan, ReplyBuilder]] = {}

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        plan, builder = self._planned(request)
        now = time.monotonic()
        batch = wire.read_request(request, call, now)
        results, answered = await self._reader.read(plan, batch, call.deadline - now)
        call.notes = answered.timings[0].attributes
        reply = pb.GetFeaturesResponse(plan_revision=plan.revision)
        if call.payload is None:
            encode_into(reply.batch, answered)
            _fill(reply.batch, builder, results)
        else:
            answered.columns = builder.columns(results, len(batch.rows.request_ids))
            wire.write_reply(reply, answered, call, 0.0)
        return reply

    def _planned(self, request: pb.GetFeaturesRequest) -> tuple[ServicePlan, ReplyBuilder]:
        plans = self._catalog.plans
        plan = plans.get(request.feature_service)
        if plan is None:
            raise unknown_service(request.feature_service, list(plans))
        key: object = plan.name
        if request.rules:
            key = plan.name, *[(rule.view, rule.max_age_us, rule.stale_us) for rule in request.rules]
        known = self._plans.get(key)
        if known is None or known[0] is not plan:
            if plan.unreadable:
                raise unreadable(plan.name, plan.unreadable)
            if plan.unpackable:
                raise no_column(plan.name, plan.unpackable)
            if plan.ambiguous:
                raise ambiguous(plan.name, plan.ambiguous)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            ruled = replace(plan, rules=_rules(request, plan))
            known = self._plans[key] = (plan, ruled, ReplyBuilder(ruled))
        return known[1:]


def _fill(message: batch_pb2.Batch, builder: ReplyBuilder, results: list[ViewResult]) -> None:
    add = message.columns.add
    for group, (data, offsets, validity) in builder.features(results):
        add(names=group.names, data_type=int(group.dtype), data=data, offsets=offsets, validity=validity)
    if builder.age_names:
        add(names=builder.age_names, data_type=int(DType.INT64), data=builder.ages(results))
        add(names=builder.source_names, data_type=int(DType.UINT8), data=builder.sources(results))


def _rules(request: pb.GetFeaturesRequest, plan: ServicePlan) -> Mapping[str, FreshnessRule]:
    rules: dict[str, FreshnessRule] = {}
    known = {view.name for view in (*plan.views, *[d.view for d in plan.on_demand])}
    for rule in request.rules:
        if rule.view not in known or rule.view in rules:
            raise wrong_rule(rule.view)
        rules[rule.view] = FreshnessRule(rule.max_age_us / _MICRO, rule.stale_us / _MICRO)
    return rules
