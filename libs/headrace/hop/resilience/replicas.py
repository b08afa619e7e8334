"""The replicas of one callee. Each has its own channel, breaker and limiter; replicas are added and removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from headrace.hop.client.settings import ClientRules
from headrace.hop.resilience.breaker import Breaker
from headrace.hop.resilience.health_check import HealthCheck
from headrace.hop.resilience.limiter import ConcurrencyLimiter
from headrace.hop.transport.connection import Transport


class Replica:
    """One instance of the callee. `index` is small and reused, fit for a metric's label."""

    __slots__ = (
        "__weakref__",
        "address",
        "breaker",
        "health_check",
        "idle",
        "index",
        "limiter",
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
        self.breaker = Breaker(settings.breaker, time.monotonic())
        self.health_check = HealthCheck(self.breaker, transport)
        self.limiter = ConcurrencyLimiter(settings.limiter, random)
        self.outstanding = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def began(self) -> None:
        self.outstanding += 1
        self.idle.clear()

    def ended(self) -> None:
        self.outstanding -= 1
        if not self.outstanding:
            self.idle.set()

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
        return [r for r in self.all if r.breaker.ready(now) and not r.breaker.doubted(now)] or list(self.all)

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
            await replica.idle.wait()  # each call has a deadline, so this ends
        finally:
            await replica.close()
