"""A caller of the served executor, and the batches it sends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch, Column, RowError, Rows, decode, encode
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from services.executor.wiring import SERVICE
from services.router.operations.clients import INDEX, LOAD, UNLOAD
from services.router.stages.model import EXECUTE

LIST = unary(pb.ListModelsRequest, pb.ListModelsResponse, idempotent=True)
# What a busy machine may take.
WITHIN_S = 60.0


def rows(count: int, budget: float = 10.0, priority: int = 1) -> Rows:
    return Rows.one_request(count, "request", "tenant", time.monotonic() + budget, priority)


def xs(*values: float) -> Column:
    return Column.of("x", np.repeat(np.array(values, np.float32)[:, None], 3, axis=1))


def batch(*values: float, budget: float = 10.0, priority: int = 1) -> Batch:
    return Batch.of(rows(len(values), budget, priority), [xs(*values)])


def patient(call: Callable[..., Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """The call with as much time as a busy machine takes to load a model."""
    return lambda request: call(request, deadline=time.monotonic() + WITHIN_S)


class Caller:
    """Calls the served executor."""

    def __init__(self, harness: Harness) -> None:
        # No retries: what the executor answers is what the test sees.
        self._dial(harness.client(limiter={"initial": 256}, retry={"attempts": 1}))
        self.harness = harness

    @classmethod
    def of(cls, client: Client) -> Caller:
        """Calls whatever the client reaches."""
        caller = cls.__new__(cls)
        caller._dial(client)
        return caller

    def _dial(self, client: Client) -> None:
        self._execute = client.unary(EXECUTE)
        self._list = client.unary(LIST)
        self.index: Callable[[pb.IndexModelsRequest], Awaitable[pb.IndexModelsResponse]]
        self.index = patient(client.unary(INDEX))
        self.load: Callable[[pb.LoadModelRequest], Awaitable[pb.LoadModelResponse]]
        self.load = patient(client.unary(LOAD))
        self.unload: Callable[[pb.UnloadModelRequest], Awaitable[pb.UnloadModelResponse]]
        self.unload = patient(client.unary(UNLOAD))

    async def __call__(self, given: Batch, model: str = "double", version: str = "") -> Batch:
        return decode((await self.raw(given, model, version)).batch)

    async def raw(self, given: Batch, model: str = "double", version: str = "") -> pb.ExecuteResponse:
        request = pb.ExecuteRequest(model=model, version=version, batch=encode(given))
        return await self._execute(request, deadline=time.monotonic() + 20)

    async def models(self) -> list[pb.Model]:
        return list((await self._list(pb.ListModelsRequest(), deadline=time.monotonic() + 20)).models)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; of a labelled one, of version 1 unless it is told otherwise."""
        labels = {"version": "1", **labels} if labels else labels
        return (
            self.harness.runtime.telemetry.registry.get_sample_value(f"headrace_executor_{name}", labels)
            or 0.0
        )


@asynccontextmanager
async def calling(
    models: Path,
    transport: Literal["unix", "local"] = "unix",
    *,
    loaded: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Caller]:
    """A caller of an executor that serves `models`. `loaded`: NAME:VERSION that an operator loads, and nothing else."""
    if loaded:
        settings["load"] = "released"
    async with served(SERVICE, {"models": models, **settings}, transport=transport) as harness:
        caller = Caller(harness)
        for model, _, version in (text.partition(":") for text in loaded):
            await caller.load(pb.LoadModelRequest(model=model, version=version))
        yield caller


async def quarantined(caller: Caller) -> dict[str, str]:
    """NAME:VERSION → why it is in quarantine, as the index says."""
    index = (await caller.index(pb.IndexModelsRequest())).models
    mark = "in quarantine: "
    return {
        f"{m.name}:{m.version}": m.progress.removeprefix(mark) for m in index if m.progress.startswith(mark)
    }


async def refusal(caller: Caller, model: str = "double", version: str = "") -> Fault:
    """What a call to a model gets that is in quarantine."""
    with pytest.raises(Fault, match="is in quarantine") as caught:
        await caller(batch(1.0), model, version)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value


def ys(result: Batch) -> list[float]:
    values: list[float] = result.columns["y"].array[:, 0].tolist()
    return values


def codes(errors: Iterable[RowError]) -> set[tuple[Code, Reason]]:
    return {(e.code, e.reason) for e in errors}


def numbers(*values: int) -> Batch:
    """For models that take whole numbers."""
    return Batch.of(rows(len(values)), [Column.of("x", np.array(values, np.int64))])
