"""Versions come and go while calls are served; memory has a bound; a run that hangs holds nobody else up."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import DType, decode
from headrace.hop.config import ClientSettings
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.hop.server.serve import serving
from headrace.repository import TensorSpec
from headrace.repository.signing import key_pair as keys
from headrace.state.json_lines import entries
from services.executor.config import ExecutorConfig
from services.executor.execution.runner import VersionRunner
from services.executor.lifecycle.memory import MemoryBudget
from services.executor.wiring import SERVICE
from tests.services.executor.executor_caller import Caller, batch, calling, codes, numbers, ys
from tests.services.executor.executor_models import counting, expanding, put, scaling, slow
from tests.services.waiting import until

State = pb.ModelState


async def states(caller: Caller) -> dict[str, str]:
    index = await caller.index(pb.IndexModelsRequest())
    return {f"{m.name}:{m.version}": State.Name(m.state).removeprefix("MODEL_STATE_") for m in index.models}


async def load(caller: Caller, version: str, model: str = "double") -> pb.Model:
    return (await caller.load(pb.LoadModelRequest(model=model, version=version))).model


async def unload(caller: Caller, version: str, model: str = "double") -> None:
    await caller.unload(pb.UnloadModelRequest(model=model, version=version))


async def test_a_new_version_takes_over_and_the_old_one_comes_back(models: Path) -> None:
    put(models, version="1", content=scaling(2))
    put(models, version="2", content=scaling(3))
    async with calling(models, loaded=["double:1"]) as caller:
        assert await states(caller) == {"double:1": "ACTIVE", "double:2": "UNLOADED"}
        loaded = await load(caller, "2")
        assert (loaded.version, loaded.active_backend) == ("2", "onnxruntime")
        assert loaded.state == pb.MODEL_STATE_ACTIVE
        assert ys(await caller(batch(1.0))) == [3.0]
        assert ys(await caller(batch(1.0), version="1")) == [2.0]
        assert await load(caller, "2") == loaded
        assert caller.metric("cold_starts_total", model="double", version="2", why="load") == 1

        await unload(caller, "2")
        assert ys(await caller(batch(1.0))) == [2.0]
        with pytest.raises(Fault, match="not loaded in version '2'; loaded are: 1") as caught:
            await caller(batch(1.0), version="2")
        assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN)
        await unload(caller, "1")
        with pytest.raises(Fault, match="model 'double' is not loaded; loaded are: none"):
            await caller(batch(1.0))
        assert set((await states(caller)).values()) == {"UNLOADED"}


async def test_every_reply_matches_the_version_it_names_while_versions_change(models: Path) -> None:
    factors = {"1": 2.0, "2": 3.0}
    for version, factor in factors.items():
        put(models, version=version, content=scaling(factor))
    async with calling(models, loaded=["double:1"]) as caller:
        done = asyncio.Event()
        seen = set()

        async def call() -> int:
            asked = 0
            while not done.is_set():
                reply = await caller.raw(batch(float(asked)))
                result = decode(reply.batch)
                assert result.errors == {}
                assert ys(result) == [factors[reply.version] * asked]
                seen.add(reply.version)
                asked += 1
            return asked

        asking = [asyncio.create_task(call()) for _ in range(8)]
        for _ in range(5):
            await load(caller, "2")
            await unload(caller, "1")
            await load(caller, "1")
            await unload(caller, "2")
        done.set()
        assert all(await asyncio.gather(*asking))
        assert seen == {"1", "2"}


async def test_calls_that_have_a_version_finish_before_it_goes(models: Path) -> None:
    put(models, content=slow(3000))
    async with calling(models, warmup_rows=[1], inline_us=0) as caller:
        under_way = [asyncio.create_task(caller(batch(float(i)))) for i in range(5)]
        await until(lambda: caller.metric("batch_rows_count", model="double") == 1)
        await unload(caller, "1")
        assert [ys(result) for result in await asyncio.gather(*under_way)] == [[float(i)] for i in range(5)]


async def test_without_a_version_the_newest_is_loaded_and_all_are_unloaded(models: Path) -> None:
    for version in ("1", "9", "10"):
        put(models, version=version, content=scaling(float(version)))
    async with calling(models, loaded=["double:1"]) as caller:
        assert (await load(caller, "")).version == "10"
        assert ys(await caller(batch(1.0))) == [10.0]
        await load(caller, "9")
        runners = weakref.WeakSet(r for r in gc.get_objects() if isinstance(r, VersionRunner))
        assert {r.model.metadata.version for r in runners} >= {"9", "10"}
        gone = await caller.unload(pb.UnloadModelRequest(model="double", version="1"))
        assert list(gone.versions) == ["1"]
        gone = await caller.unload(pb.UnloadModelRequest(model="double"))
        assert list(gone.versions) == ["9", "10"]
        assert set((await states(caller)).values()) == {"UNLOADED"}
        # Nothing keeps what they take of memory, such as their metrics.
        await until(lambda: gc.collect() >= 0 and not runners)
        for model, says in (("double", "is not loaded"), ("../double", "is not loaded")):
            with pytest.raises(Fault, match=says) as caught:
                await caller.unload(pb.UnloadModelRequest(model=model))
            assert caught.value.code is Code.NOT_FOUND


async def test_changes_of_operators_are_recorded_with_their_names(tmp_path: Path, models: Path) -> None:
    """Unsigned, altered, unknown, badly named: each refusal has its reason and its line in the audit."""
    private, public, log = tmp_path / "models.key", tmp_path / "models.pub", tmp_path / "audit.jsonl"
    keys.generate(private, public)
    for version in ("1", "2"):
        put(models, version=version, key=private)
    (models / "double/2/model.onnx").write_bytes(scaling(9))
    put(models, name="unsigned")
    async with calling(models, loaded=["double:1"], trust={"keys": [public]}, access_log=log) as caller:

        async def refusal(model: str, version: str) -> tuple[Code, str]:
            request = pb.LoadModelRequest(model=model, version=version, operator="ops/k1")
            with pytest.raises(Fault) as caught:
                await caller.load(request)
            assert str(tmp_path) not in caught.value.message
            assert str(tmp_path) not in str(caught.value.metadata)
            return caught.value.code, reason_name(caught.value.reason)

        assert await refusal("unsigned", "") == (Code.FAILED_PRECONDITION, "MODEL_UNTRUSTED")
        assert await refusal("double", "2") == (Code.FAILED_PRECONDITION, "MODEL_UNTRUSTED")
        assert await refusal("double", "7") == (Code.NOT_FOUND, "MODEL_UNKNOWN")
        assert await refusal("triple", "") == (Code.NOT_FOUND, "MODEL_UNKNOWN")
        assert await refusal("../models/double", "1") == (Code.INVALID_ARGUMENT, "MODEL_UNKNOWN")
        (models / "double/2/model.onnx").unlink()
        assert await refusal("double", "2") == (Code.FAILED_PRECONDITION, "MODEL_UNUSABLE")
        assert ys(await caller(batch(1.0))) == [2.0]  # nobody was disturbed
        await caller.unload(pb.UnloadModelRequest(model="double", operator="ops/k1"))
        await caller.load(pb.LoadModelRequest(model="double", version="1", operator="ops/k1"))
    told = [(e["event"], e["model"], e["version"], e.get("operator", "")) for e in entries(log)]
    assert told == [
        ("loaded", "double", "1", ""),
        ("refused", "unsigned", "1", "ops/k1"),
        ("refused", "double", "2", "ops/k1"),
        ("refused", "double", "7", "ops/k1"),
        ("refused", "triple", "", "ops/k1"),
        ("refused", "../models/double", "1", "ops/k1"),
        ("refused", "double", "2", "ops/k1"),
        ("unloaded", "double", "1", "ops/k1"),
        ("loaded", "double", "1", "ops/k1"),
    ]


async def test_only_this_installation_changes_what_is_loaded(models: Path) -> None:
    put(models)
    server = {"listen": "127.0.0.1:0", "allow_plaintext": True}
    config = ExecutorConfig.model_validate({"server": server, "models": models})
    async with serving(SERVICE, config) as running:
        client = running.runtime.dial("executor", ClientSettings(target=running.address))
        stranger = Caller.of(client)
        try:
            for refused in (load(stranger, "1"), unload(stranger, "1"), states(stranger)):
                with pytest.raises(Fault) as caught:
                    await refused
                assert caught.value.code is Code.PERMISSION_DENIED
                assert caught.value.reason == Reason.REASON_PEER_UNTRUSTED
        finally:
            await client.close()


async def test_memory_has_a_bound_and_sleepers_wake(models: Path) -> None:
    # Each takes at least the 0.6 MiB of its file: of three, one fits into a budget of 1.
    for version in ("1", "2", "3"):
        put(models, version=version, content=scaling(float(version), padding=600_000))
    async with calling(models, loaded=["double:1", "double:2", "double:3"], memory_budget_mib=1) as caller:
        assert await states(caller) == {"double:1": "ASLEEP", "double:2": "ASLEEP", "double:3": "ACTIVE"}

        replies = await asyncio.gather(*(caller.raw(batch(1.0), version="1") for _ in range(5)))
        # Each row that waited counts, not each model that was woken.
        waited = sum(r.cold_start for r in replies)
        assert waited > 1
        assert caller.metric("cold_rows_total", model="double", version="1") == waited
        assert [ys(decode(r.batch)) for r in replies] == [[1.0]] * 5
        assert not (await caller.raw(batch(1.0), version="1")).cold_start
        assert caller.metric("cold_starts_total", model="double", version="1", why="call") == 1
        assert (await states(caller))["double:3"] == "ASLEEP"
        assert caller.metric("evictions_total", model="double", version="3") == 1
        # It wakes from the bytes that were verified, whatever has become of the file.
        (models / "double/2/model.onnx").write_bytes(scaling(9))
        assert ys(await caller(batch(1.0), version="2")) == [2.0]


async def test_the_budget_counts_what_a_model_holds_not_its_file(models: Path) -> None:
    # Files of some hundred bytes; each run needs 64 MiB, which the engine keeps.
    for version in ("1", "2", "3"):
        put(models, version=version, content=expanding(24))
    async with calling(
        models, loaded=["double:1", "double:2", "double:3"], memory_budget_mib=100, warmup_rows=[1]
    ) as caller:
        assert list((await states(caller)).values()).count("ACTIVE") == 1
        assert 60 << 20 < caller.metric("memory_bytes") < 200 << 20
        [active] = [m for m in await caller.models() if m.state == pb.MODEL_STATE_ACTIVE]
        assert active.memory_bytes == caller.metric("memory_bytes")


async def test_a_run_that_hangs_on_the_loop_is_taken_off_it(models: Path) -> None:
    """The model is quick on blank rows, so it runs on the loop; with others it would take hours."""
    spec = [TensorSpec("x", DType.INT64)], [TensorSpec("y", DType.INT64)]
    put(models, content=counting(), inputs=spec[0], outputs=spec[1])
    async with calling(models, run_timeout_s=0.3, inline_us=1_000_000) as caller:
        assert (await caller(numbers(1, 2))).columns["y"].array.tolist() == [1, 2]
        hung = asyncio.create_task(caller(numbers(1 << 60, 1 << 61, 1 << 60)))
        beside = asyncio.create_task(caller(numbers(3)))
        assert codes((await hung).errors.values()) == {(Code.INTERNAL, Reason.REASON_MODEL_FAILED)}
        await beside
        assert (await caller(numbers(4))).columns["y"].array.tolist() == [4]


@given(
    st.lists(st.tuples(st.sampled_from(["add", "touch", "remove"]), st.integers(0, 4), st.integers(1, 6))),
    st.integers(1, 12),
)
def test_the_memory_budget_holds(steps: list[tuple[str, int, int]], budget: int) -> None:
    memory: MemoryBudget[int] = MemoryBudget(budget)
    held: dict[int, int] = {}
    for step, key, size in steps:
        if step == "remove":
            memory.remove(key)
            held.pop(key, None)
        elif step == "touch":
            memory.touch(key)
            if key in held:
                held[key] = held.pop(key)
        else:
            leaving = memory.add(key, size)
            held.pop(key, None)
            held[key] = size
            assert key not in leaving
            # The least recently used, and no more of them than need be.
            assert leaving == list(held)[: len(leaving)]
            for other in leaving:
                assert sum(held.values()) > budget
                memory.remove(other)
                del held[other]
            assert sum(held.values()) <= budget or list(held) == [key]
        assert memory.used == sum(held.values())
