"""The definition of a service that runs steps: preprocessing and postprocessing differ in their contract alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace
from typing import Protocol

from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry
from pydantic import NonNegativeInt, PositiveInt

from headrace.columns.wire import Carrier, read_request, write_reply
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.definition import Definition, Runtime, Service
from headrace.steps.registry import Kind
from headrace.steps.service.runner import ProgramCache, StepMetrics, StepRunner


class StepSettings(config.ServiceSettings):
    """Settings of a service that runs steps."""

    # Compiled specifications in the cache; a pipeline revision has one per stage of steps.
    max_programs: PositiveInt = 256
    # Rows × steps up to which the event loop computes itself: about 1 ms. More goes to a thread.
    inline_work: NonNegativeInt = 8192
    # Threads for larger batches and for compiling.
    threads: PositiveInt = 2


class StepRequest(Carrier, Protocol):
    """The request of either contract: a batch, and the specification by its SHA-256 (hexadecimal), `spec` if need be."""

    @property
    def spec_sha256(self) -> str: ...

    @property
    def spec(self) -> bytes: ...


def step_service(
    kind: Kind, descriptor: ServiceDescriptor, make_reply: Callable[[], Carrier]
) -> Definition[StepSettings]:
    """The service named `kind`. `descriptor`: its contract, of one method; `make_reply`: makes an empty reply of that method."""
    (rpc,) = descriptor.methods

    @asynccontextmanager
    async def build(settings: StepSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix=kind)
        try:
            runner = StepRunner(
                ProgramCache(kind, settings.max_programs),
                pool,
                settings.inline_work,
                runtime.telemetry.once(_metrics_of(kind)),
                runtime.telemetry.log,
                time.monotonic,
                kind,
            )
            # hop finds the handler by the name of its RPC.
            servicer = SimpleNamespace(**{rpc.name: _handler(runner, make_reply)})
            yield [Service(descriptor, servicer, takes_payload=True)]
        finally:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    return Definition(kind, StepSettings, build)


def _handler(
    runner: StepRunner, make_reply: Callable[[], Carrier]
) -> Callable[[StepRequest, Call], Awaitable[Carrier]]:
    clock = runner.clock

    async def handle(request: StepRequest, call: Call) -> Carrier:
        received = clock()
        batch = read_request(request, call, received)
        outputs = await runner.run(request.spec_sha256, request.spec, batch, received)
        reply = make_reply()
        write_reply(reply, outputs, call, clock())
        return reply

    return handle


@cache
def _metrics_of(kind: Kind) -> Callable[[CollectorRegistry], StepMetrics]:
    # Cached, because a process has one set of metrics for each such function.
    return lambda registry: StepMetrics(registry, kind)
