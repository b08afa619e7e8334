"""A cancellation that redis-py loses ends the call all the same; what was cancelled before may still ask."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from headrace.state.redis import RedisCalls


class Losing:
    """A pipeline whose reply comes together with the cancellation, as it may in redis-py."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def execute_command(self, *_: object) -> None:
        """Nothing is sent."""

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if self._fails:
                raise OSError("the connection was closed") from None
        return ["reply"]


class Ready(Losing):
    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return ["reply"]


def calls_of(pipeline: Losing, monkeypatch: pytest.MonkeyPatch) -> RedisCalls:
    calls = RedisCalls("redis://127.0.0.1:1/0", 5.0, time.monotonic)
    monkeypatch.setattr(calls._client, "pipeline", lambda **_: pipeline)
    return calls


@pytest.mark.parametrize("fails", [False, True])
async def test_a_lost_cancellation_ends_the_call(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    task = asyncio.create_task(calls_of(Losing(fails), monkeypatch).ask([("PING",)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_cancelled_before_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, replies = calls_of(Ready(False), monkeypatch), list[Any]()

    async def cleaning() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            replies.extend(await calls.ask([("PING",)]))

    task = asyncio.create_task(cleaning())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert replies == ["reply"]
