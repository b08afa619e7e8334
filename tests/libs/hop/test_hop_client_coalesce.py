"""The coalescer over a real socket: what leaves together, what is turned away, who is answered when."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.struct_pb2 import ListValue

from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Reason
from tests.libs.hop.hop_callee import DO, Callee, Item, WordCodec, fault_of, soon, words
from tests.services.waiting import until

Dial: TypeAlias = Callable[..., Client]


@pytest.fixture
async def callee(tmp_path: Path) -> AsyncIterator[Callee]:
    async with Callee(tmp_path / "s") as found:
        yield found


@pytest.fixture
async def dial(callee: Callee) -> AsyncIterator[Dial]:
    clients = []

    def make(**coalesce: Any) -> Client:
        clients.append(
            Client("work", rules.ClientRules(callee.target, coalesce=rules.CoalesceRules(**coalesce)))
        )
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_idle_items_leave_at_once_and_busy_ones_gather(dial: Dial) -> None:
    codec = WordCodec()
    do = dial(window=1).coalesced(DO, codec)
    first = asyncio.create_task(do(Item("sleep 0.2")))
    await until(lambda: bool(codec.merged))
    rest = [asyncio.create_task(do(Item(f"{n}"))) for n in range(10)]
    assert await first == "sleep 0.2"
    assert await asyncio.gather(*rest) == [f"{n}" for n in range(10)]
    assert codec.merged == [["sleep 0.2"], [f"{n}" for n in range(10)]]


async def test_after_a_lone_call_the_next_leaves_in_its_own_turn_and_a_burst_in_two_calls(dial: Dial) -> None:
    codec = WordCodec()
    do = dial(window=4).coalesced(DO, codec)
    assert await do(Item("first")) == "first"
    second = asyncio.create_task(do(Item("second")))
    await asyncio.sleep(0)  # it has been submitted, and its call has begun
    await asyncio.sleep(0)
    assert codec.merged == [["first"], ["second"]]
    assert await second == "second"
    burst = [f"{n}" for n in range(9)]
    assert await asyncio.gather(*(do(Item(w)) for w in burst)) == burst
    assert codec.merged[2:] == [burst[:1], burst[1:]]
    again = [f"{n}" for n in range(5)]
    assert await asyncio.gather(*(do(Item(w)) for w in again)) == again
    assert codec.merged[4:] == [again]


async def test_calls_are_cut_by_rows_and_all_get_their_own_answer(dial: Dial) -> None:
    codec = WordCodec()
    do = dial(max_rows=16).coalesced(DO, codec)
    sent = [f"{n}" for n in range(500)]
    assert await asyncio.gather(*(do(Item(w)) for w in sent)) == sent
    assert max(map(len, codec.merged)) == 16


async def test_keys_do_not_mix(dial: Dial) -> None:
    codec = WordCodec()
    do = dial().coalesced(DO, codec)
    await asyncio.gather(*(do(Item(key, key=key)) for key in "abab"))
    assert sorted(codec.merged) == [["a", "a"], ["b", "b"]]


async def test_beyond_the_bound_the_least_important_is_refused(dial: Dial) -> None:
    client = dial(window=1, max_waiting_rows=4)
    do = client.coalesced(DO, WordCodec())
    held = asyncio.create_task(do(Item("sleep 2")))
    await asyncio.sleep(0.05)
    low = [asyncio.create_task(do(Item("low", priority=0))) for _ in range(4)]
    await asyncio.sleep(0)
    high = [asyncio.create_task(do(Item("high", priority=2))) for _ in range(3)]
    ends = await asyncio.gather(*low, *high, return_exceptions=True)
    assert [getattr(e, "reason", e) for e in ends] == ["low"] + [Reason.REASON_OVERLOADED] * 3 + ["high"] * 3
    assert await held


async def test_a_waiting_item_whose_time_ends_is_answered_and_never_sent(dial: Dial) -> None:
    codec = WordCodec()
    do = dial(window=1).coalesced(DO, codec)
    held = asyncio.create_task(do(Item("sleep 2")))
    await asyncio.sleep(0.05)
    assert (await fault_of(do(Item("late", within=0.05)))).code is Code.DEADLINE_EXCEEDED
    assert not held.done()
    await held
    assert await do(Item("next")) == "next"
    assert ["late"] not in codec.merged


async def test_without_time_nothing_is_sent(dial: Dial) -> None:
    client, codec = dial(), WordCodec()
    less_than_the_margin = client.unary(DO)(words("x"), deadline=soon(0.001))
    for call in (client.coalesced(DO, codec)(Item("x", within=-1)), less_than_the_margin):
        assert (await fault_of(call)).reason == Reason.REASON_DEADLINE_PASSED
    assert codec.merged == []


async def test_without_a_deadline_the_default_holds(callee: Callee) -> None:
    client = Client("work", rules.ClientRules(callee.target, default_timeout_s=0.1))
    for call in (
        client.unary(DO)(words("sleep 5"), deadline=math.inf),
        client.coalesced(DO, WordCodec())(Item("sleep 5", within=math.inf)),
    ):
        assert (await fault_of(call)).code is Code.DEADLINE_EXCEEDED
    await client.close()


async def test_a_caller_that_goes_away_leaves_the_others_alone(dial: Dial) -> None:
    codec = WordCodec()
    do = dial(window=1).coalesced(DO, codec)
    held = asyncio.create_task(do(Item("sleep 2")))
    await asyncio.sleep(0.05)
    leaving, staying = (asyncio.create_task(do(Item(w))) for w in ("leaving", "staying"))
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert await staying == "staying"
    assert await held
    assert ["staying"] in codec.merged


async def test_a_call_that_nobody_waits_for_is_cancelled_and_makes_room(dial: Dial) -> None:
    do = dial(window=1).coalesced(DO, WordCodec())
    lonely = asyncio.create_task(do(Item("sleep 60")))
    await asyncio.sleep(0.1)
    lonely.cancel()
    assert await asyncio.wait_for(do(Item("next", within=30)), 30) == "next"


async def test_a_bug_in_the_codec_is_a_fault_for_those_in_the_call_and_logged(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(WordCodec):
        def merge(self, items: Sequence[Item]) -> ListValue:
            raise ZeroDivisionError("secret")

    do = dial().coalesced(DO, Broken())
    for _ in range(3):
        fault = await fault_of(do(Item("x")))
        assert fault.code is Code.INTERNAL
        assert "secret" not in fault.message
    assert "ZeroDivisionError" in caplog.text


async def test_closing_answers_what_waits_and_refuses_what_comes_later(callee: Callee) -> None:
    client = Client("work", rules.ClientRules(callee.target, coalesce=rules.CoalesceRules(window=1)))
    do, one = client.coalesced(DO, WordCodec()), client.unary(DO)
    tasks = [asyncio.create_task(do(Item(w))) for w in ("sleep 0.1", "b")]
    await asyncio.sleep(0.05)
    tasks.append(asyncio.create_task(do(Item("c"))))
    await asyncio.sleep(0)
    await client.close()
    assert await asyncio.gather(*tasks) == ["sleep 0.1", "b", "c"]
    for call in (do(Item("x")), one(words("x"), deadline=soon())):
        fault = await fault_of(call)
        assert (fault.code, fault.reason) == (Code.UNAVAILABLE, Reason.REASON_DRAINING)


async def test_a_retry_leaves_out_who_has_no_time_left(tmp_path: Path) -> None:
    codec = WordCodec()
    settings = rules.ClientRules(
        f"unix:{tmp_path}/s",
        retry=rules.RetryRules(attempts=50, backoff_s=0.2),
        # However long the callee takes to start.
        breaker=rules.BreakerRules(min_calls=1000, slow_s=60),
    )
    client = Client("work", settings)
    do = client.coalesced(DO, codec)
    tasks = [
        asyncio.create_task(do(Item("hasty", within=0.3))),
        asyncio.create_task(do(Item("patient", within=20))),
    ]
    assert (await fault_of(tasks[0])).code is Code.DEADLINE_EXCEEDED
    async with Callee(tmp_path / "s"):
        assert await tasks[1] == "patient"
    assert codec.merged[0] == ["hasty", "patient"]
    assert codec.merged[-1] == ["patient"]
    await client.close()


async def test_a_call_that_nobody_waits_for_before_it_has_begun_gives_its_place_back(dial: Dial) -> None:
    do = dial(window=1).coalesced(DO, WordCodec())
    for turns in range(6):
        task = asyncio.create_task(do(Item("given up")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await do(Item("next", within=30)) == "next"
