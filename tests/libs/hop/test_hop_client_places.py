"""Where calls go when replicas are at their limits: to the first place that any of them has; a replica is connected to as
soon as it is known: the first call finds a stream that the server has taken."""

import asyncio
import time
from collections.abc import Awaitable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue

from headrace import hop
from headrace.hop.client import settings as rules
from headrace.hop.client.observer import ClientObserver
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.client.stack import compose
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.resilience.replicas import Replica, ReplicaSet
from headrace.hop.transport import stream_client
from tests.libs.hop.hop_callee import DO, fault_of, retrying, soon
from tests.libs.hop.hop_frames import Door, client_of
from tests.libs.hop.test_hop_exchange import say
from tests.services.waiting import until

FULL = rules.LimiterRules(initial=1, minimum=1, maximum=1)


class Line:
    """A transport whose calls end when the test says so: with an answer, or with the fault it names. A health check is
    answered unless it is `silent`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.silent = False
        self.unanswered = 0  # health checks
        self.calls: list[asyncio.Future[None]] = []

    def open(self) -> None: ...

    async def call(self, out: Outgoing) -> Any:
        out.sent = True
        ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.append(ends)
        await ends
        return ListValue()

    async def answers(self, within_s: float) -> bool:
        if self.silent:
            await asyncio.sleep(within_s)
            self.unanswered += 1
        return not self.silent

    async def close(self) -> None: ...


class Two:
    """Two replicas, each with one place, and the layers before them. Of equals the first is chosen."""

    def __init__(self, **settings: Any) -> None:
        self.lines: dict[str, Line] = {}
        given = rules.ClientRules("unix:/a,unix:/b", limiter=FULL, **settings)
        self.replicas = ReplicaSet(given, self._connect, lambda: 0.0, lambda _: None)
        self.replicas.update(["a", "b"])
        self.stack = compose("work", given, self.replicas, lambda: 0.0, ClientObserver())

    def _connect(self, address: str) -> Line:
        self.lines[address] = Line(address)
        return self.lines[address]

    def replica(self, address: str) -> Replica:
        return next(r for r in self.replicas.all if r.address == address)

    async def begin(self, *, patient: bool = False, within: float = 60.0) -> asyncio.Task[str]:
        """A call, as far as it comes by itself; its result is the address that answered."""
        out = Outgoing(DO, ListValue(), soon(within), 1)
        out.patient = patient

        async def run() -> str:
            await self.stack(out)
            assert out.replica is not None
            return out.replica.address

        task = asyncio.create_task(run())
        await turns()
        return task

    async def end(self, address: str, fault: Fault | None = None) -> None:
        ends = self.lines[address].calls.pop(0)
        if fault is None:
            ends.set_result(None)
        else:
            ends.set_exception(fault)
        await turns()

    def out(self) -> dict[str, int]:
        return {address: len(line.calls) for address, line in self.lines.items()}


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def refusal(call: Awaitable[object]) -> int:
    return (await fault_of(call)).reason


@pytest.mark.parametrize("first", ["a", "b"])
async def test_who_waits_takes_the_first_place_whichever_replica_has_it(first: str) -> None:
    two = Two()
    calls = [await two.begin() for _ in range(2)]
    assert two.out() == {"a": 1, "b": 1}
    waiting = await two.begin(patient=True)
    assert two.out() == {"a": 1, "b": 1}
    await two.end(first)  # the other one hangs
    assert two.out() == {"a": 1, "b": 1}
    await two.end(first)
    assert await waiting == first
    await two.end({"a": "b", "b": "a"}[first])
    await asyncio.gather(*calls)


async def test_those_who_wait_are_served_in_their_order() -> None:
    two = Two()
    for _ in range(2):
        await two.begin()
    waiting = [await two.begin(patient=True) for _ in range(5)]
    await asyncio.sleep(0.2)  # they look for themselves now and then, and keep their order
    for number in range(5):
        await two.end("a")
        assert [call.done() for call in waiting] == [n < number for n in range(5)]


async def doubting(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Two:
    """After a failure of the first, which is doubted for so long: longer than a busy machine stops for."""
    for name in ("_DOUBT_S", "_MAX_DOUBT_S"):
        monkeypatch.setattr(f"headrace.hop.resilience.breaker.{name}", seconds)
    two = Two(retry=rules.RetryRules(attempts=1))
    failing = await two.begin()
    await two.end("a", Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away"))
    assert await refusal(failing) == Reason.REASON_UNREACHABLE
    return two


async def test_a_single_call_takes_a_doubted_replicas_place_rather_than_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = await doubting(monkeypatch, 60)
    assert two.replica("a").guard(DO.name).breaker.doubted(time.monotonic())
    trusting = await two.begin()
    assert two.out() == {"a": 0, "b": 1}
    other = await two.begin()
    assert two.out() == {"a": 1, "b": 1}
    assert await refusal(await two.begin()) == Reason.REASON_OVERLOADED
    await two.end("a")
    await two.end("b")
    assert [await other, await trusting] == ["a", "b"]


async def test_a_gathered_call_waits_for_the_trusted_one_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = await doubting(monkeypatch, 2)
    trusting = await two.begin()
    gathered = await two.begin(patient=True)
    assert two.out() == {"a": 0, "b": 1}
    await until(lambda: two.out() == {"a": 1, "b": 1})  # nothing ends meanwhile but the doubt
    await two.end("a")
    assert await gathered == "a"
    await two.end("b")
    await trusting


async def test_who_waits_is_answered_at_its_deadline_and_leaves_nothing() -> None:
    two = Two()
    calls = [await two.begin() for _ in range(2)]
    assert await refusal(await two.begin(patient=True, within=0.1)) == Reason.REASON_DEADLINE_PASSED
    cancelled = await two.begin(patient=True)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert two.replicas._waiting == {}
    for address in "ab":
        await two.end(address)
    await asyncio.gather(*calls)
    assert [r.guard(DO.name).limiter.in_flight for r in two.replicas.all] == [0, 0]


async def test_a_silent_replicas_call_goes_to_the_other_when_that_has_a_place_at_last() -> None:
    two = Two(retry=retrying({}, silent_s=0.02))
    call, other = await two.begin(), await two.begin()
    two.lines["a"].silent = True
    await until(lambda: two.lines["a"].unanswered >= 1)
    assert two.out() == {"a": 1, "b": 1}
    await two.end("b")
    assert await other == "b"
    await until(lambda: two.out()["b"] == 1)
    await two.end("b")
    assert await call == "b"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "door")


async def seen(door: Door, connections: int) -> None:
    """Waits for that many; fails where there are more."""
    await until(lambda: door.begun >= connections)
    assert door.begun == connections


async def test_a_replica_that_comes_late_is_found_without_a_call(door: Door) -> None:
    async with client_of(door) as client:
        assert (await fault_of(say(client, "nobody is there"))).reason is hop.Reason.REASON_UNREACHABLE
        async with door.opened():
            await seen(door, 1)
            assert await say(client, "hello") == "hello"
            assert door.begun == 1


async def test_a_stream_that_ends_is_followed_by_another_without_a_call(door: Door) -> None:
    async with door.opened(), client_of(door) as client:
        await seen(door, 1)
        door.hang_up()
        await seen(door, 2)
        assert await say(client, "hello") == "hello"
        assert door.begun == 2


async def test_tries_are_further_apart_each_time_and_calls_do_not_wait_for_them(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[float]()

    async def connect(self: object, protocol: object, path: str) -> None:
        tries.append(time.monotonic())
        raise ConnectionRefusedError

    monkeypatch.setattr(stream_client, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(asyncio.get_running_loop().__class__, "create_unix_connection", connect)
    async with client_of(door) as client:
        await until(lambda: len(tries) >= 4)
        pauses = [later - sooner for sooner, later in pairwise(tries)]
        assert [p >= least for p, least in zip(pauses, (0.02, 0.04, 0.08), strict=False)] == [True] * 3
        count = len(tries)
        with pytest.raises(hop.Fault):
            await say(client, "nobody is there")
        assert len(tries) <= count + 1


async def test_closing_ends_the_tries(door: Door) -> None:
    before = asyncio.all_tasks()
    async with client_of(door):
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before
