"""Steady traffic through the real door, without retries of our own, and a record of how each request ended."""

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import DOCUMENTS, System, add_document, deadline, poll, predicting, row_request

# The pipeline flights with its second for a request, which the systems of tests give it more of.
HURRIED = "hurried"
HURRIED_MS = 1000
# How many requests have to go well before all is.
ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it began (monotonic), how long it took (s), how it ended, and the id that its answer gave it."""

    began: float
    took: float
    code: grpc.StatusCode
    fallbacks: tuple[str, ...]
    message: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Calm:
    """Seconds that a request takes on this machine now, and the slowest one took."""

    median: float
    slowest: float


class Traffic:
    """`workers` closed loops in a thread of their own, until the context is left; each rests for `pause_s` after an answer.

    A dozen: with more, a request waits for the others' as long as the machine is slow, and tests ask about faults. Only rows that
    need no fallback while all is well are sent: whatever falls back does so because of the fault.
    """

    ROWS = 200

    def __init__(
        self,
        system: System,
        pipeline: str = "flights",
        workers: int = 12,
        timeout_s: float = 30.0,
        pause_s: float = 0.0,
    ) -> None:
        self._system, self._pipeline = system, pipeline
        self._workers, self._timeout_s, self._pause_s = workers, timeout_s, pause_s
        self.rows: list[dict[str, Any]] = []
        self._requests: list[pb.PredictRequest] = []
        self.outcomes: list[Outcome] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        # On a busy machine the features may be late for all of them once.
        self.rows = poll("rows are predicted without fallbacks", self._without_fallbacks)
        self._requests = [row_request(r, pipeline=self._pipeline) for r in self.rows]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _without_fallbacks(self) -> list[dict[str, Any]] | None:
        rows = self._system.rows[: self.ROWS]
        found = self._system.predict(row_request(*rows)).predictions
        whole = [r for r, p in zip(rows, found, strict=True) if not p.fallbacks]
        return whole if len(whole) >= self.ROWS // 4 else None

    def since(self, when: float) -> list[Outcome]:
        """Requests that began at or after `when`."""
        return [o for o in list(self.outcomes) if o.began >= when]

    def answered(self) -> set[str]:
        """Ids of the requests that were."""
        return {o.id for o in list(self.outcomes) if o.code is grpc.StatusCode.OK}

    def has_answered(self, count: int) -> bool:
        return len(self.answered()) >= count

    def calm(self) -> Calm:
        """How long requests take while all is well: by that a test tells a slow machine from a fault."""
        took = [o.took for o in list(self.outcomes) if o.code is grpc.StatusCode.OK and not o.fallbacks]
        return Calm(statistics.median(took), max(took))

    async def _run(self) -> None:
        # gRPC's defaults, as callers have them: only a request that never left this process is sent again. Without that, one that
        # is about to leave when a server that stops says GOAWAY fails here, and no server has seen it.
        async with grpc.aio.insecure_channel(self._system.endpoints["grpc"]) as channel:
            call = predicting(channel)
            await asyncio.gather(*(self._loop(call, i) for i in range(self._workers)))

    async def _loop(self, call: grpc.aio.UnaryUnaryMultiCallable, first: int) -> None:
        auth = self._system.auth()
        number = first
        while not self._stop.is_set():
            request = self._requests[number % len(self._requests)]
            began = time.monotonic()
            code, fallbacks, message, name = grpc.StatusCode.OK, (), "", ""
            try:
                answer = await call(request, timeout=self._timeout_s, metadata=auth)
                name, fallbacks = answer.request_id, tuple(answer.predictions[0].fallbacks)
            except grpc.aio.AioRpcError as error:
                code, message = error.code(), error.details() or ""
                await asyncio.sleep(0.005)  # a client that fails at once must not spin
            self.outcomes.append(Outcome(began, time.monotonic() - began, code, fallbacks, message, name))
            number += self._workers
            await asyncio.sleep(self._pause_s)


def healthy(traffic: Traffic, for_s: float = 1.0) -> bool:
    """Whether all that began in the last `for_s` seconds, and at least the last 20 requests, went well.

    Where a slow machine has fewer in that time, it is no fault, and none is over.
    """
    ended = list(traffic.outcomes)
    since = time.monotonic() - for_s
    recent = [*ended[-ENOUGH:], *(o for o in ended[:-ENOUGH] if o.began >= since)]
    return len(recent) >= ENOUGH and all(o.code is grpc.StatusCode.OK and not o.fallbacks for o in recent)


def kinds(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, tuple[str, ...]], int]:
    """How many there are of each code, message and fallbacks: a list of thousands is no use to who reads that a test failed."""
    return dict(Counter((o.code.name, o.message, o.fallbacks) for o in outcomes))


def add_hurried(system: System, name: str = HURRIED, milliseconds: int = HURRIED_MS, also: str = "") -> None:
    """Adds the pipeline flights under another name, with less time and `also` to the running system, until it serves."""
    text = (DOCUMENTS / "flights" / "pipeline.yaml").read_text() + also
    add_document(name, deadline(text, milliseconds).replace("pipeline: flights", f"pipeline: {name}"))
    poll(f"the pipeline {name} serves", lambda: serves(system, pipeline=name))


def serves(
    system: System, row: dict[str, Any] | None = None, pipeline: str = "flights", key: str | None = None
) -> bool:
    """Whether a prediction comes, for the caller with this key."""
    with suppress(grpc.RpcError):
        request = row_request(system.rows[0] if row is None else row, pipeline=pipeline)
        return bool(system.predict(request, key=key).predictions)
    return False
