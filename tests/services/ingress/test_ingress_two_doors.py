"""Two real doors: with one store of keys, where duplicates come to both and one is killed in the middle; and of different
machines with one real Redis: what they let through together, and what stops their start."""

import asyncio
import contextlib
import hashlib
import json
import random
import sqlite3
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import yaml
from redis import Redis

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.api.router.v1 import router_pb2
from headrace.columns import decode
from headrace.hop import testing
from headrace.hop.call import Call
from headrace.hop.process.lifecycle import EXIT_CONFIG
from tests.libs.state.valkey import Valkey
from tests.services.ingress.ingress_calls import PREDICT, bearer, unary
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, Folder, definition, prepare, second
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
_LEASE_S = 2.0
_TRIED_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
# Nothing is to end for lack of time, however busy the machine is: a call that was given up would run again, rightly.
_PATIENCE_S = 500
# Keys that are on their way when the door is killed, at most; and other calls on their way at once.
_HELD, _AT_ONCE = 50, 64
# Copies of each call, at either door in turn.
_COPIES = 4
_BURST = 40


class CountingRouter(FakeRouter):
    """Counts how often each row ran: `word` names the key. The first of the keys are held until `let_go`."""

    def __init__(self, held: frozenset[str]) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()
        self.slow = held
        self.let_go = asyncio.Event()

    async def Infer(self, request: router_pb2.InferRequest, call: Call) -> router_pb2.InferResponse:
        words = [word or "" for word in decode(request.batch).columns["word"].text()]
        self.ran.update(words)
        if self.slow & set(words):
            await self.let_go.wait()
        return await super().Infer(request, call)


class Answer(NamedTuple):
    """A reply, the id of the request that got it, and of the request that ran; whether it is said to be a replay."""

    body: bytes
    own: str
    original: str
    replayed: bool


async def answered(channels: list[Any], folder: Folder, key: str, door: int, copy: int) -> Answer:
    """Asks until it is answered, at the other door when one is gone: what a client that retries does."""
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1.0, 2.0], "n": int(key[1:]) % 5, "word": key})
    own = f"{key}-{copy}"
    metadata = (bearer(folder), ("idempotency-key", f"the key of {key}"), ("x-request-id", own))
    for attempt in range(200):
        method = unary(channels[(door + attempt) % 2], PREDICT, pb.PredictResponse)
        call = method(request, metadata=metadata, timeout=_PATIENCE_S)
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TRIED_AGAIN:
                raise
            await asyncio.sleep(random.uniform(0.02, 0.1))
            continue
        said = dict(await call.initial_metadata() or ())
        body = reply.SerializeToString(deterministic=True)
        replayed = said.get("idempotency-replayed") == "true"
        return Answer(body, own, said.get("idempotency-original-request-id", own), replayed)
    raise AssertionError(f"{key} was never answered")


async def run(tmp_path: Path, count: int, store: dict[str, Any]) -> tuple[CountingRouter, list[Answer]]:
    """Asks `count` keys four times each at two doors, and kills one while some of the keys are being served.

    The other keys are answered by then, so they were not on their way at the killed door.
    """
    keys = [f"k{i}" for i in range(count)]
    router = CountingRouter(frozenset(keys[: min(count // 4, _HELD)]))
    turn = asyncio.Semaphore(_AT_ONCE)
    async with testing.served(definition(router)) as harness, contextlib.AsyncExitStack() as stack:
        settings: dict[str, Any] = {
            "idempotency": {**store, "lease_s": _LEASE_S},
            "admission": {"initial": 4096},
        }
        folder = prepare(tmp_path, harness.target, deadline_ms=600_000, **settings)
        # No row waits for rows of other keys, which may be held.
        folder.settings["router"] |= {
            "coalesce": {"max_rows": 1, "window": 4096},
            "limiter": {"initial": 512, "minimum": 512},
        }
        folder.settings["limits"]["stream_idle_s"] = _PATIENCE_S
        (tmp_path / "ingress.yaml").write_text(yaml.safe_dump(folder.settings))
        folders = [folder, second(folder, tmp_path / "second")]
        doors = [DoorProcess(f) for f in folders]
        for door in doors:
            stack.callback(door.kill)
        await asyncio.gather(*(door.ready(f.grpc) for door, f in zip(doors, folders, strict=True)))
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(f.grpc)) for f in folders]

        async def one(key: str, copy: int) -> Answer:
            if key in router.slow:
                return await answered(channels, folder, key, copy, copy)
            async with turn:
                return await answered(channels, folder, key, copy, copy)

        asked = {(key, copy): asyncio.create_task(one(key, copy)) for key in keys for copy in range(_COPIES)}
        await asyncio.wait([task for (key, _), task in asked.items() if key not in router.slow])
        while not router.slow <= router.ran.keys():
            await asyncio.sleep(0.01)
        doors[1].kill()
        router.let_go.set()
        return router, await asyncio.gather(*asked.values())


def check(router: CountingRouter, count: int, answers: list[Answer]) -> None:
    by_key: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_key[answer.own.partition("-")[0]].append(answer)
    assert len(by_key) == count
    for key, found in by_key.items():
        assert len(found) == _COPIES
        assert len({answer.body for answer in found}) == 1, f"{key} has several answers"
        (original,) = {answer.original for answer in found}
        assert pb.PredictResponse.FromString(found[0].body).request_id == original
        # Who ran it may have been cut off after the commit, and then asked again.
        assert all(answer.replayed for answer in found if answer.own != original), key
    # Only what was on its way at the killed door may have run twice.
    again = {key for key, times in router.ran.items() if times > 1}
    replayed = sum(answer.replayed for answer in answers)
    print(
        f"{count} keys, {_COPIES} calls each: {replayed} replayed, {sum(router.ran.values())} executions; "
        f"{len(again)} keys ran twice, {len(router.slow)} were in flight at the kill"
    )
    assert max(router.ran.values()) <= 2
    assert again <= router.slow


def check_records(found: dict[str, str], answers: list[Answer]) -> None:
    """`found`: key → the request id of its one record; all calls with the key name that request as the original."""
    recorded = {key.removeprefix("the key of "): request_id for key, request_id in found.items()}
    assert recorded == {answer.own.partition("-")[0]: answer.original for answer in answers}


def in_file(file: Path) -> dict[str, str]:
    """The request ids of the records of keys, by key."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        rows = db.execute("SELECT key, outcome, json_extract(note, '$.request_id') FROM keys").fetchall()
    assert all(outcome is not None for _, outcome, _ in rows)
    return {key: request_id for key, _, request_id in rows}


def in_redis(url: str, keys: list[str]) -> dict[str, str]:
    """The same. The name of a record is the hash of its key."""
    by_hash = {hashlib.sha256(key.encode()).hexdigest(): key for key in keys}
    with Redis.from_url(url) as client:
        names = [name.decode() for name in client.scan_iter("headrace:idempotency:*:key:*", 1000)]
        heads = {name.rpartition(":")[2]: client.get(name).partition(b"\n")[0] for name in names}
    return {by_hash[name]: json.loads(head)["note"]["request_id"] for name, head in heads.items()}


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("store", ["file", "redis"])
async def test_each_key_has_one_answer_and_one_record(tmp_path: Path, store: str, count: int) -> None:
    file = tmp_path / "keys" / "keys.sqlite"
    (tmp_path / "redis").mkdir()
    with Valkey(tmp_path / "redis") as server:
        kept = {"file": str(file)} if store == "file" else {"redis": server.url, "timeout_s": 20.0}
        router, answers = await run(tmp_path, count, kept)
        check(router, count, answers)
        names = [f"the key of k{i}" for i in range(count)]
        check_records(in_file(file) if store == "file" else in_redis(server.url, names), answers)


async def shows(folder: Folder, series: str, value: float) -> bool:
    return await asyncio.to_thread(folder.sample, series) == value


async def passed(folder: Folder, calls: int, *metadata: tuple[str, str]) -> int:
    """How many of so many calls were let through, by default of the demo tenant."""
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1.0, 2.0], "n": 1, "word": "w"})
    async with grpc.aio.insecure_channel(folder.grpc) as channel:
        method, count = unary(channel, PREDICT, pb.PredictResponse), 0
        for _ in range(calls):
            try:
                await method(request, metadata=metadata or (bearer(folder),), timeout=60)
                count += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
    return count


async def test_two_doors_have_one_burst_and_go_on_without_redis(tmp_path: Path) -> None:
    async with testing.served(definition(FakeRouter())) as harness, contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(Valkey(tmp_path))
        here = tmp_path / "here"
        here.mkdir(mode=0o700)
        # A burst, and then nothing for as long as a test lasts.
        burst = {"demo": {"limits": {"rows_per_s": 0.001, "rows_burst": _BURST}}}
        place = {"redis": server.url, "timeout_s": 5.0}
        folder = prepare(here, harness.target, changed=burst, sharing=place, idempotency=place)
        other = second(folder, here / "second")
        doors = [DoorProcess(f) for f in (folder, other)]
        for door in doors:
            stack.callback(door.kill)
        await asyncio.gather(*(d.ready(f.grpc) for d, f in zip(doors, (folder, other), strict=True)))
        for f in (folder, other):
            await until(partial(shows, f, "headrace_quota_doors", 2.0))
        total = 0
        for _ in range(4):
            total += await passed(other, 30) + await passed(folder, 30)
        # What one door was lent and did not spend, the other gets at a later exchange: until nothing is left.
        async with asyncio.timeout(60):
            while (more := await passed(other, 5) + await passed(folder, 5)) or total < _BURST * 0.9:
                total += more
        # Tokens are lent to one door at a time. Only a door without a lease (at its first request, or when a busy machine held it
        # up) has its local part, half of the burst, before it hears of what the other took.
        assert total <= _BURST * (1 + 1 / 2)
        server.kill()
        for f in (folder, other):
            await until(partial(shows, f, "headrace_quota_alone", 1.0))
        await passed(folder, 3)
        # Only who sends a key is refused, and told why.
        other_tenant = bearer(folder, folder.keys.repeating)
        with pytest.raises(grpc.aio.AioRpcError, match="can't be found out now") as refused:
            await passed(folder, 1, other_tenant, ("idempotency-key", "k"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await passed(other, 1, other_tenant) == 1
        assert all(door.process.poll() is None for door in doors)
        server.start()
        for f in (folder, other):
            await until(partial(shows, f, "headrace_quota_alone", 0.0))

        Redis.from_url(server.url).set("headrace:quotas:{doors}:format", "headrace quotas 99")
        late = DoorProcess(second(folder, here / "late"))
        stack.callback(late.kill)
        assert await asyncio.to_thread(late.process.wait, 200) == EXIT_CONFIG
        assert "sharing.redis: headrace:quotas:{doors}:format says 'headrace quotas 99'" in late.log()
        assert str(tmp_path) not in late.log().split("sharing.redis")[1]
        assert all(door.process.poll() is None for door in doors)
