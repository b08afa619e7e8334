"""The replicas of one callee. Each has its own channel, and for each method a breaker and a limiter; replicas come and go."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from headrace.hop.client.settings import ClientRules
from headrace.hop.resilience.breaker import Breaker, State
from headrace.hop.resilience.health_check import HealthCheck, Liveness
from headrace.hop.resilience.limiter import ConcurrencyLimiter
from headrace.hop.transport.connection import Transport


class Guard:
    """Breaker and limiter of one method at one replica."""

    __slots__ = ("breaker", "limiter")

    def __init__(self, rules: ClientRules, random: Callable[[], float]) -> None:
        self.breaker = Breaker(rules.breaker, time.monotonic())
        self.limiter = ConcurrencyLimiter(rules.limiter, random)


class Replica:
    """One instance of the callee. `index` is small and reused, fit for a metric's label."""

    __slots__ = (
        "__weakref__",
        "_guards",
        "_idle",
        "_initial",
        "address",
        "health_check",
        "index",
        "liveness",
        "outstanding",
        "transport",
    )

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
        self.health_check = HealthCheck(self.liveness, transport, self._rest)
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
            guard.breaker.reached(self.liveness.answered)
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

    def began(self) -> None:
        self.outstanding += 1

    def ended(self) -> None:
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

    __slots__ = ("_coming",)

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


def _nowhere() -> None:
    """Nothing to look up."""


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
        self.look: Callable[[], None] = _nowhere
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
