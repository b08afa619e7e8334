"""Clients of the router, over hop. Inferences that wait at the same time share one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.api.monitoring.v1 import facts_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault
from headrace.pipeline import Decision, IndexedModel, read_index, read_model_uses
from services.ingress.attributes import Attributes
from services.ingress.inference import Routed
from services.ingress.oip.groups.codec import GroupCodec

INDEX = unary(pb.IndexModelsRequest, pb.IndexModelsResponse, idempotent=True)
LOAD = unary(pb.LoadModelRequest, pb.LoadModelResponse, idempotent=False, lengthy=True)
UNLOAD = unary(pb.UnloadModelRequest, pb.UnloadModelResponse, idempotent=False, lengthy=True)
INFER = unary(pb.InferRequest, pb.InferResponse, idempotent=True)
LIST = unary(pb.ListPipelinesRequest, pb.ListPipelinesResponse, idempotent=True)
REPORT = unary(facts_pb2.ReportRequest, facts_pb2.ReportResponse, idempotent=True)
Header = tuple[str, int]
_LIST_S = 1.0
_DECISION = "@decision"
_NO_DECISIONS: list[Decision] = []


def _request(header: Header) -> pb.InferRequest:
    return pb.InferRequest(pipeline=header[0], version=header[1])


class HopRouter:
    """The inferences of a router."""

    def __init__(
        self,
        client: Client,
        attributes: Attributes | None = None,
        upcoming: Callable[[float], bool] | None = None,
    ) -> None:
        """`upcoming`: whether a further request of a known form will come in a moment."""
        # If a service behind the router failed a row, the error names the stage and does not mention the router.
        codec: ColumnCodec[Header, pb.InferRequest, pb.InferResponse]
        codec = ColumnCodec(_request, callee=client.callee)
        self._infer = client.coalesced(INFER, codec)
        # Requests of known forms, each with the message that answers it.
        grouping = GroupCodec(codec, self._routed, attributes, codec.clock)
        self.grouped = client.coalesced(INFER, grouping, upcoming)
        # The highest number of an event that replies had, by the router's stream of events.
        self.highest: dict[int, int] = {}
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
            if (number := response.event_sequence) > self.highest.get(response.event_epoch, 0):
                self.highest[response.event_epoch] = number
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


class HopAnswered:
    """Says how far routers have answered."""

    def __init__(self, client: Client) -> None:
        self._report = client.unary(REPORT)

    async def __call__(self, highest: Mapping[int, int], deadline: float) -> None:
        streams = [facts_pb2.AnsweredStream(epoch=e, sequence=number) for e, number in highest.items()]
        await self._report(facts_pb2.ReportRequest(answered=streams), deadline=deadline)


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
    """Says and changes which models are loaded. `operator`: the caller, for the audit; deadlines: monotonic seconds. All methods
    raise Fault: that of the service that refused."""

    def __init__(self, client: Client) -> None:
        self._index, self._load, self._unload = client.unary(INDEX), client.unary(LOAD), client.unary(UNLOAD)

    async def index(self, deadline: float) -> list[IndexedModel]:
        """Every version in the repository, by name, oldest first."""
        reply = await self._index(pb.IndexModelsRequest(), deadline=deadline)
        return read_index(reply.models)

    async def load(self, model: str, version: str, operator: str, deadline: float) -> None:
        """Loads a version: the named one, the one a label points to, or the newest for ""."""
        request = pb.LoadModelRequest(model=model, version=version, operator=operator)
        await self._load(request, deadline=deadline)

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> None:
        """Unloads versions: the named one, the one a label points to, or all loaded ones for ""."""
        request = pb.UnloadModelRequest(model=model, version=version, operator=operator)
        await self._unload(request, deadline=deadline)


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
