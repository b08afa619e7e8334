"""`features` stages: the features service reads the values; defaults take their place while it can't be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from pydantic import PositiveFloat

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from headrace.hop.errors import Code, Fault, reason_name
from headrace.pipeline import ColumnType, FeaturesStage, null_column
from services.router.stages.freshness import (
    AGE,
    DEFAULT,
    PRESENT,
    SOURCE,
    FreshnessPolicy,
    Verdict,
    fallback_name,
)
from services.router.stages.runner import Declared, RunnerFactory, RunnerKind, StageResult, columns_of

GET_FEATURES = unary(pb.GetFeaturesRequest, pb.GetFeaturesResponse, idempotent=True)
# The header of a call is its serialised message without the batch.
GetFeatures: TypeAlias = Callable[[BatchCall[bytes]], Awaitable[BatchReply[pb.GetFeaturesResponse]]]
# With these codes the service could not answer; any other code is an answer.
_OUTAGES = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.ABORTED,
        Code.CANCELLED,
        Code.DATA_LOSS,
    }
)
_NO_FALLBACKS = Verdict({}, {}, {})
_ALL_PRESENT = bytes([PRESENT])


class FeaturesSettings(Settings):
    """Settings of the router for features stages."""

    # What a features stage may take of the row's time before its defaults apply.
    features_timeout_s: PositiveFloat = 0.25


class FeaturesRunner:
    """A features stage. `timeout_s`: its share of a row's time. `clock`: monotonic seconds."""

    service = "features"

    def __init__(
        self, stage: FeaturesStage, get: GetFeatures, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._stage = stage
        self._get = get
        self._header = header_of(stage)
        self._timeout_s = timeout_s
        self._clock = clock
        self._types: dict[str, ColumnType | None] = {
            name: ColumnType(dtype) for view in stage.views.values() for name, dtype in view.features.items()
        }
        self._annotations: dict[str, ColumnType | None] = {}
        for view in stage.views:
            self._annotations[AGE + view] = ColumnType(DType.INT64)
            self._annotations[SOURCE + view] = ColumnType(DType.UINT8)
        self._wanted = Declared(self._types | self._annotations)
        self._policy = FreshnessPolicy(stage)
        self._may_default = not self._policy.refuses

    async def run(self, batch: Batch) -> StageResult:
        try:
            reply = await self._get(BatchCall(self._header, self._with_timeout(batch)))
            return self._read(reply.batch, len(batch.rows.request_ids))
        except Fault as fault:
            if fault.code in _OUTAGES and self._may_default:
                return self._defaults(len(batch), fault)
            raise

    def _with_timeout(self, batch: Batch) -> Batch:
        """The batch with deadlines that leave the other stages their time."""
        limit = self._clock() + self._timeout_s
        rows = batch.rows
        if max(rows.deadlines) <= limit:
            return batch
        deadlines = [d if d < limit else limit for d in rows.deadlines]
        # Not by dataclasses.replace, which looks at every field.
        limited = Rows(rows.request_ids, rows.tenants, rows.priorities, deadlines, rows.traceparents)
        return Batch(limited, batch.columns, batch.errors, batch.timings)

    def _read(self, reply: Batch, rows: int) -> StageResult:
        failed, lost = reply.errors, list[int]()
        if failed and self._may_default:
            failed = {row: e for row, e in failed.items() if e.code not in _OUTAGES}
            lost = [row for row in reply.errors if row not in failed]
            if len(lost) == rows:
                return self._defaults(rows, reply.errors[lost[0]].fault())
        found = columns_of(self._stage.name, reply, self._wanted, rows)
        columns, annotations = found[: len(self._types)], found[len(self._types) :]
        if lost:
            columns = [_without(c, lost) for c in columns]
            annotations = [_overwritten(c, lost, _default_of(c.dtype)) for c in annotations]
        verdict = _NO_FALLBACKS
        # Annotations come in pairs, age and source of a view; there are none if every row failed. The bytes of a few rows take
        # a tenth of the time of a NumPy comparison.
        if b"".join([its.values.tobytes() for its in annotations[1::2]]).strip(_ALL_PRESENT):  # type: ignore[union-attr]  # UINT8
            verdict = self._policy.judge({c.name: c.array for c in annotations}, failed)
        return StageResult(
            columns,
            annotations,
            {**verdict.refused, **failed},
            verdict.fallbacks,
            verdict.refusals,
            reply.timings,
            attributes={"refused": " ".join(verdict.refusals)} if verdict.refusals else {},
        )

    def _defaults(self, rows: int, fault: Fault) -> StageResult:
        """Nulls for every feature, as if no view had a value."""
        columns = [null_column(n, t, rows) for n, t in self._types.items() if t is not None]
        annotations = [
            Column(n, t.dtype, np.full(rows, _default_of(t.dtype), t.dtype.numpy))
            for n, t in self._annotations.items()
            if t is not None
        ]
        every_row = np.ones(rows, bool)
        return StageResult(
            columns,
            annotations,
            fallbacks={fallback_name(view, DEFAULT): every_row for view in self._stage.views},
            attributes={"fallback.reason": reason_name(fault.reason), "fallback.code": fault.code.name},
        )


def header_of(stage: FeaturesStage) -> bytes:
    """Feast's feature service, and how old the values may be."""
    request = pb.GetFeaturesRequest(feature_service=stage.feature_service)
    for view, spec in stage.views.items():
        if (rule := spec.freshness) is not None:
            request.rules.add(view=view, max_age_us=rule.max_age_us, stale_us=rule.stale_us)
    return request.SerializeToString()


def _default_of(dtype: DType) -> int:
    """What an annotation holds for a row that got the default: the source DEFAULT, the age −1."""
    return DEFAULT if dtype is DType.UINT8 else -1


def _without(column: Column, rows: list[int]) -> Column:
    valid = column.is_valid().copy()
    valid[rows] = False
    return replace(column, valid=valid)


def _overwritten(column: Column, rows: list[int], value: int) -> Column:
    values = column.array.copy()
    values[rows] = value
    return replace(column, values=values)


def get_features(client: Client) -> GetFeatures:
    """The call of the features service; batches that wait at the same time share a message."""
    codec: ColumnCodec[bytes, pb.GetFeaturesRequest, pb.GetFeaturesResponse]
    codec = ColumnCodec(pb.GetFeaturesRequest.FromString, callee=client.callee)
    return client.coalesced(GET_FEATURES, codec)


def _connect(client: Client, settings: FeaturesSettings, clock: Callable[[], float]) -> RunnerFactory:
    get = get_features(client)
    return lambda stage: FeaturesRunner(stage, get, settings.features_timeout_s, clock)


FEATURES = RunnerKind("features", "features", _connect, FeaturesSettings)
