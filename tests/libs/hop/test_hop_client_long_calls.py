"""Calls that last far longer than usual hold up no later ones: the state machine, and the coalescer over a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.hop.batching.long_calls import Outlasting
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from tests.libs.hop.hop_callee import DO, Callee, Item, WordCodec, until

MOST = 16


def lane(*took: float) -> Outlasting:
    """A lane whose calls took so many seconds."""
    found = Outlasting(MOST)
    for seconds in took:
        found.ended(found.began(0.0), seconds)
    return found


def test_without_an_ended_call_nothing_is_unusual() -> None:
    new = lane()
    new.began(0.0)
    assert new.due() is None
    assert new.pass_over(100.0) == 0


def test_a_call_outlasts_four_times_the_usual() -> None:
    usual = lane(0.01)
    call = usual.began(1.0)
    assert usual.due() == pytest.approx(1.04)
    assert usual.pass_over(1.039) == 0
    assert usual.pass_over(1.041) == 1
    assert call.outlasts
    assert usual.due() is None


def test_quick_calls_are_given_a_few_milliseconds() -> None:
    usual = lane(0.0001)
    usual.began(1.0)
    assert usual.due() == pytest.approx(1.005)


def test_one_quick_call_in_ten_keeps_the_usual_low() -> None:
    mixed = lane(*([0.002] + [0.2] * 9) * 20)
    mixed.began(1.0)
    due = mixed.due()
    assert due is not None
    assert due < 1.012


def test_where_all_calls_take_longer_that_is_usual_soon() -> None:
    loaded = lane(0.002, *[0.05] * 200)
    loaded.began(1.0)
    assert loaded.due() == pytest.approx(1.2)


def test_so_many_and_no_more_are_passed_over_and_each_gives_its_place_back() -> None:
    hung = lane(0.001)
    calls = [hung.began(1.0) for _ in range(MOST + 5)]
    assert hung.pass_over(2.0) == MOST
    assert hung.due() is None
    hung.ended(calls[0], 2.0)
    assert hung.pass_over(2.0) == 1
    assert [call.outlasts for call in calls] == [True] * (MOST + 1) + [False] * 4


async def test_items_behind_a_call_that_hangs_leave_after_a_while(tmp_path: Path) -> None:
    async with Callee(tmp_path / "s") as callee:
        client = Client("work", rules.ClientRules(callee.target, coalesce=rules.CoalesceRules(window=1)))
        try:
            codec = WordCodec()
            do = client.coalesced(DO, codec)
            assert await do(Item("usual")) == "usual"
            hangs = asyncio.create_task(do(Item("sleep 30")))
            await until(lambda: asyncio.sleep(0, ["sleep 30"] in codec.merged))
            assert await asyncio.gather(*(do(Item(f"{n}")) for n in range(5))) == [f"{n}" for n in range(5)]
            # While it hangs, later ones leave one call after the other as ever.
            assert await do(Item("later")) == "later"
            assert not hangs.done()
            assert codec.merged == [["usual"], ["sleep 30"], [f"{n}" for n in range(5)], ["later"]]
            hangs.cancel()
        finally:
            await client.close()
