"""Steady open traffic through the real door, without retries, and a record of how each request ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import PREDICT, System, row_request

OPTIONS = (("grpc.enable_retries", 0),)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it began (monotonic), how long it took (s), and how it ended."""

    began: float
    took: float
    code: grpc.StatusCode
    fallbacks: tuple[str, ...]


class Traffic:
    """`workers` closed loops in a thread of their own, until the context is left."""

    def __init__(self, system: System, workers: int = 16, timeout_s: float = 2.0) -> None:
        self._system, self._workers, self._timeout_s = system, workers, timeout_s
        self.outcomes: list[Outcome] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def since(self, when: float) -> list[Outcome]:
        """Requests that began at or after `when`."""
        return [o for o in list(self.outcomes) if o.began >= when]

    def codes(self, since: float = 0.0) -> Counter[grpc.StatusCode]:
        return Counter(o.code for o in self.since(since))

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self._system.endpoints["grpc"], options=OPTIONS) as channel:
            call = channel.unary_unary(
                PREDICT,
                request_serializer=pb.PredictRequest.SerializeToString,
                response_deserializer=pb.PredictResponse.FromString,
            )
            requests = [row_request(r) for r in self._system.rows[:200]]
            await asyncio.gather(*(self._loop(call, requests[i:]) for i in range(self._workers)))

    async def _loop(self, call: grpc.aio.UnaryUnaryMultiCallable, requests: list[pb.PredictRequest]) -> None:
        auth = self._system.auth()
        sent = 0
        while not self._stop.is_set():
            began, code, fallbacks = time.monotonic(), grpc.StatusCode.OK, ()
            try:
                answer = await call(requests[sent % len(requests)], timeout=self._timeout_s, metadata=auth)
                fallbacks = tuple(answer.predictions[0].fallbacks)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                await asyncio.sleep(0.005)  # a client that fails at once must not spin
            self.outcomes.append(Outcome(began, time.monotonic() - began, code, fallbacks))
            sent += 1
