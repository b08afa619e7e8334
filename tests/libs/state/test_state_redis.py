"""Calls of Redis: a cancellation that redis-py loses ends the call all the same; which addresses of several servers are read."""

import asyncio
import time
from typing import Any

import pytest

from headrace.hop.config import ConfigError
from headrace.state.redis import RedisCalls
from headrace.state.redis_address import ManyServers, many_servers


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


def test_addresses_of_several_servers_are_read() -> None:
    assert many_servers("redis://host:1/0") is many_servers("unix:///x") is None
    assert many_servers("rediss+sentinel://me:p%40ss@a,b:7,[::1]:8/main/3") == ManyServers(
        (("a", 26379), ("b", 7), ("::1", 8)), "main", 3, True, "me", "p@ss"
    )
    assert many_servers("redis+cluster://:pw@a:1,b") == ManyServers(
        (("a", 1), ("b", 6379)), "", 0, False, None, "pw"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://:secret@a,b", "name that the Sentinels watch"),
        ("redis+sentinel://:secret@a/main/x", "number of a database"),
        ("redis+sentinel://:secret@a/main/1/2", "NAME/DATABASE"),
        ("redis+cluster://:secret@a/1", "one database only"),
        ("redis+cluster://secret@a", "without a password"),
        ("redis+cluster://:secret@a:99999", "HOST:PORT"),
        ("redis+cluster://:secret@a,,b", "HOST:PORT"),
        ("redis+ring://:secret@a", "begins with neither"),
        ("rediss://:secret@a?ca=/ca.crt&cret=1", "may only be"),
        ("rediss://:secret@a?ca", "can't be read"),
        ("redis://:secret@a?ca=/ca.crt", "is for TLS"),
        ("rediss://:secret@a?certificate=/tls.crt", "belong together"),
        ("rediss+sentinel://:secret@a/main?key=/tls.key", "belong together"),
    ],
)
async def test_others_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        RedisCalls(url, 1.0, lambda: 0.0)
    assert "secret" not in str(caught.value)
