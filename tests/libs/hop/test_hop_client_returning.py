"""When a call waits for those who were just answered, and that it never waits for long or in vain twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.batching.lane_times import Returning
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from tests.libs.hop.hop_callee import DO, Callee, Item, WordCodec

TOOK = 0.01


def answered(times: int, rows: int = 10, *, back: float = 0.001) -> tuple[Returning, float]:
    """Callers that were answered so often and came back `back` seconds later each time; and the time of the last answer."""
    returning, now = Returning(), 0.0
    for _ in range(times):
        returning.ended(now, TOOK, rows)
        returning.came(now + back, rows)
        now += TOOK
    returning.ended(now, TOOK, rows)
    return returning, now


def test_those_who_come_back_at_once_are_waited_for_until_they_are_there() -> None:
    returning, now = answered(20)
    assert returning.awaited(now) == pytest.approx(0.75 * TOOK)
    returning.came(now + 0.001, 9)
    assert returning.awaited(now + 0.001) > 0
    returning.came(now + 0.002, 1)
    assert returning.awaited(now + 0.002) == 0


def test_who_stays_away_is_waited_for_a_part_of_the_time_that_a_call_takes_and_soon_no_more() -> None:
    returning, now = answered(20)
    waits = 0
    while returning.awaited(now):
        assert returning.awaited(now + 0.76 * TOOK) == 0
        now += TOOK
        returning.ended(now, TOOK, 10)
        waits += 1
    assert waits < 5


def test_who_comes_late_or_whenever_they_like_is_not_waited_for() -> None:
    returning, now = answered(50, back=0.8 * TOOK)
    assert returning.awaited(now) == 0
    steady, now = Returning(), 0.0
    for _ in range(50):
        steady.ended(now, TOOK, 10)
        for i in range(10):
            steady.came(now + (i + 0.5) * TOOK / 10, 1)
        now += TOOK
    steady.ended(now, TOOK, 10)
    assert steady.awaited(now) == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.floats(0, 5), st.integers(1, 300), st.integers(0, 300)), max_size=40
    )
)
def test_no_wait_is_longer_than_twelve_milliseconds(seen: list[tuple[float, float, int, int]]) -> None:
    returning, now = Returning(), 0.0
    for gap, took, rows, came in seen:
        now += gap
        returning.ended(now, took, rows)
        assert 0 <= returning.awaited(now) <= min(0.0121, 0.751 * took)
        returning.came(now, came)
        assert 0 <= returning.awaited(now) <= 0.0121


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Callee(tmp_path / "s") as callee:
        made = Client("work", rules.ClientRules(callee.target, coalesce=rules.CoalesceRules(window=1)))
        yield made
        await made.close()


async def test_callers_that_ask_again_at_once_come_to_share_one_call(client: Client) -> None:
    codec = WordCodec()
    do, over = client.coalesced(DO, codec), asyncio.Event()

    async def caller() -> None:
        while not over.is_set():
            assert await do(Item("sleep 0.3")) == "sleep 0.3"
            await asyncio.sleep(0.01)  # too late for the call that leaves behind the one that answered it

    callers = [asyncio.create_task(caller())]
    await asyncio.sleep(0.01)  # the first is alone: from here on there are two groups, 1 and 11
    callers += [asyncio.create_task(caller()) for _ in range(11)]
    async with asyncio.timeout(60):
        while not any(len(m) == 12 for m in codec.merged):
            await asyncio.sleep(0.01)
    over.set()
    await asyncio.gather(*callers)
    assert [len(m) for m in codec.merged[:2]] == [1, 11]


async def test_closing_sends_what_waits_for_others(client: Client) -> None:
    codec = WordCodec()
    do = client.coalesced(DO, codec)
    for _ in range(25):
        await asyncio.gather(*(do(Item("sleep 0.02")) for _ in range(3)))
    sent = len(codec.merged)
    single = asyncio.create_task(do(Item("sleep 0.02")))  # two that usually come do not
    await asyncio.sleep(0.001)
    assert len(codec.merged) == sent, "it waits for them"
    closing = asyncio.create_task(client.close())
    assert await single == "sleep 0.02"
    await closing
    assert codec.merged[sent:] == [["sleep 0.02"]]


async def test_a_call_waits_for_what_is_upcoming_but_not_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, upcoming = WordCodec(), [True]
    do = client.coalesced(DO, codec, lambda _: upcoming[0])
    assert await do(Item("alone")) == "alone", "what is upcoming never comes"
    monkeypatch.setattr("headrace.hop.batching.coalesce._UPCOMING_S", 600.0)
    patient = asyncio.create_task(do(Item("patient", within=500)))
    await asyncio.sleep(0)
    assert await do(Item("pressed", within=2)) == "pressed", "it has most of its time left"
    assert await patient == "patient"
    left = asyncio.create_task(do(Item("left", within=500)))
    for _ in range(10):
        await asyncio.sleep(0)
    upcoming[0] = False  # what was upcoming has gone another way
    assert await left == "left"
    upcoming[0] = True
    waiting = [asyncio.create_task(do(Item(word, within=500))) for word in ("a", "b")]
    for _ in range(10):
        await asyncio.sleep(0)
    upcoming[0] = False
    last = asyncio.create_task(do(Item("c")))
    assert await asyncio.gather(*waiting, last) == ["a", "b", "c"]
    assert codec.merged == [["alone"], ["patient", "pressed"], ["left"], ["a", "b", "c"]]
