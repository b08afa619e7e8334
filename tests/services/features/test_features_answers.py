"""Waiting for a store in a process that is held up itself."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from services.features.stores.answers import answered
from services.features.stores.online_store import StoreTimeoutError

_LIMIT_S = 0.05
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def _run(loop: Callable[[], asyncio.AbstractEventLoop], work: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)


async def _held_up(future: asyncio.Future[Any], answer: Callable[[], object]) -> Any:
    """The answer is there before the time is over, but this process comes to it only afterwards."""
    waiting = asyncio.ensure_future(answered(future, _LIMIT_S, "it"))
    await asyncio.sleep(0)
    answer()
    time.sleep(2 * _LIMIT_S)
    return await waiting


@LOOPS
def test_an_answer_that_came_while_the_loop_was_held_up_counts(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def of_a_socket() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            reading = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(near, 2))
            await asyncio.sleep(0)
            assert await _held_up(reading, lambda: far.send(b"ok")) == b"ok"

    async def of_a_thread() -> None:
        go = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            job = asyncio.get_running_loop().run_in_executor(threads, go.wait)
            assert await _held_up(job, go.set) is True

    _run(loop, of_a_socket())
    _run(loop, of_a_thread())


@LOOPS
def test_without_an_answer_the_store_is_blamed_and_a_cancelled_call_is_not(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def work() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(StoreTimeoutError, match="it did not answer in time"):
            await answered(future, 0.0, "it")
        assert future.cancelled()

        other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(answered(other, 100.0, "it"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert other.cancelled()

    _run(loop, work())
