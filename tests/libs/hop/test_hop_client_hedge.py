"""Calls to a replica that has fallen silent, with real processes that are stopped: another one answers them."""

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
from headrace.hop.errors import Code, Fault
from headrace.hop.resilience.breaker import Breaker, State
from tests.libs.hop.hop_callee import DO, DO_ONCE, Callee, fault_of, retrying, soon, words
from tests.libs.hop.test_hop_client_faults import Watch, client_of, way  # noqa: F401 - a fixture
from tests.services.waiting import until


async def both_known(client: Client) -> None:
    """Both replicas have answered."""
    do = client.unary(DO)

    async def known() -> bool:
        pids = {next(iter(await do(words("pid"), deadline=soon(60)))) for _ in range(20)}
        return len(pids) == 2

    await until(known)


@asynccontextmanager
async def replicas(
    folder: Path, silent_s: float, reserve: float = 10.0, **retry: Any
) -> AsyncIterator[tuple[Client, Watch, Callee, Callee]]:
    """A client of two replicas, both of which have answered it."""
    watch, hedging = Watch(), retrying(retry, silent_s=silent_s, budget_reserve=reserve)
    async with (
        Callee(folder / "a") as one,
        Callee(folder / "b") as other,
        client_of(one, other, watch=watch, retry=hedging) as client,
    ):
        await both_known(client)
        yield client, watch, one, other


async def test_a_silent_replica_is_not_asked_again_until_it_answers(tmp_path: Path) -> None:
    async with replicas(tmp_path, silent_s=0.02) as (client, watch, stopping, _):
        do = client.unary(DO)
        stopping.signal(signal.SIGSTOP)

        async def opened() -> bool:
            await do(words("x"), deadline=soon(60))
            return any(r.state(time.monotonic()) is State.OPEN for r in client.replicas.all)

        await until(opened)
        seen = len(watch.hedges)
        for _ in range(50):
            await do(words("x"), deadline=soon(60))
        assert len(watch.hedges) == seen
        stopping.signal(signal.SIGCONT)
        await both_known(client)


async def test_a_long_call_is_not_sent_twice(tmp_path: Path) -> None:
    # Long enough for a health check on a busy machine.
    async with replicas(tmp_path, silent_s=0.5) as (client, watch, _, _):
        assert list(await client.unary(DO)(words("sleep 1.5"), deadline=soon(60))) == ["sleep 1.5"]
        assert watch.hedges == []


async def test_what_is_not_idempotent_and_what_has_one_replica_waits(tmp_path: Path) -> None:
    watch = Watch()
    async with (
        Callee(tmp_path / "a") as one,
        Callee(tmp_path / "b") as other,
        client_of(one, other, watch=watch) as both,
        client_of(one, watch=watch) as alone,
    ):
        await both_known(both)  # who was not reached yet would be unreachable, not silent
        for client, method in ((both, DO_ONCE), (alone, DO)):
            do = client.unary(method)
            await do(words("a"), deadline=soon(60))
            for callee in (one, other):
                callee.signal(signal.SIGSTOP)
            assert (await fault_of(do(words("a"), deadline=soon(0.6)))).code is Code.DEADLINE_EXCEEDED
            for callee in (one, other):
                callee.signal(signal.SIGCONT)
        assert watch.hedges == []


async def test_hedges_stop_when_the_budget_is_empty(tmp_path: Path) -> None:
    async with replicas(tmp_path, 0.02, reserve=0, budget_ratio=0) as (client, watch, stopping, _):
        stopping.signal(signal.SIGSTOP)
        do = client.unary(DO)

        async def late() -> bool:
            try:
                await do(words("a"), deadline=soon(0.5))
            except Fault:
                return True
            return False

        await until(late)
        assert watch.hedges == []
        stopping.signal(signal.SIGCONT)


async def test_whoever_gives_up_ends_both_calls(tmp_path: Path) -> None:
    async with replicas(tmp_path, silent_s=0.02) as (client, watch, one, other):
        for callee in (one, other):
            callee.signal(signal.SIGSTOP)
        call = asyncio.ensure_future(client.unary(DO)(words("a"), deadline=soon(60)))
        await until(lambda: bool(watch.hedges))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: all(r.outstanding == 0 for r in client.replicas.all))
        for callee in (one, other):
            callee.signal(signal.SIGCONT)


async def test_the_second_call_counts_when_the_first_fails_after_it_began(tmp_path: Path) -> None:
    # No retry, which would hide what is tested.
    async with replicas(tmp_path, attempts=1, silent_s=0.05) as (client, watch, dying, _):
        do = client.unary(DO)
        dying.signal(signal.SIGSTOP)
        call = asyncio.ensure_future(do(words("sleep 2"), deadline=soon()))

        async def hedged() -> bool:
            nonlocal call
            if call.done():  # the other had it from the start
                call = asyncio.ensure_future(do(words("sleep 2"), deadline=soon()))
            return bool(watch.hedges)

        await until(hedged)
        await dying.kill()
        assert list(await call) == ["sleep 2"]


def test_silence_makes_doubtful_and_fails_a_probe() -> None:
    breaker = Breaker(rules.BreakerRules(min_calls=2, open_s=1.0), 0.0)
    for now in (1.0, 1.1):
        assert breaker.admit(now)
        breaker.silent(now)
    assert breaker.doubted(1.2)
    assert breaker.closed  # whether the process is silent, its health says
    for now in (1.1, 1.2):
        breaker.record(breaker.admit(now), now, 0.1, 1.0)
    assert breaker.state(1.2) is State.OPEN
    permit = breaker.admit(2.2)
    assert permit
    breaker.silent(2.3)
    breaker.release(permit)
    # Twice as long as the first time.
    assert breaker.state(4.2) is State.OPEN
    assert breaker.state(4.4) is State.HALF_OPEN
    assert breaker.admit(4.4)
