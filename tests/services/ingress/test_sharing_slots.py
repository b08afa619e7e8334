"""A slot is leased to one door at a time, whatever doors want, hold, or leave: what Redis gives is checked at each exchange."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis import Redis

from headrace.access.specs import QuotaSpec
from headrace.state.redis import RedisCalls
from services.ingress.admission.row_key import RowKey
from services.ingress.sharing.exchange import LEASE_MS, Exchange
from services.ingress.sharing.lease import Grant, Use
from tests.libs.state.valkey import Valkey

LIMIT, DOORS = 12, 3
Step = tuple[int, int, float, int]
"""Door; what it wants; the part of its slots that is in flight when it asks; milliseconds since the step before."""


class Slots:
    """Doors that exchange with one real Redis, under a clock of theirs; and what each of them holds, by their own count."""

    def __init__(self, server: Valkey) -> None:
        Redis.from_url(server.url).flushall()
        self.now_ms = 1_000_000
        self.calls = RedisCalls(server.url, 5.0, lambda: 0.0)
        self.doors = [Exchange(self.calls, f"door{i}", RowKey(None, print)) for i in range(DOORS)]
        # Slots, and when the lease of them ends.
        self.held = [(0, 0)] * DOORS

    async def ask(
        self, door: int, wanted: int, busy: float, passed_ms: int, knows: int = DOORS
    ) -> tuple[bool, int]:
        """One exchange: whether it renewed a lease, and the slots that it gave. `knows`: of how many doors this one has heard."""
        self.now_ms += passed_ms
        slots, ends = self.held[door]
        leased = ends > self.now_ms
        in_flight = round(busy * slots)
        use = Use(0.0, 0.0, 0.0, 0.0, in_flight, max(min(wanted, LIMIT), in_flight))
        self.doors[door].now_ms = self.now_ms
        reply = (await self.doors[door].exchange({"a": (QuotaSpec(concurrency=LIMIT), use)}, knows))["a"]
        assert isinstance(reply, Grant), reply
        self.held[door] = (max(reply.slots, in_flight), self.now_ms + LEASE_MS)
        return leased, reply.slots

    def elsewhere(self, door: int) -> int:
        """Slots of leases of the other doors that are not over."""
        return sum(n for i, (n, ends) in enumerate(self.held) if i != door and ends > self.now_ms)


@asynccontextmanager
async def exchanging(server: Valkey) -> AsyncIterator[Slots]:
    found = Slots(server)
    try:
        yield found
    finally:
        await found.calls.close()


_STEPS = st.tuples(
    st.integers(0, DOORS - 1),
    st.integers(0, 2 * LIMIT),
    st.sampled_from((0.0, 0.5, 1.0)),
    st.integers(0, 400),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(_STEPS, min_size=2, max_size=40))
# One door has all; another joins, and wants as much.
@example(steps=[(0, LIMIT, 1.0, 0), (1, LIMIT, 1.0, 100), (1, LIMIT, 1.0, 100)])
async def test_no_slot_is_given_that_another_door_holds(server: Valkey, steps: list[Step]) -> None:
    async with exchanging(server) as slots:
        for step in steps:
            leased, given = await slots.ask(*step)
            elsewhere = slots.elsewhere(step[0])
            # A door's first lease holds what it may have begun without one; each later one, what is nobody's.
            most = max(LIMIT - elsewhere, 0 if leased else LIMIT // DOORS // 2)
            assert given <= most, f"{given} slots while others hold {elsewhere} of {LIMIT}"


# Of one door: it is the first that comes, or comes back to a Redis that has lost its data.
@pytest.mark.parametrize("knows", [1, DOORS])
async def test_a_door_that_begins_to_get_calls_is_not_without_slots_until_the_others_ask(
    server: Valkey, knows: int
) -> None:
    async with exchanging(server) as slots:
        # The first door has one call and then none, so it does not ask again; all this is within its lease.
        await slots.ask(0, 1, 1.0, 0, knows)
        for passed_ms in (50, *[100] * 10):
            _, given = await slots.ask(1, 1, 1.0, passed_ms)
            assert given >= 1


@settings(max_examples=20, deadline=None)
@given(wants=st.lists(st.integers(0, 2 * LIMIT), min_size=DOORS, max_size=DOORS))
async def test_doors_that_want_all_get_all(server: Valkey, wants: list[int]) -> None:
    """What is nobody's is somebody's a few exchanges later: 'never twice' is not had by giving nothing."""
    async with exchanging(server) as slots:
        for _ in range(5):
            for door, wanted in enumerate(wants):
                await slots.ask(door, wanted, 0.0, 33)
        # An eighth of the limit stays where it was.
        assert LIMIT - LIMIT // 8 <= sum(n for n, _ in slots.held) <= LIMIT
