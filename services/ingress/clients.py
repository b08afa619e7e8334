"""The router, over hop: calls that wait at the same time share one message."""

from __future__ import annotations

from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch
from headrace.columns.folding import BatchCall, BatchFolding
from headrace.hop.dial import Client
from headrace.hop.method import unary
from services.ingress.ports import Decision, ModelUse, Routed

INFER = unary(pb.DESCRIPTOR, "RouterService", "Infer", pb.InferRequest, pb.InferResponse, idempotent=True)
Header = tuple[str, int]


def _request(header: Header) -> pb.InferRequest:
    return pb.InferRequest(pipeline=header[0], version=header[1])


class HopRouter:
    """Implements `ports.Router`."""

    def __init__(self, client: Client) -> None:
        # A row that a service behind the router failed bears the stage's name and says nothing of the router.
        folding: BatchFolding[Header, pb.InferRequest, pb.InferResponse]
        folding = BatchFolding(_request, callee=client.callee)
        self._infer = client.coalesced(INFER, folding)
        # Callers whose rows shared a message get the same response: its other fields are read once.
        self._last: pb.InferResponse | None = None
        self._fields: tuple[list[str], list[Decision]] = [], []

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        reply = await self._infer(BatchCall((pipeline, version), batch))
        response = reply.response
        if response is not self._last:
            self._fields = list(response.fallbacks), [_decision(d) for d in response.decisions]
            self._last = response
        fallbacks, decisions = self._fields
        return Routed(reply.batch, _used(fallbacks, reply.batch), decisions)


def _decision(message: pb.Decision) -> Decision:
    models = [ModelUse(m.stage, m.model, m.version, m.sha256) for m in message.models]
    return Decision(message.version, message.revision, message.route, models)


def _used(fallbacks: list[str], batch: Batch) -> list[tuple[str, int]]:
    """Those of the message's fallbacks that rows of this batch used: bit i of `@fallbacks` is fallbacks[i]."""
    if not fallbacks or "@fallbacks" not in batch.columns:
        return []
    bits = 0
    for row in batch.columns["@fallbacks"].array.tolist():
        bits |= row
    return [(name, i) for i, name in enumerate(fallbacks) if bits >> i & 1]
