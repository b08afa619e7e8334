"""The replicas of one callee, and the choice of one for a call. Each has its own channel, and for each method a breaker and a
limiter; replicas come and go."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.client.settings import ClientRules
from headrace.hop.limiters import CLIENT_CONCURRENCY
from headrace.hop.resilience.breaker import Breaker, State
from headrace.hop.resilience.health_check import HealthCheck, Liveness
from headrace.hop.resilience.limiter import ConcurrencyLimiter
from headrace.hop.transport.connection import Transport


class Guard:
    """Breaker and limiter of one method at one replica."""

    def __init__(self, rules: ClientRules, random: Callable[[], float]) -> None:
        self.breaker = Breaker(rules.breaker, time.monotonic())
        self.limiter = ConcurrencyLimiter(rules.limiter, random)


class Replica:
    """One instance of the callee. `index` is small and reused, fit for a metric's label."""

    def __init__(
        self,
        index: int,
        address: str,
        transport: Transport,
        settings: ClientRules,
        random: Callable[[], float],
    ) -> None:
        self.index = index
        self.address = address
        self.transport = transport
        self.liveness = Liveness(settings.breaker.slow_s, time.monotonic())
        self.health_check = HealthCheck(self.liveness, transport.answers, self._rest)
        self._initial = settings.limiter.initial
        self._guards: defaultdict[str, Guard] = defaultdict(lambda: Guard(settings, random))
        self.outstanding = 0
        self._idle: asyncio.Event | None = None  # once somebody waits for its calls to end

    def guard(self, method: str) -> Guard:
        """Of the method of this name."""
        return self._guards[method]

    def ready(self, method: str, now: float) -> Guard | None:
        """The method's guard if a call may go to it now."""
        guard, live = self._guards[method], self.liveness
        if live.silent_at > live.answered:  # `silent`, without a call on each hop of each request
            return None
        if not guard.breaker.closed:
            guard.breaker.reached(live.answered)
            if self.health_check.unsure or not guard.breaker.ready(now):
                return None
        return guard

    def state(self, now: float) -> State:
        """OPEN if it is silent, else that of the method that fares worst; while it is unsure, no probe goes there."""
        if self.liveness.silent:
            return State.OPEN
        # A copy: metrics are read in another thread.
        states = [guard.breaker.state(now) for guard in list(self._guards.values())]
        worst = max(states, key=lambda state: state.value, default=State.CLOSED)
        return State.OPEN if worst is State.HALF_OPEN and self.health_check.unsure else worst

    def limit(self) -> int:
        """Calls at once that it may get of the method that may get fewest."""
        return min([guard.limiter.limit for guard in list(self._guards.values())], default=self._initial)

    def healthy(self, now: float) -> bool:
        """Whether it answered last, whatever it was asked."""
        breakers = [guard.breaker for guard in self._guards.values()]
        return not self.liveness.silent and all(b.ready(now) and not b.doubted(now) for b in breakers)

    def _rest(self, now: float) -> float | None:
        waits = [g.breaker.retry_in(now) for g in self._guards.values() if not g.breaker.closed]
        return max(waits, default=None)

    def ended(self) -> None:
        """A call that was outstanding is not any more."""
        self.outstanding -= 1
        if self._idle is not None and not self.outstanding:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when no call is outstanding; none may begin meanwhile."""
        if self.outstanding:
            self._idle = asyncio.Event()
            await self._idle.wait()

    async def close(self) -> None:
        """Closes its transport; calls in flight are cut off."""
        await self.health_check.close()
        await self.transport.close()


class SlotWaiter:
    """A call that waits for a slot at a limiter."""

    def __init__(self) -> None:
        self._coming: asyncio.Future[None] | None = None

    async def look(self, seconds: float) -> None:
        """Waits until there may be a free slot, at most `seconds`."""
        self._coming = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._coming
        except TimeoutError:
            pass
        finally:
            self._coming = None

    def come(self) -> None:
        if self._coming is not None and not self._coming.done():
            self._coming.set_result(None)


class ReplicaSet:
    """The current replicas. `connect` makes the transport of an address; `added` is called with each new replica."""

    def __init__(
        self,
        settings: ClientRules,
        connect: Callable[[str], Transport],
        random: Callable[[], float],
        added: Callable[[Replica], None],
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._added = added
        self._random = random
        self._leaving: set[asyncio.Task[None]] = set()
        self.resolved = asyncio.Event()  # set once the addresses are known, even if there are none
        self.all: tuple[Replica, ...] = ()
        # Looks for addresses at once, if that takes no time. Set by the client, which owns the resolver.
        self.look: Callable[[], None] = lambda: None
        # Calls that wait for a slot at a limiter, first come first.
        self._waiting: dict[SlotWaiter, None] = {}

    @contextmanager
    def waiting(self) -> Iterator[SlotWaiter]:
        """Registers a call that waits for a slot; it keeps its position in the order until the context ends."""
        waiter = SlotWaiter()
        self._waiting[waiter] = None
        try:
            yield waiter
        finally:
            del self._waiting[waiter]

    def wake(self) -> None:
        """A slot may be free. All waiting calls look, in order, because the first may have to wait for another replica."""
        for waiter in self._waiting:
            waiter.come()

    def healthy(self, now: float) -> list[Replica]:
        """Those that answered last; all if none did."""
        return [r for r in self.all if r.healthy(now)] or list(self.all)

    def update(self, addresses: Iterable[str]) -> None:
        """Makes the set hold exactly these addresses. Removed replicas finish their calls, then close."""
        wanted = dict.fromkeys(addresses)
        staying = [r for r in self.all if r.address in wanted]
        leaving = [r for r in self.all if r.address not in wanted]
        taken = {r.index for r in staying}
        present = {r.address for r in staying}
        for address in wanted:
            if address not in present:
                index = next(i for i in range(len(taken) + 1) if i not in taken)
                taken.add(index)
                replica = Replica(index, address, self._connect(address), self._settings, self._random)
                staying.append(replica)
                self._added(replica)
                replica.transport.open()
        self.all = tuple(staying)
        self.resolved.set()
        for replica in leaving:
            task = asyncio.create_task(self._retire(replica))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Closes all replicas; calls in flight are cut off (the client has waited for its calls before)."""
        replicas, self.all = self.all, ()
        for task in list(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for replica in replicas:
            await replica.close()

    async def _retire(self, replica: Replica) -> None:
        try:
            await replica.idle()  # each call has a deadline, so this ends
        finally:
            await replica.close()


def least_of_two(candidates: Sequence[Replica], random: Callable[[], float]) -> Replica:
    """The less busy of two different candidates drawn at random. `random` gives floats in [0, 1)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, other = candidates[first], candidates[second]
    return other if other.outstanding < one.outstanding else one


Picked: TypeAlias = tuple[Replica, Guard]
# A call that waits for a slot looks again this often: no event tells it of a new replica or of a closed breaker.
_LOOK_S = 0.05


async def wait_for_slot(
    callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float]
) -> Picked:
    """If every replica is at its limit, a single call is refused; a batch call waits for the first free slot of any, while more
    rows join the queue behind it. The slot is taken. Raises Fault."""
    if not out.patient:
        raise faults.overloaded(callee, CLIENT_CONCURRENCY)
    with replicas.waiting() as waiter:
        while True:
            left = out.deadline - time.monotonic()
            if left <= 0:
                raise faults.deadline_passed(callee)
            await waiter.look(min(left, _LOOK_S))
            replica, guard = choose_replica(callee, replicas, out, random, time.monotonic())
            if guard.limiter.acquire():
                return replica, guard


def choose_replica(
    callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float], now: float
) -> Picked:
    """The replica of an attempt. Raises Fault BREAKER_OPEN at once when the method's breakers are all open, or the replicas
    silent: no queue, no wait."""
    method = out.method.name
    candidates = replicas.all if out.only is None else (out.only,)
    if len(candidates) == 1 and (guard := candidates[0].ready(method, now)):
        return candidates[0], guard
    ready = [(r, guard) for r in candidates if (guard := r.ready(method, now))]
    if not ready:
        # All may have left the set while the call waited for a slot.
        raise faults.breaker_open(callee) if candidates else faults.unreachable(callee)
    if len(ready) == 1:
        return ready[0]
    if not out.patient:  # it would be refused by a full replica, so a free slot comes first
        ready = [r for r in ready if r[1].limiter.has_room()] or ready
    # Preferences, each ignored if no replica fulfils it: not tried before, not failing now, with a free slot.
    ready = [r for r in ready if r[0] not in out.tried] or ready
    ready = [r for r in ready if not r[1].breaker.doubted(now)] or ready
    ready = [r for r in ready if r[1].limiter.has_room()] or ready
    if out.prefer is not None:
        ready = [r for r in ready if r[0].index == out.prefer] or ready
    replica = least_of_two([r[0] for r in ready], random)
    return replica, replica.guard(method)


async def first_resolved(callee: str, replicas: ReplicaSet, deadline: float) -> None:
    """Waits for the first resolution. After that, an empty set means that there are no replicas. Raises Fault.

    A directory is read once more: a caller that knows the service is ready may call before the next periodic read.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await replicas.resolved.wait()
    except TimeoutError:
        raise faults.unreachable(callee) from None
    if not replicas.all:
        replicas.look()
    if not replicas.all:
        raise faults.unreachable(callee)
