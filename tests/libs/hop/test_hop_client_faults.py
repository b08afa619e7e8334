"""The client against real processes that are killed, stopped, restarted, or answer nonsense."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.client.observer import ClientObserver
from headrace.hop.errors import Code, Reason
from headrace.hop.resilience.breaker import State
from tests.libs.hop.hop_callee import DO, DO_ONCE, Callee, Item, WordCodec, fault_of, retrying, soon, words
from tests.services.waiting import until

QUICK = rules.BreakerRules(window_s=2, min_calls=4, slow_s=0.3, open_s=0.3, max_open_s=1)
# Opened by the fourth failure and by nothing that a busy machine does; open for as long as a test looks.
COUNTING = rules.BreakerRules(window_s=600, min_calls=4, slow_s=60, open_s=600, max_open_s=600)


@pytest.fixture(autouse=True, params=["rpc", "exchange"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever carries a call, a client sees the same."""
    monkeypatch.setattr(Callee, "exchange", request.param == "exchange")


class Watch(ClientObserver):
    """Notes the methods that are tried again, and those of hedged calls."""

    def __init__(self) -> None:
        self.retries: list[str] = []
        self.hedges: list[str] = []

    def retried(self, method: str) -> None:
        self.retries.append(method)

    def hedged(self, method: str) -> None:
        self.hedges.append(method)


@asynccontextmanager
async def client_of(*callees: Callee, watch: Watch | None = None, **settings: Any) -> AsyncIterator[Client]:
    target = ",".join(c.target for c in callees)
    client = Client("work", rules.ClientRules(target, **settings), observer=watch)
    try:
        yield client
    finally:
        await client.close()


def state_of(client: Client, index: int = 0) -> State:
    return client.replicas.all[index].state(time.monotonic())


async def test_nobody_listens_fails_fast_and_names_no_path(tmp_path: Path) -> None:
    client = Client("work", rules.ClientRules(f"unix:{tmp_path}/nobody"))
    ends = soon(60)
    fault = await fault_of(client.unary(DO)(words("a"), deadline=ends))
    assert (fault.code, fault.reason, fault.metadata["callee"]) == (
        Code.UNAVAILABLE,
        Reason.REASON_UNREACHABLE,
        "work",
    )
    assert str(tmp_path) not in fault.message
    assert time.monotonic() < ends - 30
    await client.close()


async def test_killed_and_restarted_on_the_same_socket_is_reached_again(tmp_path: Path) -> None:
    async with Callee(tmp_path / "s") as callee, client_of(callee) as client:
        do = client.coalesced(DO, WordCodec())
        assert await do(Item("a")) == "a"
        busy = asyncio.gather(*(do(Item("sleep 5")) for _ in range(3)), return_exceptions=True)
        await asyncio.sleep(0.1)
        await callee.kill()
        assert {(getattr(f, "code", f), getattr(f, "reason", "")) for f in await busy} == {
            (Code.UNAVAILABLE, Reason.REASON_UNREACHABLE)
        }

        async def works() -> bool:
            ends = await asyncio.gather(do(Item("back", within=1)), return_exceptions=True)
            assert ends == ["back"] or getattr(ends[0], "code", ends[0]) is Code.UNAVAILABLE
            return ends == ["back"]

        for _ in range(20):
            assert not await works()
        await callee.start()
        await until(works)


async def test_a_breaker_shows_open_for_as_long_as_the_process_is_away(tmp_path: Path) -> None:
    """Also when its time is over: no call goes there as a probe before the process has answered."""
    async with Callee(tmp_path / "s") as callee, client_of(callee, breaker=QUICK) as client:
        do = client.unary(DO)
        await do(words("a"), deadline=soon())
        await callee.kill()
        breaker = client.replicas.all[0].guard(DO.name).breaker

        async def opened() -> bool:
            await fault_of(do(words("a"), deadline=soon()))
            return breaker.tripped

        async def over() -> bool:
            return not breaker.retry_in(time.monotonic())

        await until(opened)
        await until(over)
        assert state_of(client) is State.OPEN


async def test_a_hanging_callee_opens_the_breaker_and_closes_it_when_it_goes_on(tmp_path: Path) -> None:
    async with (
        Callee(tmp_path / "a") as hanging,
        Callee(tmp_path / "b") as healthy,
        client_of(hanging, breaker=QUICK) as one,
        client_of(healthy, breaker=QUICK) as other,
    ):
        do, elsewhere = one.coalesced(DO, WordCodec()), other.coalesced(DO, WordCodec())
        assert await do(Item("a")) == "a"
        hanging.signal(signal.SIGSTOP)
        fault = await fault_of(do(Item("x", within=0.2)))
        assert (fault.code, fault.reason) == (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)

        async def opened() -> bool:
            await asyncio.gather(*(do(Item("x", within=0.1)) for _ in range(3)), return_exceptions=True)
            return state_of(one) is State.OPEN

        await until(opened)
        assert await elsewhere(Item("fine")) == "fine"  # the others go on
        # Long enough for the breaker to have been half open several times over: no call finds
        # out that it still hangs.
        ends = soon(4)
        while time.monotonic() < ends:
            began = time.monotonic()
            fault = await fault_of(do(Item("x", within=60)))
            assert fault.reason == Reason.REASON_BREAKER_OPEN
            assert time.monotonic() - began < 30
            await asyncio.sleep(0.01)

        hanging.signal(signal.SIGCONT)

        async def closed() -> bool:
            await asyncio.gather(do(Item("x", within=0.5)), return_exceptions=True)
            return state_of(one) is State.CLOSED

        await until(closed)
        assert await do(Item("a")) == "a"


async def test_garbage_counts_against_the_callee_and_a_closed_client_asks_no_more(tmp_path: Path) -> None:
    async with Callee(tmp_path / "s") as callee, client_of(callee, breaker=COUNTING) as client:
        do = client.unary(DO)
        for _ in range(4):
            fault = await fault_of(do(words("garbage"), deadline=soon()))
            assert fault.code is Code.INTERNAL
        assert state_of(client) is State.OPEN
        before = asyncio.all_tasks()
        assert len(before) > 1
        await client.close()
        alone = {
            asyncio.current_task()
        }  # soon: grpc.aio reads the end of a cancelled call in a task of its own
        await until(lambda: asyncio.all_tasks() == alone)


@pytest.mark.parametrize(("word", "ends"), [("short", Code.INTERNAL), ("broken", "broken")])
async def test_a_reply_that_does_not_fit_and_rows_that_the_callee_failed_open_the_breaker(
    tmp_path: Path, word: str, ends: Code | str
) -> None:
    async with Callee(tmp_path / "s") as callee, client_of(callee, breaker=COUNTING) as client:
        do = client.coalesced(DO, WordCodec())
        for _ in range(4):
            answers = await asyncio.gather(do(Item(word)), return_exceptions=True)
            assert [getattr(answer, "code", answer) for answer in answers] == [ends]
        assert state_of(client) is State.OPEN


async def test_the_callers_own_mistakes_never_open_the_breaker(tmp_path: Path) -> None:
    async with Callee(tmp_path / "s") as callee, client_of(callee, breaker=COUNTING) as client:
        do = client.unary(DO)
        for code in ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION") * 5:
            assert (await fault_of(do(words(f"fault {code}"), deadline=soon()))).code is Code[code]
        assert state_of(client) is State.CLOSED


async def test_with_one_of_two_replicas_dead_every_idempotent_call_succeeds(tmp_path: Path) -> None:
    async with (
        Callee(tmp_path / "a") as dying,
        Callee(tmp_path / "b") as living,
        client_of(dying, living) as client,
    ):
        do, folded = client.unary(DO), client.coalesced(DO, WordCodec())
        seen = {next(iter(await do(words("pid"), deadline=soon()))) for _ in range(40)}
        assert seen == {f"pid {dying.pid}", f"pid {living.pid}"}
        await dying.kill()
        for n in range(60):
            assert list(await do(words(f"{n}"), deadline=soon())) == [f"{n}"]
            assert await folded(Item(f"{n}")) == f"{n}"


async def test_what_is_not_idempotent_is_never_tried_twice(tmp_path: Path) -> None:
    watch, retry = Watch(), rules.RetryRules(attempts=5)
    async with Callee(tmp_path / "s") as callee, client_of(callee, watch=watch, retry=retry) as client:
        fault = await fault_of(client.unary(DO_ONCE)(words("fault UNAVAILABLE 0.5"), deadline=soon()))
        assert fault.code is Code.UNAVAILABLE
        assert watch.retries == []


@pytest.mark.parametrize(
    ("word", "waits"),
    [
        ("fault UNAVAILABLE 0.3", True),
        ("fault RESOURCE_EXHAUSTED 0.3", True),
        ("fault RESOURCE_EXHAUSTED", False),
        ("fault UNAVAILABLE -1", False),
        ("fault INTERNAL 0.3", False),
        ("fault UNAVAILABLE 60", False),
    ],
)
async def test_pushback_decides_whether_and_when_to_try_again(tmp_path: Path, word: str, waits: bool) -> None:
    watch, retry = Watch(), rules.RetryRules(attempts=2)
    async with Callee(tmp_path / "s") as callee, client_of(callee, watch=watch, retry=retry) as client:
        began = time.monotonic()
        await fault_of(client.unary(DO)(words(word), deadline=soon(30)))
        assert len(watch.retries) == waits
        assert not waits or time.monotonic() - began >= 0.3


async def test_retries_stop_when_the_budget_is_empty(tmp_path: Path) -> None:
    watch, breaker = Watch(), rules.BreakerRules(min_calls=1000)
    retry = retrying({"attempts": 2, "budget_ratio": 0}, budget_reserve=3)
    async with (
        Callee(tmp_path / "s") as callee,
        client_of(callee, watch=watch, retry=retry, breaker=breaker) as client,
    ):
        for _ in range(10):
            await fault_of(client.unary(DO)(words("fault UNAVAILABLE"), deadline=soon()))
        assert watch.retries == ["Do"] * 3
