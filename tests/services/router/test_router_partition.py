"""Rows with one key go to one replica of the executor, and come back in the order of the request."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.executor.v1 import executor_pb2
from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Column, RowError, Rows, Timing, decode, encode
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from headrace.pipeline import ModelUse, parse
from headrace.releases import Partition
from services.ingress.clients import INFER
from services.router.config import RouterConfig
from services.router.inference import Inference
from services.router.pipelines import Compiler, Served
from services.router.routes.partition import Replicas, RowPartition, healthy_replicas
from services.router.stages.by_replica import REPLICA, run_by_replica
from services.router.stages.registry import connected
from services.router.stages.runner import StageResult
from services.router.wiring import SERVICE
from tests.first_release import first_released, release_first
from tests.released import Released, released
from tests.services.router.one_pipeline import inference
from tests.services.router.router_leaves import Executor, _definition

DOCUMENT = """\
pipeline: keyed
version: 1
deadline_ms: 5000
inputs: {key: {type: string, required: false}, x: float32}
stages:
  - {model: m, name: m, inputs: {numbers: x}, outputs: {total: {column: y, type: float32}}}
outputs: [y]
"""
KEYS: list[str | None] = [f"key-{i}" for i in range(60)]


def batch_of(keys: list[str | None]) -> Batch:
    """Each row is a request of its own, named by its key."""
    count, deadline = len(keys), time.monotonic() + 30
    rows = Rows([k or "none" for k in keys], ["t"] * count, [1] * count, [deadline] * count, [""] * count)
    numbers = Column.of("x", np.arange(count, dtype=np.float32))
    return Batch.of(rows, [Column.of_text("key", keys), numbers])


@dataclass
class Running:
    """Three executors and an inference that partitions rows among them."""

    executors: list[Executor]
    harnesses: list[Harness]
    inference: Inference
    replicas: Replicas

    def homes(self) -> dict[str, set[int]]:
        """Key → which executors have seen it."""
        found: dict[str, set[int]] = {}
        for i, executor in enumerate(self.executors):
            for key in executor.seen:
                found.setdefault(key, set()).add(i)
        return found


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    executors = [Executor() for _ in range(3)]
    async with AsyncExitStack() as stack:
        harnesses = [
            await stack.enter_async_context(
                served(_definition("executor", executor_pb2.DESCRIPTOR, "ExecutorService", executor))
            )
            for executor in executors
        ]
        target = ",".join(harness.target for harness in harnesses)
        client = harnesses[0].client(target=target)
        runners = connected({"executor": client}, RouterConfig.model_construct(), time.monotonic)
        plain = Compiler(runners).compile(first_released(parse(DOCUMENT, "keyed.yaml")))
        # Three replicas never have four times their mean, so nothing is passed on.
        steady = Partition(by="key", load_factor=4)
        replicas = partial(healthy_replicas, client, time.monotonic)
        by_key = RowPartition(steady, replicas, time.monotonic)
        found = Served(plain.pipeline, plain.routes, partition=by_key)
        made = Running(executors, harnesses, inference(found), replicas)
        await ask(made, ["first"])  # before it, the replicas are not resolved
        yield made


async def ask(running: Running, keys: list[str | None]) -> Batch:
    result = (await running.inference.infer("keyed", 0, batch_of(keys))).batch
    assert result.columns["y"].array.tolist() == list(map(float, range(len(keys))))
    assert not result.errors
    return result


async def test_only_the_keys_of_a_lost_replica_move(running: Running) -> None:
    await ask(running, KEYS)
    before = running.homes()
    await running.harnesses[1].stop()
    for executor in running.executors:
        executor.seen.clear()
    for _ in range(3):
        await ask(running, KEYS)
    assert sorted(running.replicas().values()) == [0, 2]
    after = running.homes()
    for key in map(str, KEYS):
        assert 1 not in after[key]
        assert before[key] == {1} or after[key] == before[key]


async def test_the_router_partitions_what_a_release_says(tmp_path: Path) -> None:
    with released(tmp_path) as releases:
        await _partitioned(releases)


async def _partitioned(releases: Released) -> None:
    first = release_first(releases.store, DOCUMENT, {"m": "1"})
    releases.store.commit(first.next("me", "", partition={"by": "key", "load_factor": 4}))
    executors = [Executor(), Executor()]
    for executor in executors:
        executor.loaded = {"1": executor_pb2.MODEL_STATE_ACTIVE}
    leaf = partial(_definition, "executor", executor_pb2.DESCRIPTOR, "ExecutorService")
    async with served(leaf(executors[0])) as one, served(leaf(executors[1])) as other:
        target = {"target": f"{one.target},{other.target}"}
        async with served(SERVICE, {**releases.settings, "executor": target}) as router:
            infer = router.client().unary(INFER)
            keys: list[str | None] = [f"key-{i}" for i in range(40)]
            for _ in range(4):
                request = router_pb2.InferRequest(pipeline="keyed", batch=encode(batch_of(keys)))
                reply = await infer(request, deadline=time.monotonic() + 30)
                assert decode(reply.batch).columns["y"].array.tolist() == list(map(float, range(40)))
                assert reply.decisions[0].release == 2
    counts = [set(executor.seen.values()) for executor in executors]
    assert counts == [{4}, {4}]
    assert not executors[0].seen.keys() & executors[1].seen.keys()


def test_a_row_without_a_key_goes_anywhere() -> None:
    three = {"unix:/a": 0, "unix:/b": 1, "unix:/c": 5}
    by_key = RowPartition(Partition(by="key"), lambda: three, lambda: 0.0)
    marked = by_key.mark(batch_of([*map(str, range(50)), None]))
    places = marked.columns[REPLICA].array.tolist()
    assert set(places[:50]) == {0, 1, 5}
    assert places[50] == -1
    assert by_key.mark(batch_of([None])).columns[REPLICA].array.tolist() == [-1]
    assert REPLICA not in by_key.mark(batch_of([])).columns


def test_one_replica_needs_no_partition() -> None:
    whole = batch_of(["a"])
    one = {"unix:/a": 0}
    assert RowPartition(Partition(by="key"), lambda: one, lambda: 0.0).mark(whole) is whole


# What happens to the rows of a replica: an answer, or a failure of some rows, of all of them, or of the call.
outcomes = st.sampled_from(["answer", "odd rows fail", "all rows fail", "call fails", "standby"])


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.lists(outcomes, min_size=5, max_size=5))
async def test_parts_are_joined_in_the_order_of_the_rows(places: list[int], happens: list[str]) -> None:
    called: list[int | None] = []

    async def run(part: Batch, replica: int | None) -> StageResult:
        called.append(replica)
        outcome, count = happens[-1 if replica is None else replica], len(part)
        assert set(part.columns[REPLICA].array.tolist()) == {-1 if replica is None else replica}
        if outcome == "call fails":
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")
        wrong = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "wrong")
        if outcome == "all rows fail":
            return StageResult(errors=dict.fromkeys(range(count), wrong))
        x = part.columns["x"].array
        failed = {i: wrong for i, v in enumerate(x.tolist()) if outcome == "odd rows fail" and v % 2}
        standby = outcome == "standby"
        return StageResult(
            [Column.of("y", x * 2), Column.of_text("z", [str(int(v)) for v in x])],
            errors=failed,
            fallbacks={"standby": np.ones(count, bool)} if standby else {},
            timings=[Timing("execute", "executor", 0, 1, count)],
            models=[ModelUse("m", "m", "1", "ff", standby=standby)],
        )

    count = len(places)
    whole = batch_of(["k"] * count).with_columns([Column.of(REPLICA, np.array(places, np.int32))])
    fate = [happens[p] for p in places]
    if len(set(places)) == 1 and fate[0] == "call fails":
        with pytest.raises(Fault, match="gone"):
            await run_by_replica(whole, run)
        return
    result = await run_by_replica(whole, run)
    assert sorted(called, key=str) == sorted((None if p < 0 else p for p in set(places)), key=str)
    failed = {
        i for i, f in enumerate(fate) if (f.endswith("fail") and (f[0] == "a" or i % 2)) or f == "call fails"
    }
    assert set(result.errors) == failed
    columns = {c.name: c for c in result.columns}
    for row in set(range(count)) - failed:
        assert columns["y"].array[row] == 2 * row
        assert columns["z"].text()[row] == str(row)
    assert all(len(c) == count for c in columns.values())
    standby = [f == "standby" for f in fate]
    assert (result.fallbacks["standby"].tolist() == standby) if any(standby) else not result.fallbacks
    assert not result.models or result.models[0].standby == any(standby)
