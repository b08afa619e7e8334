"""Hostile tenants by the hundred, and another tenant whose predictions must never fail."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import grpc

from tests.children import ends_with_tests
from tests.faults.hostile import THEIRS, Case, rpcs
from tests.faults.traffic import add_hurried, serves
from tests.gauges import busy, samples
from tests.system import PATIENT_MS, PREDICT, System, headrace, poll, predicting, row_request

RATE, DEADLINE_S = 100, 2.0
_LIMITS = ("rows-per-s", "bytes-per-s", "concurrency", "max-rows")
_BREAKER = "headrace_hop_breaker_state"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the good tenant: when it asked (monotonic), how long it took (s), what it was told if that was no prediction."""

    began: float
    took: float
    failure: str


@dataclass(frozen=True, slots=True)
class Span:
    """A case that was done, and when (monotonic)."""

    number: int
    case: Case
    calls: int
    began: float
    ended: float


class Good:
    """Predictions at a steady rate, however long they take, while the context is open."""

    def __init__(self, system: System, key: str) -> None:
        self._target, self._key = system.endpoints["grpc"], key
        self._requests = [row_request(row) for row in system.rows[:200]]
        self._flying: set[asyncio.Task[None]] = set()
        self.answers: list[Answer] = []
        self.rate = RATE

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(self._target) as channel:
            task = asyncio.create_task(self._ask(predicting(channel)))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, *self._flying, return_exceptions=True)

    async def _ask(self, method: Any) -> None:
        due = time.monotonic()
        for number in range(sys.maxsize):
            call = asyncio.create_task(self._call(method, number))
            self._flying.add(call)
            call.add_done_callback(self._flying.discard)
            due += 1 / self.rate
            await asyncio.sleep(due - time.monotonic())

    async def _call(self, method: Any, number: int) -> None:
        began, failure = time.monotonic(), ""
        try:
            request = self._requests[number % len(self._requests)]
            metadata = (("authorization", f"Bearer {self._key}"),)
            [found] = (await method(request, timeout=DEADLINE_S, metadata=metadata)).predictions
            failure = found.error.message
        except grpc.aio.AioRpcError as error:
            failure = f"{error.code().name}: {error.details()}"
        self.answers.append(Answer(began, time.monotonic() - began, failure))


class Scene:
    """A running system with a good tenant and hostile ones, and the process of these."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._target = system.endpoints["grpc"]
        add_hurried(system, THEIRS, PATIENT_MS)
        self.keys = {name: _key(name) for name in ("good", "hostile", "generous")}
        self.good = Good(system, self.keys["good"])
        poll("the keys open", lambda: all(serves(system, key=key) for key in self.keys.values()))
        self.rpcs = rpcs(self._target)
        self.spans: list[Span] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The good tenant asks, and hostile ones can be told what to do."""
        command = ends_with_tests(sys.executable, "-m", "tests.faults.hostile")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1)
        self._tell([self._target, self.keys])
        try:
            await self._done(-1, Case(PREDICT, callers=1, rate=1.0, seconds=0.1))  # it is ready
            async with self.good.asking():
                yield
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()

    async def run(self, number: int, case: Case) -> None:
        """Does a case."""
        began = time.monotonic()
        calls = await self._done(number, case)
        self.spans.append(Span(number, case, calls, began, time.monotonic()))

    async def _done(self, number: int, case: Case) -> int:
        self._tell([number, asdict(case)])
        assert self._process.stdout is not None
        return int(await self._process.stdout.readline())

    def _tell(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    def failures(self) -> list[str]:
        """What failed of the good calls, each with the cases that it met."""
        found = []
        for answer in (a for a in self.good.answers if a.failure):
            met = [s for s in self.spans if s.began <= answer.began + answer.took and answer.began <= s.ended]
            cases = "; ".join(f"case {s.number}, {s.calls} calls of {s.case}" for s in met)
            found.append(f"{answer.failure} after {answer.took:.3f} s beside {cases or 'nothing'}")
        return found

    def check_calm(self) -> None:
        """Nothing is left of what hostile tenants did."""
        poll("nobody is served", lambda: not busy(self._system))
        poll("breakers are closed", lambda: not any(v for _, v in samples(self._system, _BREAKER)))


def _key(tenant: str) -> str:
    scopes = ("predict", "read", "outcomes", f"operate:{THEIRS}")
    key = headrace("keys", "create", tenant, *(f"--scope={s}" for s in scopes)).split()[-1]
    limits = [f"--{limit}=none" for limit in _LIMITS] if tenant != "hostile" else []
    headrace(
        "tenants", "set", tenant, *(f"--pipeline={p}" for p in ("flights", "moderation", THEIRS)), *limits
    )
    return key
