"""The hop of one case, with its callers, and what must hold: nothing fails, nothing is lost, all is free in the end."""

import asyncio
import random
from functools import cache
from typing import Any
from unittest.mock import patch

from headrace import hop
from headrace.hop import config
from headrace.hop.client import dial
from headrace.hop.client.settings import ClientRules, CoalesceRules
from headrace.hop.errors import Fault, reason_name
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.resilience.breaker import State
from tests.simulation.cases import METHODS, Case, case_of
from tests.simulation.network import Process, SimulatedChannels
from tests.simulation.service import DESCRIPTOR, RPCS, Codec, Item, Servicer, message, numbers
from tests.simulation.virtual_time import VirtualLoop, virtual_time

# The good tenant's calls: how many in a second and in all, the time that each has, and what it asks for at most.
_RATE, _CALLS, _DEADLINE_S, _WORK_S = 100, 200, 2.0, 0.15
# So soon after the last trouble all is well.
_RECOVERY_S = 2.0
# An answer may be so late: timers of one moment run one after another.
_LATE_S = 0.005


@cache
def _telemetry() -> Telemetry:
    return Telemetry("simulated", config.Telemetry(log_level="error", trace_ratio=0))


class World:
    """`wrong`: what has been seen that must not be."""

    def __init__(self, case: Case, loop: VirtualLoop) -> None:
        self.case, self._loop = case, loop
        addresses = [f"unix:/{i}" for i in range(case.replicas)]
        service = hop.Service(DESCRIPTOR, Servicer())
        self.processes = {a: Process(a, [service], _telemetry()) for a in addresses}
        rules = ClientRules(",".join(addresses), coalesce=CoalesceRules(max_waiting_rows=4096))
        with patch.object(dial, "Channels", lambda address, *_: SimulatedChannels(self.processes[address])):
            self.client = dial.Client("simulated", rules)
        self._predict = self.client.coalesced(RPCS["Predict"], Codec())
        self._unary = {name: self.client.unary(method) for name, method in RPCS.items()}
        self._calls = 0
        self.wrong: list[str] = []
        loop.before_waiting = self._look_for_lost

    async def run(self) -> None:
        hostile, trouble = asyncio.create_task(self._hostile()), asyncio.create_task(self._trouble())
        await self._good()
        await trouble
        await self._recovered()
        hostile.cancel()
        await asyncio.gather(hostile, return_exceptions=True)
        await asyncio.sleep(max(self.case.deadline_s, _DEADLINE_S) + 1.0)
        self._look_for_taken()
        await self.client.close()

    async def _call(
        self,
        method: str,
        within: float,
        work_s: float,
        rows: int = 1,
        lane: str = "good",
        tenant: str = "good",
    ) -> str:
        """Why the call failed; empty if it was answered."""
        self._calls += 1
        number, deadline = self._calls, self._loop.now + within
        answer: Any
        try:
            if method == "Predict":
                answer = [await self._predict(Item(number, deadline, rows, work_s, lane, tenant))]
            else:
                answer = numbers(await self._unary[method](message(work_s, number), deadline=deadline))
        except Fault as fault:
            if self._loop.now > deadline + _LATE_S:
                self.wrong.append(f"{method} ended {self._loop.now - deadline:.3f} s after its deadline")
            return reason_name(fault.reason)
        if answer != [number]:
            self.wrong.append(f"{method} got another's answer")
        return ""

    async def _good(self) -> None:
        async def one(method: str) -> None:
            failed = await self._call(method, _DEADLINE_S, min(METHODS[method] / 2, _WORK_S))
            if failed and self.case.harmless:
                self.wrong.append(f"{method} of the good tenant failed: {failed}")

        tasks = []
        for n in range(_CALLS):
            tasks.append(asyncio.create_task(one({3: "List", 7: self.case.method}.get(n % 10, "Predict"))))
            await asyncio.sleep(1 / _RATE)
        await asyncio.gather(*tasks)

    async def _hostile(self) -> None:
        """Until it is cancelled."""
        case, tasks = self.case, set[asyncio.Task[str]]()
        lane = "hostile" if case.own_lane else "good"
        try:
            while True:
                if len(tasks) < case.concurrency:
                    call = self._call(case.method, case.deadline_s, case.work_s, case.rows, lane, "hostile")
                    task = asyncio.create_task(call)
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    if random.random() < case.abandons:
                        self._loop.call_later(random.choice((0.0, 0.001, 0.02)), task.cancel)
                await asyncio.sleep(random.expovariate(case.rate))
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _trouble(self) -> None:
        start = self._loop.now
        for trouble in self.case.troubles:
            await asyncio.sleep(max(start + trouble.at - self._loop.now, 0))
            process = self.processes[f"unix:/{trouble.replica}"]
            if trouble.kills:
                process.kill()
            else:
                process.stands_until = self._loop.now + trouble.lasts_s
            await asyncio.sleep(trouble.lasts_s)
            if trouble.kills:
                process.start()

    async def _recovered(self) -> None:
        """Each method answers again."""
        ends = self._loop.now + _RECOVERY_S
        for method in METHODS:
            while failed := await self._call(method, 1.0, 0.001):
                if self._loop.now > ends:
                    self.wrong.append(f"{method} fails {_RECOVERY_S} s after the last trouble: {failed}")
                    return
                await asyncio.sleep(0.05)

    def _look_for_lost(self) -> None:
        """No row waits while its lane could send it."""
        for coalescer in self.client._coalescers:
            for key, lane in coalescer._queue._lanes.items():
                waits = lane.rows and not coalescer._queue._is_closed(lane)
                if waits and key not in coalescer._held and key not in coalescer._scheduled:
                    self.wrong.append("a row waits, and nothing will send it")

    def _look_for_taken(self) -> None:
        """What calls took is free again: places, slots, permits."""
        held: dict[str, int] = {p.name: p.stack.shed.in_flight for p in self.processes.values()}
        for replica in self.client.replicas.all:
            held[f"calls at {replica.index}"] = replica.outstanding
            held[f"silence of {replica.index}"] = replica.liveness.silent
            for name, guard in replica._guards.items():
                held[f"slots of {name} at {replica.index}"] = guard.limiter.in_flight
                if guard.breaker.state(self._loop.now) is State.HALF_OPEN:
                    held[f"probes of {name} at {replica.index}"] = guard.breaker._probes_out
        for coalescer in self.client._coalescers:
            held["waiting rows"], held["batches"] = coalescer.waiting_rows, len(coalescer._calls)
        held["waiting for a slot"] = len(self.client.replicas._waiting)
        self.wrong += [f"{what}: {count} at the end" for what, count in held.items() if count]


def failures(seed: int) -> list[str]:
    """What is wrong in the case of a seed; nothing if all holds."""
    wrong: list[str] = []

    async def run(loop: VirtualLoop) -> None:
        world = World(case_of(seed), loop)
        world.wrong = wrong
        await world.run()

    with virtual_time(seed) as loop:
        try:
            loop.run_until_complete(run(loop))
        except Exception as error:  # noqa: BLE001 - whatever it is, the case fails
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong
