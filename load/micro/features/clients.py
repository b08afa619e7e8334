"""Clients for the measurements, and one request in several forms: Feast's JSON, Feast's message, ours, a batch."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from feast.protos.feast.serving import ServingService_pb2 as feast_pb
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

from deploy.pipelines.flights.feature_repo import SERVICE, VIEWS
from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Batch, Column, Rows, encode
from headrace.columns.batch_codec import BatchCall
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from services.router.stages.features import get_features

Keys = dict[str, list[str]]
_BUDGET_S = 3000.0


def feast_json(keys: Keys) -> bytes:
    """For `feast serve`. By references, as it is slower when a feature service is named."""
    references = [f"{view}:{feature}" for view, (_, _, features) in VIEWS.items() for feature in features]
    return json.dumps({"features": references, "entities": keys}).encode()


def feast_message(keys: Keys) -> bytes:
    """Feast's own RPC."""
    message = feast_pb.GetOnlineFeaturesRequest(feature_service=SERVICE)
    for name, values in keys.items():
        message.entities[name].CopyFrom(RepeatedValue(val=[Value(string_val=v) for v in values]))
    return message.SerializeToString()


def packed_message(keys: Keys) -> bytes:
    """Our RPC."""
    return pb.GetFeaturesRequest(feature_service=SERVICE, batch=encode(hop_batch(keys))).SerializeToString()


def hop_batch(keys: Keys) -> Batch:
    """The batch from which the router makes its request."""
    count = len(next(iter(keys.values())))
    rows = Rows.one_request(count, "0123456789abcdef", "tenant", time.monotonic() + _BUDGET_S)
    return Batch.of(rows, [Column.of_text(name, list(values)) for name, values in keys.items()])


class HttpClient:
    """Keep-alive connections to an HTTP server on loopback; nothing that a request does not need."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> int:
        """The size of the answer. Raises RuntimeError for one that is no success."""
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        )
        head = (
            "POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:200])
        size = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        self._idle.append((reader, writer))
        return size

    def close(self) -> None:
        """Ends the connections."""
        for _, writer in self._idle:
            writer.close()


class GrpcClient:
    """Messages as bytes, so that the client parses nothing."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}")  # noqa: TID251 - a client to measure with
        self._feast: Any = self._channel.unary_unary("/feast.serving.ServingService/GetOnlineFeatures")
        self._packed: Any = self._channel.unary_unary("/headrace.api.features.v1.FeaturesService/GetFeatures")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def feast(self, message: bytes) -> int:
        """The size of the answer."""
        return len(await self._feast(message, timeout=10))

    async def packed_raw(self, message: bytes, timeout_s: float) -> bytes:
        """The answer."""
        answer: bytes = await self._packed(message, timeout=timeout_s)
        return answer

    async def packed(self, message: bytes) -> int:
        """The size of the answer."""
        return len(await self._packed(message, timeout=10))


class HopClient:
    """The router's own client: hop's stream and natural batching; the answer is read."""

    def __init__(self, socket: Path) -> None:
        # No limit that the load would first have to raise.
        wide = rules.LimiterRules(initial=512, minimum=512)
        self._client = Client("features", rules.ClientRules(f"unix:{socket}", limiter=wide))
        self._get = get_features(self._client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def packed(self, batch: Batch) -> int:
        """How many columns the answer has. Raises RuntimeError if the service failed a row."""
        answer = (await self._get(BatchCall((SERVICE, ()), batch))).batch
        if answer.errors:
            raise RuntimeError(next(iter(answer.errors.values())).message)
        return len(answer.columns)
