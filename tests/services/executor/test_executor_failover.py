"""A model moves to its standby when its backend is lost, hangs or is sick, and back when that is well: real servers."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import decode
from headrace.repository import publish
from services.executor.failover.samples import SAMPLES
from tests.services.executor.executor_caller import Caller, batch, calling, quarantined, ys
from tests.services.executor.executor_models import X, Y, doubling, put
from tests.services.executor.remote_servers import RemoteProcess, oip_server
from tests.services.waiting import until
from tests.stopped import stop


@pytest.fixture
def remote(models: Path) -> Iterator[RemoteProcess]:
    """A server that has model `double`."""
    put(models)
    with oip_server("double", models / "double/1/model.onnx") as server:
        yield server


def settings(models: Path, target: str, **more: Any) -> dict[str, Any]:
    return {
        "models": models,
        "defaults": {"backends": ["remote:edge", "onnxruntime"]},
        "servers": {"edge": {"client": {"target": target}}},
        "patience_s": 1.0,  # a busy machine holds up a server that is well; two seconds are slow for a caller
        "probe_s": 0.1,
        **more,
    }


async def answer(caller: Caller, value: float = 2.0, budget: float = 60.0) -> pb.ExecuteResponse:
    """A reply whose row must have its result."""
    reply = await caller.raw(batch(value, budget=budget))
    result = decode(reply.batch)
    assert result.errors == {}
    assert ys(result) == [2 * value]
    return reply


def backend_gauges(caller: Caller) -> tuple[float, float]:
    return (
        caller.metric("backend_active", model="double", backend="remote:edge"),
        caller.metric("backend_active", model="double", backend="onnxruntime"),
    )


async def test_a_killed_backend_costs_no_row_and_comes_back(models: Path, remote: RemoteProcess) -> None:
    async with calling(**settings(models, remote.target)) as caller:
        first = await answer(caller)
        assert (first.backend, first.standby) == ("remote:edge", False)
        assert backend_gauges(caller) == (1, 0)

        remote.process.kill()
        remote.process.wait()
        began = time.monotonic()
        replies = [await answer(caller, float(i)) for i in range(20)]
        assert time.monotonic() - began < 30  # of the 60 s that each had
        assert {(r.backend, r.standby) for r in replies} == {("onnxruntime", True)}
        assert backend_gauges(caller) == (0, 1)
        moved = {"model": "double", "from": "remote:edge", "to": "onnxruntime"}
        assert caller.metric("failovers_total", **moved) == 1
        [listed] = await caller.models()
        assert (listed.active_backend, listed.standby, listed.device) == ("onnxruntime", True, "cpu")

        with oip_server("double", models / "double/1/model.onnx", port=remote.port):
            await until(lambda: backend_gauges(caller) == (1, 0), 60)
            back = await answer(caller)
            assert (back.backend, back.standby) == ("remote:edge", False)


async def test_a_stopped_backend_is_left_within_its_patience(models: Path, remote: RemoteProcess) -> None:
    async with calling(**settings(models, remote.target)) as caller:
        await answer(caller)
        stop(remote.process.pid)
        try:
            began = time.monotonic()
            replies = await asyncio.gather(*(answer(caller, float(i)) for i in range(10)))
            assert time.monotonic() - began < 30  # of the 60 s that each had
            assert {r.backend for r in replies} == {"onnxruntime"}
        finally:
            remote.process.send_signal(signal.SIGCONT)
        await until(lambda: backend_gauges(caller) == (1, 0), 60)
        assert (await answer(caller)).backend == "remote:edge"


async def test_rows_with_little_time_wear_a_stopped_backend_out(models: Path, remote: RemoteProcess) -> None:
    async with calling(**settings(models, remote.target, patience_s=30)) as caller:
        await answer(caller)
        stop(remote.process.pid)
        failed = 0
        while (reply := await caller.raw(batch(1.0, budget=0.15))).backend != "onnxruntime":
            failed += 1
            assert decode(reply.batch).errors
            assert failed <= 3
        assert (await answer(caller, budget=0.5)).standby


async def test_a_backend_that_returns_with_other_answers_stays_out(
    models: Path, remote: RemoteProcess
) -> None:
    async with calling(**settings(models, remote.target)) as caller:
        remote.process.kill()
        remote.process.wait()
        assert (await answer(caller)).standby
        with oip_server("double", models / "double/1/model.onnx", port=remote.port, factor=1.01):
            tried = {"model": "double", "backend": "remote:edge", "well": "no"}
            before = caller.metric("probes_total", **tried)
            await until(lambda: caller.metric("probes_total", **tried) > before + 1, 20)
            assert (await answer(caller)).standby


async def test_it_starts_on_the_standby_and_moves_up(models: Path) -> None:
    put(models)
    with oip_server("double", models / "double/1/model.onnx") as server:
        port = server.port
    async with calling(**settings(models, f"127.0.0.1:{port}")) as caller:
        assert (await answer(caller)).standby
        with oip_server("double", models / "double/1/model.onnx", port=port):
            await until(lambda: backend_gauges(caller) == (1, 0), 60)
            assert not (await answer(caller)).standby


@pytest.mark.parametrize(("parity", "loads"), [({}, False), ({"relative": 0.05}, True)])
async def test_the_tolerance_is_the_models(models: Path, parity: dict[str, float], loads: bool) -> None:
    put(models, extra={"parity": parity})
    with oip_server("double", models / "double/1/model.onnx", factor=1.01) as server:
        async with calling(**settings(models, server.target)) as caller:
            held = await quarantined(caller)
            assert list(held) == ([] if loads else ["double:1"])
            says = "onnxruntime answers the samples otherwise: y differs by up to"
            assert loads or says in held["double:1"]


@pytest.mark.parametrize(("recorded", "good"), [(4.0, True), (5.0, False)])
async def test_recorded_samples_are_what_counts(models: Path, recorded: float, good: bool) -> None:
    samples = {"inputs": {"x": [[2.0, 2.0, 2.0]]}, "outputs": {"y": [[recorded, 4.0, 4.0]]}}
    files = {SAMPLES: json.dumps(samples).encode()}
    publish(models, "double", "1", doubling(), inputs=[X], outputs=[Y], files=files)
    says = "onnxruntime answers the samples otherwise: y differs by up to 1"
    async with calling(models) as caller:
        held = await quarantined(caller)
        assert held == {} if good else says in held["double:1"]


async def test_a_model_may_live_on_a_server_alone(models: Path, remote: RemoteProcess) -> None:
    pointer = json.dumps({"server": "edge", "model": "double"}).encode()
    publish(models, "far", "1", pointer, inputs=[X], outputs=[Y], backend="remote")
    given = settings(models, remote.target, defaults={})
    async with calling(**given) as caller:
        reply = await caller.raw(batch(1.0, 2.0), "far")
        assert ys(decode(reply.batch)) == [2.0, 4.0]
        assert (reply.backend, reply.standby) == ("remote:edge", False)

        remote.process.kill()
        remote.process.wait()
        result = await caller(batch(1.0), "far")
        assert [e.message for e in result.errors.values()] == [
            "no engine can run model 'far' at the moment; retry in a few seconds"
        ]
        with oip_server("double", models / "double/1/model.onnx", port=remote.port):

            async def well() -> bool:
                return not (await caller(batch(1.0), "far")).errors

            await until(well, 20)


async def test_rows_of_a_large_call_stay_in_order_across_a_failover(
    models: Path, remote: RemoteProcess
) -> None:
    given = settings(models, remote.target)
    given["defaults"]["max_rows"] = 8
    async with calling(**given) as caller:
        values = np.arange(100, dtype=np.float64).tolist()
        call = asyncio.create_task(caller(batch(*values)))
        await until(lambda: caller.metric("run_seconds_count", model="double") >= 2)
        remote.process.kill()
        result = await call
        assert result.errors == {}
        assert ys(result) == [2 * v for v in values]
