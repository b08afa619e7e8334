"""FeaturesService: messages in, messages out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from headrace.api.batch.v1 import batch_pb2
from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import DType, carrying, encode_into
from headrace.hop.call import Call
from services.features.errors import ambiguous, no_column, wrong_rule
from services.features.freshness.freshness import Judged, Rule
from services.features.plan.catalog import Catalog
from services.features.plan.plan import ServicePlan
from services.features.reader import Reader
from services.features.reply.columns import Form

_NO_RULES: Mapping[str, Rule] = MappingProxyType({})
_MICRO = 1_000_000


class FeaturesServicer:
    """See headrace/api/features/v1/features.proto."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader
        self._forms: dict[str, tuple[ServicePlan, Form]] = {}

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        plan = self._catalog.plan(request.feature_service)
        form = self._form(plan)
        batch = carrying.received(request, call, time.monotonic())
        judged, answered = await self._reader.read(plan, batch, call.remaining(), _rules(request, plan))
        call.notes = answered.timings[0].attributes
        reply = pb.GetFeaturesResponse(plan_revision=plan.revision)
        encode_into(reply.batch, answered)
        _fill(reply.batch, form, judged)
        return reply

    def _form(self, plan: ServicePlan) -> Form:
        known = self._forms.get(plan.name)
        if known is None or known[0] is not plan:
            if plan.unpackable:
                raise no_column(plan.name, plan.unpackable)
            if plan.ambiguous:
                raise ambiguous(plan.name, plan.ambiguous)
            known = self._forms[plan.name] = (plan, Form(plan))
        return known[1]


def _fill(message: batch_pb2.Batch, form: Form, judged: list[Judged]) -> None:
    add = message.columns.add
    for group, (data, offsets, validity) in form.features(judged):
        add(names=group.names, data_type=int(group.dtype), data=data, offsets=offsets, validity=validity)
    if form.ages:
        add(names=form.ages, data_type=int(DType.INT64), data=form.ages_of(judged))
        add(names=form.sources, data_type=int(DType.UINT8), data=form.sources_of(judged))


def _rules(request: pb.GetFeaturesRequest, plan: ServicePlan) -> Mapping[str, Rule]:
    if not request.rules:
        return _NO_RULES
    rules: dict[str, Rule] = {}
    known = {view.name for view in (*plan.views, *[d.view for d in plan.derivations])}
    for rule in request.rules:
        if rule.view not in known or rule.view in rules:
            raise wrong_rule(rule.view)
        rules[rule.view] = Rule(rule.max_age_us / _MICRO, rule.stale_us / _MICRO)
    return rules
