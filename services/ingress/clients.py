"""Clients of the router and of the monitoring service, over hop. Inferences that wait at the same time share one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace.api.monitoring.v1 import monitoring_pb2 as monitoring
from headrace.api.router.v1 import explain_pb2, shadow_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch, encode
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.comparison import merged
from headrace.comparison.messages import read_report
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault
from headrace.pipeline import Decision, IndexedModel, read_index, read_model_uses
from services.ingress.attributes import Attributes
from services.ingress.oip.groups.codec import GroupCodec
from services.ingress.ports import MergedReports, Outcome, Routed, RowExplained

_ROUTER = pb.DESCRIPTOR, "RouterService"
_MONITORING = monitoring.DESCRIPTOR, "MonitoringService"
_ANALYSIS = monitoring.DESCRIPTOR, "AnalysisService"
INDEX = unary(*_ROUTER, "IndexModels", pb.IndexModelsRequest, pb.IndexModelsResponse, idempotent=True)
LOAD = unary(*_ROUTER, "LoadModel", pb.LoadModelRequest, pb.LoadModelResponse, idempotent=False, lengthy=True)
UNLOAD = unary(
    *_ROUTER, "UnloadModel", pb.UnloadModelRequest, pb.UnloadModelResponse, idempotent=False, lengthy=True
)
SHADOWS = unary(
    *_ROUTER,
    "GetShadowReport",
    shadow_pb2.GetShadowReportRequest,
    shadow_pb2.GetShadowReportResponse,
    idempotent=True,
)
# How long it takes depends on what is asked; the router shares its time among tenants.
EXPLAIN = unary(
    *_ROUTER,
    "Explain",
    explain_pb2.ExplainRequest,
    explain_pb2.ExplainResponse,
    idempotent=True,
    lengthy=True,
)
INFER = unary(*_ROUTER, "Infer", pb.InferRequest, pb.InferResponse, idempotent=True)
LIST = unary(*_ROUTER, "ListPipelines", pb.ListPipelinesRequest, pb.ListPipelinesResponse, idempotent=True)
RECORD = unary(
    *_MONITORING,
    "RecordOutcomes",
    monitoring.RecordOutcomesRequest,
    monitoring.RecordOutcomesResponse,
    idempotent=True,
)
ROLLOUT = unary(
    *_ANALYSIS, "GetRollout", monitoring.GetRolloutRequest, monitoring.GetRolloutResponse, idempotent=True
)
EXPERIMENT = unary(
    *_ANALYSIS,
    "ReadExperiment",
    monitoring.ReadExperimentRequest,
    monitoring.ReadExperimentResponse,
    idempotent=True,
)
Header = tuple[str, int]
T = TypeVar("T")
_LIST_S = 1.0
_DECISION = "@decision"
_NO_DECISIONS: list[Decision] = []


def _request(header: Header) -> pb.InferRequest:
    return pb.InferRequest(pipeline=header[0], version=header[1])


class HopRouter:
    """Implements `ports.Router`."""

    def __init__(
        self,
        client: Client,
        attributes: Attributes | None = None,
        upcoming: Callable[[float], bool] | None = None,
    ) -> None:
        """`upcoming`: whether a further request of a known form will come in a moment."""
        self.attributes = attributes
        # If a service behind the router failed a row, the error names the stage and does not mention the router.
        codec: ColumnCodec[Header, pb.InferRequest, pb.InferResponse]
        codec = ColumnCodec(_request, callee=client.callee)
        self._infer = client.coalesced(INFER, codec)
        # Requests of known forms, each with the message that answers it.
        grouping = GroupCodec(codec, self._routed, attributes, codec.clock)
        self.grouped = client.coalesced(INFER, grouping, upcoming)
        # Most responses say the same besides their rows, so that is read only once.
        self._last: pb.InferResponse | None = None
        self._fields: tuple[list[str], list[list[Decision]]] = [], []

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        return self._routed(await self._infer(BatchCall((pipeline, version), batch)))

    def _routed(self, reply: BatchReply[pb.InferResponse]) -> Routed:
        response = reply.response
        last = self._last
        if response is not last:
            if last is None or (response.decisions, response.fallbacks) != (last.decisions, last.fallbacks):
                self._fields = list(response.fallbacks), [[_decision(d)] for d in response.decisions]
            self._last = response
        fallbacks, decisions = self._fields
        used = _used(fallbacks, reply.batch)
        if len(decisions) < 2 or _DECISION not in reply.batch.columns:
            return Routed(reply.batch, used, decisions[0] if decisions else _NO_DECISIONS)
        index: list[int] = reply.batch.columns[_DECISION].array.tolist()
        mine = sorted(set(index))
        if len(mine) == 1:
            return Routed(reply.batch, used, decisions[mine[0]])
        places = {place: i for i, place in enumerate(mine)}
        return Routed(reply.batch, used, [decisions[i][0] for i in mine], [places[i] for i in index])


class HopServing:
    """Which revision of each pipeline all routers serve: control lets one replica go first. `clock`: monotonic seconds."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._list = client.each(LIST)
        self._clock = clock

    async def __call__(self) -> dict[str, str]:
        answers = await self._list(pb.ListPipelinesRequest(), deadline=self._clock() + _LIST_S)
        # A router that does not answer gets no requests either.
        replies = [{(p.name, p.revision) for p in a.pipelines} for a in answers if not isinstance(a, Fault)]
        return dict(set.intersection(*replies)) if replies else {}


class HopModelOperations:
    """Implements `ports.ModelOperations`."""

    def __init__(self, client: Client) -> None:
        self._index, self._load, self._unload = client.unary(INDEX), client.unary(LOAD), client.unary(UNLOAD)

    async def index(self, deadline: float) -> list[IndexedModel]:
        reply = await self._index(pb.IndexModelsRequest(), deadline=deadline)
        return read_index(reply.models)

    async def load(self, model: str, version: str, operator: str, deadline: float) -> str:
        request = pb.LoadModelRequest(model=model, version=version, operator=operator)
        return (await self._load(request, deadline=deadline)).version

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> list[str]:
        request = pb.UnloadModelRequest(model=model, version=version, operator=operator)
        return list((await self._unload(request, deadline=deadline)).versions)


class HopExplanations:
    """Implements `ports.Explanations`. `clock`: monotonic seconds."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._explain = client.unary(EXPLAIN)
        self._clock = clock

    async def explain(self, pipeline: str, output: str, batch: Batch, deadline: float) -> list[RowExplained]:
        message = encode(batch, self._clock())
        request = explain_pb2.ExplainRequest(pipeline=pipeline, output=output, batch=message)
        return [
            RowExplained(
                row.output,
                row.base,
                row.value,
                row.exact,
                row.revision,
                [(c.column, c.contribution, c.standard_error) for c in row.contributions],
            )
            for row in (await self._explain(request, deadline=deadline)).rows
        ]


class HopShadowReports:
    """Implements `ports.ShadowReports`."""

    def __init__(self, client: Client) -> None:
        self._each = client.each(SHADOWS)

    async def reports(self, pipeline: str, deadline: float) -> MergedReports:
        request = shadow_pb2.GetShadowReportRequest(pipeline=pipeline)
        answers = await self._each(request, deadline=deadline)
        good = _good(answers)
        found = merged(read_report(r) for answer in good for r in answer.reports)
        return MergedReports(found, len(good), len(answers) - len(good))


class HopAnalysis:
    """Implements `operations.servicer.Analysis`. Every replica gathers counts, and the one with the lease judges."""

    def __init__(self, client: Client) -> None:
        self._rollout, self._experiment = client.each(ROLLOUT), client.unary(EXPERIMENT)

    async def rollout(self, pipeline: str, deadline: float) -> monitoring.GetRolloutResponse:
        request = monitoring.GetRolloutRequest(pipeline=pipeline)
        found = _good(await self._rollout(request, deadline=deadline))
        return max(found, key=lambda answer: (answer.leads, answer.release))

    async def experiment(self, pipeline: str, deadline: float) -> monitoring.ReadExperimentResponse:
        return await self._experiment(monitoring.ReadExperimentRequest(pipeline=pipeline), deadline=deadline)


class HopOutcomes:
    """Implements `ports.Outcomes`."""

    def __init__(self, client: Client) -> None:
        self._record = client.unary(RECORD)

    async def record(self, tenant: str, outcomes: Sequence[Outcome], deadline: float) -> int:
        request = monitoring.RecordOutcomesRequest(tenant=tenant)
        for outcome in outcomes:
            value = {"label" if isinstance(outcome.value, bool) else "number": outcome.value}
            added = request.outcomes.add(
                request_id=outcome.request_id, row=outcome.row, name=outcome.name, **value
            )
            if outcome.time is not None:
                added.time.FromMicroseconds(round(outcome.time * 1e6))
        return (await self._record(request, deadline=deadline)).accepted_count


def _good(answers: Sequence[T | Fault]) -> list[T]:
    """The answers of replicas that answered. Raises Fault: none did."""
    good = [a for a in answers if not isinstance(a, Fault)]
    if not good:
        raise next(a for a in answers if isinstance(a, Fault))
    return good


def _decision(message: pb.Decision) -> Decision:
    return Decision(
        message.version,
        message.revision,
        message.route,
        read_model_uses(message.models),
        message.release,
        message.rule,
        message.sticky,
    )


def _used(fallbacks: list[str], batch: Batch) -> list[tuple[str, int]]:
    """The fallbacks of the message that rows of this batch used: bit i of `@fallbacks` stands for fallbacks[i]."""
    if not fallbacks or "@fallbacks" not in batch.columns:
        return []
    bits = 0
    for row in batch.columns["@fallbacks"].array.tolist():
        bits |= row
    return [(name, i) for i, name in enumerate(fallbacks) if bits >> i & 1]
