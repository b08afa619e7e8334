"""FeaturesService: messages in, messages out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from headrace.api.batch.v1 import batch_pb2
from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import DType, decode, encode
from headrace.hop.call import Call
from services.features.errors import ambiguous, no_column, wrong_rule
from services.features.planning import ServicePlan
from services.features.reading import Reader
from services.features.refreshing import Catalog
from services.features.shaping import Judged, Rule, pack

_NO_RULES: Mapping[str, Rule] = MappingProxyType({})
_MICRO = 1_000_000


class FeaturesServicer:
    """See headrace/api/features/v1/features.proto."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader
        self._forms: dict[str, tuple[ServicePlan, batch_pb2.Batch]] = {}

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        plan = self._catalog.plan(request.feature_service)
        form = self._form(plan)
        judged, reply = await self._reader.read(
            plan, decode(request.batch), call.remaining(), _rules(request, plan)
        )
        message = encode(reply)
        message.MergeFrom(form)
        _fill(message, plan, judged)
        return pb.GetFeaturesResponse(batch=message, plan_revision=plan.revision)

    def _form(self, plan: ServicePlan) -> batch_pb2.Batch:
        """The reply's columns without their data: names and types are copied, not written anew for each call."""
        known = self._forms.get(plan.name)
        if known is None or known[0] is not plan:
            if plan.unpackable:
                raise no_column(plan.name, plan.unpackable)
            if plan.ambiguous:
                raise ambiguous(plan.name, plan.ambiguous)
            known = self._forms[plan.name] = (plan, _blank(plan))
        return known[1]


def _rules(request: pb.GetFeaturesRequest, plan: ServicePlan) -> Mapping[str, Rule]:
    if not request.rules:
        return _NO_RULES
    rules: dict[str, Rule] = {}
    known = {view.name for view in plan.views}
    for rule in request.rules:
        if rule.view not in known or rule.view in rules:
            raise wrong_rule(rule.view)
        rules[rule.view] = Rule(rule.max_age_us / _MICRO, rule.stale_us / _MICRO)
    return rules


def _blank(plan: ServicePlan) -> batch_pb2.Batch:
    form = batch_pb2.Batch()
    for view, features in plan.given:
        types = [(feature.name, feature.dtype) for feature in features]
        types += [(f"@age_us/{view.name}", DType.INT64), (f"@source/{view.name}", DType.UINT8)]
        for name, dtype in types:
            assert dtype is not None
            form.columns.add(name=name, data_type=int(dtype))
    return form


def _fill(message: batch_pb2.Batch, plan: ServicePlan, judged: list[Judged]) -> None:
    columns = iter(message.columns)
    for view, shown in zip(judged, plan.given_counts, strict=True):
        if shown < 0:
            continue
        for data, offsets, validity in pack(view, shown):
            column = next(columns)
            column.data = data
            if offsets:
                column.offsets = offsets
            if validity:
                column.validity = validity
