"""A client that sends requests at a constant rate (Poisson arrivals) until it is stopped, and records how each ended.

By grpcio, which finds an ingress again that was killed or restarted, as the clients of app backends do; its own retries are
off. Each request leaves when it is due, whatever became of those before, and its time counts from then.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import uvloop

from headrace.oip import open_inference_pb2 as oip

PATH = "/inference.GRPCInferenceService/ModelInfer"
# Retries off; connections of their own; an ingress that is back is found at once.
_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class RequestResult:
    """One request: which, when it was due (monotonic), how long after that it ended, and how."""

    number: int
    due: float
    took: float
    code: grpc.StatusCode
    # Answered, but on stale or default features, or by another model than asked.
    fell_back: bool = False

    @property
    def refused(self) -> bool:
        """Whether the ingress had too much to do, and said so."""
        return self.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    @property
    def failed(self) -> bool:
        """Whether there was no answer for any other reason."""
        return self.code is not grpc.StatusCode.OK and not self.refused

    @property
    def hit(self) -> bool:
        """Whether there was no answer, or one on a fallback."""
        return self.failed or self.refused or self.fell_back


class PoissonClient:
    """Sends `rate` requests a second of `messages`, in turn, while it is entered."""

    def __init__(
        self, target: str, key: str, messages: Sequence[bytes], rate: float, deadline_s: float
    ) -> None:
        self._target = target
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._messages = messages
        self._rate = rate
        self._deadline_s = deadline_s
        self._ended: list[RequestResult] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))

    def __enter__(self) -> PoissonClient:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def since(self, when: float) -> list[RequestResult]:
        """The requests that were due at or after `when` and have ended, in the order in which they ended."""
        return [e for e in list(self._ended) if e.due >= when]

    async def _run(self) -> None:
        channels = [
            grpc.aio.insecure_channel(self._target, options=_OPTIONS)  # noqa: TID251 - a client of the ingress, not of ours
            for _ in range(_CHANNELS)
        ]
        calls: list[Any] = [
            channel.unary_unary(PATH, None, oip.ModelInferResponse.FromString) for channel in channels
        ]
        dice, under_way = random.Random(1), set[asyncio.Task[None]]()
        due, number = time.monotonic(), 0
        while not self._stop.is_set():
            due += dice.expovariate(self._rate)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            message = self._messages[number % len(self._messages)]
            task = asyncio.create_task(self._one(calls[number % len(calls)], message, number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)
        for channel in channels:
            await channel.close()

    async def _one(self, call: Any, message: bytes, number: int, due: float) -> None:
        code, fell_back = grpc.StatusCode.OK, False
        try:
            reply = await call(message, timeout=self._deadline_s, metadata=self._metadata)
            fell_back = "fallbacks" in reply.parameters
        except grpc.aio.AioRpcError as error:
            code = error.code()
        self._ended.append(RequestResult(number, due, time.monotonic() - due, code, fell_back))
