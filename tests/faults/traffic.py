"""Steady traffic through the real door, without retries of our own, and a record of how each request ended."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import PREDICT, System, row_request

# For the features service. Its store may be as slow as processors that a start keeps busy make it, and still is no fault: values
# fall back only because of what a test does.
PATIENT = {"store_timeout_s": 0.5}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it began (monotonic), how long it took (s), and how it ended."""

    began: float
    took: float
    code: grpc.StatusCode
    fallbacks: tuple[str, ...]
    message: str


class Traffic:
    """`workers` closed loops in a thread of their own, until the context is left.

    48 of them bring 58 % of what 256 do (1060 and 1840 requests a second, measured on two busy cores). Only rows that need no
    fallback while all is well are sent: whatever falls back does so because of the fault.
    """

    ROWS = 200

    def __init__(self, system: System, workers: int = 48, timeout_s: float = 2.0) -> None:
        self._system, self._workers, self._timeout_s = system, workers, timeout_s
        self.rows: list[dict[str, Any]] = []
        self._requests: list[pb.PredictRequest] = []
        self.outcomes: list[Outcome] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Traffic:
        rows = self._system.rows[: self.ROWS]
        calm = self._system.predict(row_request(*rows)).predictions
        self.rows = [r for r, p in zip(rows, calm, strict=True) if not p.fallbacks]
        self._requests = [row_request(r) for r in self.rows]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def since(self, when: float) -> list[Outcome]:
        """Requests that began at or after `when`."""
        return [o for o in list(self.outcomes) if o.began >= when]

    async def _run(self) -> None:
        # gRPC's defaults, as callers have them: only a request that never left this process is sent again. Without that, one that
        # is about to leave when a server that stops says GOAWAY fails here, and no server has seen it.
        async with grpc.aio.insecure_channel(self._system.endpoints["grpc"]) as channel:
            call = channel.unary_unary(
                PREDICT,
                request_serializer=pb.PredictRequest.SerializeToString,
                response_deserializer=pb.PredictResponse.FromString,
            )
            await asyncio.gather(*(self._loop(call, i) for i in range(self._workers)))

    async def _loop(self, call: grpc.aio.UnaryUnaryMultiCallable, first: int) -> None:
        auth = self._system.auth()
        number = first
        while not self._stop.is_set():
            request = self._requests[number % len(self._requests)]
            began = time.monotonic()
            code, fallbacks, message = grpc.StatusCode.OK, (), ""
            try:
                answer = await call(request, timeout=self._timeout_s, metadata=auth)
                fallbacks = tuple(answer.predictions[0].fallbacks)
            except grpc.aio.AioRpcError as error:
                code, message = error.code(), error.details() or ""
                await asyncio.sleep(0.005)  # a client that fails at once must not spin
            self.outcomes.append(Outcome(began, time.monotonic() - began, code, fallbacks, message))
            number += self._workers


def healthy(traffic: Traffic, for_s: float = 1.0) -> bool:
    """Whether all that began in the last `for_s` seconds, and at least 20 requests, went well."""
    recent = traffic.since(time.monotonic() - for_s)
    return len(recent) >= 20 and all(o.code is grpc.StatusCode.OK and not o.fallbacks for o in recent)
