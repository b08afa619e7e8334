"""The system of one case with its callers, and what must hold.

Each request is answered once and in time, and no row has another's answer; the good tenant's calls never fail while all trouble
is short; nothing waits while its lane is idle; soon after the last trouble all is served; in the end the counts add up, and
nothing is held.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

from headrace.hop.client.dial import Client
from headrace.hop.errors import Code
from headrace.hop.resilience.breaker import State
from tests.simulation.cases import Caller, Case, case_of
from tests.simulation.exchange import Exchange, Request
from tests.simulation.network import Server
from tests.simulation.system import Leaves, System, simulated
from tests.simulation.virtual_time import OUTSIDE, VirtualLoop, virtual_time

# The good tenant's calls: how many in all.
_CALLS = 50
_GOOD = Caller("good", "predict", "scored", 2.0, 1, 80.0, 1000, 0.0, 0, 0.0)
_HOSTILE_CALLS = 60
# So soon after the last trouble all is well.
_RECOVERY_S = 2.0
# An answer may be so late: the door looks for what is late every 50 ms, and for callers who left every 150.
_LATE_S = 0.2
_REQUESTS = "headrace_ingress_requests"


class World:
    """`wrong`: what has been seen that must not be; `ended`: how and when each request ended."""

    def __init__(self, case: Case, loop: VirtualLoop) -> None:
        self.case, self._loop = case, loop
        leaves = Leaves(case.slow_s)
        self.system = System(
            loop, leaves, together=case.together, routers=case.routers, executors=case.executors
        )
        self._numbers = 0
        # Of the door that runs now.
        self._exchanges: list[Exchange] = []
        # Until then some process stands still or is away.
        self._troubled_until = 0.0
        self.wrong: list[str] = []
        self.ended: list[str] = []

    async def run(self) -> None:
        await self.system.start()
        await self._served()
        self._loop.before_waiting = self._look_for_lost
        hostile = [asyncio.create_task(self._tenant(caller, _HOSTILE_CALLS)) for caller in self.case.hostile]
        trouble = asyncio.create_task(self._trouble())
        good = self._tenant(_GOOD, _CALLS)
        await asyncio.gather(good, trouble)
        await self._recovered()
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)
        await asyncio.sleep(4.0)
        self._count()
        self._look_for_held()

    # Callers.

    async def _tenant(self, caller: Caller, calls: int) -> None:
        tasks = set[asyncio.Task[None]]()
        for _ in range(calls):
            if len(tasks) < caller.concurrency:
                task = asyncio.create_task(self._one(caller))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(random.expovariate(caller.rate))
        await asyncio.gather(*tasks)

    async def _one(self, caller: Caller) -> None:
        if caller.tenant == "good":
            caller = caller._replace(kind=random.choice(("predict", "infer", "json")))
        code = await self._call(caller)
        if caller.tenant == "good" and self.case.harmless and code is not Code.OK:
            self.wrong.append(f"{caller.kind} of the good tenant failed: {code}")

    async def _call(self, caller: Caller) -> Code | None:
        """How it ended; None: its caller left, or the door died."""
        if self.system.application is None:
            return None
        self._numbers += 1
        first = self._numbers * 8192
        request = Request(caller, self._numbers, [float(first + 16 * i) for i in range(caller.rows)])
        body = request.body()
        if broken := random.random() < caller.broken:
            body = body[: len(body) // 2] + b"\xff" * 9
        cut = random.randrange(1, len(body)) if random.random() < 0.3 else len(body)
        exchange = Exchange(self.system, request, [piece for piece in (body[:cut], body[cut:]) if piece])
        self._exchanges.append(exchange)
        if random.random() < caller.leaves:
            await self._leave(exchange, random.randrange(caller.steps))
            return None
        code = await asyncio.shield(exchange.done)
        self._check(exchange, code, broken=broken)
        return code

    async def _leave(self, exchange: Exchange, steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        exchange.leave()

    def _check(self, exchange: Exchange, code: Code | None, *, broken: bool) -> None:
        caller = exchange.request.caller
        self.ended.append(f"{exchange.request.number}:{code and code.name}@{self._loop.now:.6f}")
        late = self._loop.now - max(exchange.began + caller.deadline_s, self._troubled_until)
        if late > _LATE_S:
            self.wrong.append(f"{caller.kind} ended {late:.3f} s after its deadline")
        if broken and code is Code.OK:
            self.wrong.append("what is no message was answered")
        if code is Code.OK and not exchange.request.right(exchange.request.answered(exchange.body)):
            self.wrong.append(f"{caller.kind} got other rows' answers")
        if code is Code.INTERNAL:
            self.wrong.append(f"{caller.kind} met a bug: {exchange.body!r} {exchange._headers}")

    # Troubles.

    async def _trouble(self) -> None:
        start = self._loop.now
        hosts = list(self.system.hosts.values())
        for trouble in self.case.troubles:
            await asyncio.sleep(max(start + trouble.at - self._loop.now, 0))
            host = hosts[trouble.process % len(hosts)]
            self._troubled_until = max(self._troubled_until, self._loop.now + trouble.lasts_s)
            if trouble.kind == "replace":
                if host is not self.system.door:
                    await host.replace()
            elif trouble.kind == "still":
                host.stand_still(trouble.lasts_s)
            elif trouble.kind == "cut" and host is not self.system.door:
                server = self.system.network.servers.get(f"unix:/{host.name}")
                self.system.network.cut(host.process)
                if server is not None:
                    self.system.network.servers[f"unix:/{host.name}"] = server
            else:
                host.kill()
                if host is self.system.door:
                    self._door_died()
                await asyncio.sleep(trouble.lasts_s)
                await host.start()
        await asyncio.sleep(max(self._troubled_until - self._loop.now, 0))

    def _door_died(self) -> None:
        self.system.application = None
        for exchange in self._exchanges:
            exchange.lost()
        self._exchanges = []

    async def _served(self) -> None:
        """All processes know each other."""
        caller = _GOOD._replace(deadline_s=10.0)
        while await self._call(caller) is not Code.OK:
            await asyncio.sleep(0.05)
        self.wrong.clear()

    async def _recovered(self) -> None:
        ends = self._loop.now + _RECOVERY_S
        for kind in ("predict", "infer", "list"):
            while (code := await self._call(_GOOD._replace(kind=kind, deadline_s=1.0))) is not Code.OK:
                if self._loop.now > ends:
                    self.wrong.append(f"{kind} fails {_RECOVERY_S} s after the last trouble: {code}")
                    return
                await asyncio.sleep(0.05)

    # What must hold whenever nothing is ready to run.

    def _clients(self) -> Iterable[tuple[str, Client]]:
        return (
            (host.name, client) for host in self.system.hosts.values() if host.up for client in host.clients
        )

    def _look_for_lost(self) -> None:
        """No row waits while its lane could send it."""
        still = self._loop.ready.still
        for host in self.system.hosts.values():
            if not host.up or host.process in still:
                continue
            for client in host.clients:
                for coalescer in client._coalescers:
                    for key, lane in coalescer._queue._lanes.items():
                        waits = lane.rows and not coalescer._queue._is_closed(lane)
                        if waits and key not in coalescer._held and key not in coalescer._scheduled:
                            self.wrong.append(f"a row waits at {host.name}, and nothing will send it")

    # What must hold in the end.

    def _count(self) -> None:
        """The door counted each request once, with the code that its caller got."""
        for exchange in self._exchanges:
            if not exchange.task.done():
                self.wrong.append(f"{exchange.request.caller.kind} never ended")
        answered = Counter(
            (exchange.done.result() or Code.OK).name if exchange.sent else Code.CANCELLED.name
            for exchange in self._exchanges
        )
        counted = Counter[str]()
        assert self.system.telemetry is not None
        for metric in self.system.telemetry.registry.collect():
            if metric.name == _REQUESTS:
                for sample in metric.samples:
                    counted[sample.labels["code"]] += int(sample.value)
        if counted != answered:
            self.wrong.append(f"the door counted {dict(counted)}, and answered {dict(answered)}")

    def _look_for_held(self) -> None:
        """What calls took is free again: places, slots, permits."""
        held: dict[str, int] = {}
        for name, server in self._servers():
            held[f"places of {name}"] = server.stack.shed.in_flight
        for host, client in self._clients():
            held |= _held_by(f"{host} for {client.callee}", client)
        ingress = self.system.ingress
        assert ingress is not None
        door = ingress.door
        held |= {"calls at the door": door.in_flight, "slots of the door": door.admission.in_flight}
        for tenant, quota in door._quotas._quotas.items():
            held[f"quota of {tenant}"] = quota.in_flight
        self.wrong += [f"{what}: {count} at the end" for what, count in held.items() if count]

    def _servers(self) -> Iterable[tuple[str, Server]]:
        return ((s.process, s) for s in self.system.network.servers.values())


def _held_by(who: str, client: Client) -> dict[str, int]:
    held = {f"{who}: waiting for a slot": len(client.replicas._waiting)}
    for replica in client.replicas.all:
        held[f"{who}: calls at {replica.index}"] = replica.outstanding
        for name, guard in replica._guards.items():
            held[f"{who}: slots of {name} at {replica.index}"] = guard.limiter.in_flight
            if guard.breaker.state(asyncio.get_running_loop().time()) is State.HALF_OPEN:
                held[f"{who}: probes of {name} at {replica.index}"] = guard.breaker._probes_out
    for coalescer in client._coalescers:
        held[f"{who}: waiting rows"] = coalescer.waiting_rows
        held[f"{who}: batches"] = len(coalescer._calls)
    return held


def played(seed: int) -> tuple[list[str], str]:
    """What is wrong in the case of a seed, and what became of its requests and when, as text."""
    wrong: list[str] = []
    ended: list[str] = []

    async def run(loop: VirtualLoop) -> None:
        world = World(case_of(seed), loop)
        world.wrong, world.ended = wrong, ended
        with simulated(world.system.network):
            await world.run()

    with virtual_time(seed) as loop:
        try:
            loop.run_until_complete(loop.create_task(run(loop), context=OUTSIDE.copy()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the case fails
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong, " ".join(ended)


def failures(seed: int) -> list[str]:
    """What is wrong in the case of a seed; nothing if all holds."""
    return played(seed)[0]
