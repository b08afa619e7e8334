"""One case: a hostile tenant beside a good one on one hop, and what must hold. All of it follows from the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.call import Method
from headrace.hop.client import dial
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Fault, reason_name
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.resilience.breaker import State
from tests.simulation.network import Process, SimulatedChannels
from tests.simulation.virtual_time import VirtualLoop, virtual_time

_KIND = ".google.protobuf.StringValue"
# Which methods there are, and how long one row takes by nature at most. Predict is coalesced; Explain is lengthy.
_METHODS = {"Predict": 0.01, "List": 0.002, "Rank": 3.0, "Explain": 3.0}
# The good tenant's calls: a second, and the time that each has. It never asks for work that takes longer than this.
RATE = 100
DEADLINE_S = 2.0
_GOOD_WORK_S = 0.3
_LASTS_S = 3.0
# No fault of a case without failures lasts longer, and in any case all is well so soon after the last.
_STALL_S = 0.4
RECOVERY_S = 2.0


@dataclass(frozen=True)
class Hostile:
    """What the hostile tenant does. `own_lane`: it predicts with another pipeline; `abandons`: the share that it cancels."""

    method: str
    own_lane: bool
    deadline_s: float
    rows: int
    work_s: float
    rate: float
    concurrency: int
    abandons: float


@dataclass(frozen=True)
class Trouble:
    """A process stands still, or is killed and comes back after `lasts_s`."""

    at: float
    replica: int
    lasts_s: float
    kills: bool


@dataclass(frozen=True)
class Case:
    """`harmless`: all its trouble is short, so that no call of the good tenant may fail."""

    seed: int
    replicas: int
    hostile: Hostile
    troubles: tuple[Trouble, ...]
    harmless: bool

    @classmethod
    def of(cls, seed: int) -> Case:
        draw = random.Random(seed)
        method = draw.choice(list(_METHODS))
        rows = draw.choice((1, 8, 64, 512, 4096)) if method == "Predict" else 1
        hostile = Hostile(
            method,
            draw.random() < 0.5,
            draw.choice((0.001, 0.01, 0.05, 0.1, 0.3, 1.0, 2.5)),
            rows,
            _METHODS[method] * draw.uniform(0.1, 1.0) * (1 + rows / 512),
            draw.choice((8.0, 50.0, 200.0)),
            draw.choice((2, 6, 12)),
            draw.choice((0.0, 0.0, 0.3, 1.0)),
        )
        replicas, harmless = draw.choice((1, 1, 2, 3)), draw.random() < 0.8
        troubles = tuple(
            Trouble(
                at + draw.random() * 0.5,
                draw.randrange(replicas),
                draw.uniform(0.05, _STALL_S) if harmless else draw.uniform(0.1, 3.0),
                not harmless and draw.random() < 0.5,
            )
            for at in (0.2, 1.2, 2.2)
            if draw.random() < 0.6
        )
        return cls(seed, replicas, hostile, troubles, harmless)


@dataclass(frozen=True)
class Item:
    """Rows of one caller that share calls with others of one `lane`."""

    number: int
    deadline: float
    rows: int
    work_s: float
    lane: str


class Codec:
    """Of `Predict`. A message is how long the work takes, then the numbers of the items."""

    def key(self, item: Item) -> Hashable:
        return item.lane

    def rows(self, item: Item) -> int:
        return item.rows

    def size(self, item: Item) -> int:
        return 8 * item.rows

    def deadline(self, item: Item) -> float:
        return item.deadline

    def priority(self, item: Item) -> int:  # noqa: ARG002 - all the same
        return 1

    def merge(self, items: Sequence[Item]) -> StringValue:
        return message(max(i.work_s for i in items), *(i.number for i in items))

    def split(self, items: Sequence[Item], response: StringValue) -> Sequence[int]:
        return [int(number) for number in response.value.split()[1:]]


def message(work_s: float, *numbers: int) -> StringValue:
    return StringValue(value=" ".join([str(work_s), *map(str, numbers)]))


def _descriptor() -> ServiceDescriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/simulated.proto",
        package="tests",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    service = file.service.add(name="Simulated")
    for name in _METHODS:
        service.method.add(name=name, input_type=_KIND, output_type=_KIND)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("tests.Simulated")


_SERVICE = _descriptor()
METHODS: dict[str, Method[StringValue, StringValue]] = {
    name: hop.unary(
        _SERVICE.file,
        "Simulated",
        name,
        StringValue,
        StringValue,
        idempotent=True,
        lengthy=name == "Explain",
    )
    for name in _METHODS
}


class Servicer:
    """Each method works for as long as the message says, and gives it back."""

    async def Predict(self, request: StringValue, call: hop.Call) -> StringValue:
        await asyncio.sleep(float(request.value.split()[0]))
        return request

    List = Rank = Explain = Predict


class World:
    """The hop of one case: its processes and its client."""

    def __init__(self, case: Case, loop: VirtualLoop, telemetry: Telemetry) -> None:
        self.case, self._loop = case, loop
        services = [hop.Service(_SERVICE, Servicer())]
        addresses = [f"unix:/{i}" for i in range(case.replicas)]
        self.processes = {a: Process(a, services, telemetry) for a in addresses}
        dial.Channels = lambda address, *_: SimulatedChannels(self.processes, address)  # type: ignore[misc, assignment]
        self.client = dial.Client("simulated", ClientRules(",".join(addresses)))
        self._predict = self.client.coalesced(METHODS["Predict"], Codec())
        self._unary = {name: self.client.unary(method) for name, method in METHODS.items()}
        self._numbers = 0
        self.wrong: list[str] = []

    async def call(self, method: str, within: float, work_s: float, rows: int = 1, lane: str = "good") -> str:
        """Why the call failed; empty if it was answered, by what it asked for."""
        self._numbers += 1
        number, deadline = self._numbers, self._loop.now + within
        answer: int
        try:
            if method == "Predict":
                answer = await self._predict(Item(number, deadline, rows, work_s, lane))
            else:
                reply = await self._unary[method](message(work_s, number), deadline=deadline)
                answer = int(reply.value.split()[1])
        except Fault as fault:
            late = self._loop.now - deadline
            if late > 0.005:
                self.wrong.append(f"{method} was answered {late:.3f} s after its deadline")
            return reason_name(fault.reason)
        if answer != number:
            self.wrong.append(f"{method} got another's answer")
        return ""

    async def good(self) -> None:
        """The good tenant's calls of all methods, most of them predictions."""
        tasks = []
        for n in range(round(RATE * _LASTS_S)):
            method = "List" if n % 10 == 3 else self.case.hostile.method if n % 10 == 7 else "Predict"
            work_s = min(_METHODS[method], _GOOD_WORK_S) * 0.5
            tasks.append(asyncio.create_task(self._good_call(method, work_s)))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*tasks)

    async def _good_call(self, method: str, work_s: float) -> None:
        began = self._loop.now
        failed = await self.call(method, DEADLINE_S, work_s)
        if failed and self.case.harmless:
            self.wrong.append(f"{method} of the good tenant, begun at {began - 1000:.2f} s, failed: {failed}")

    async def hostile(self) -> None:
        """The hostile tenant's calls, until it is cancelled."""
        hostile, tasks = self.case.hostile, set[asyncio.Task[str]]()
        lane = "hostile" if hostile.own_lane else "good"
        try:
            while True:
                if len(tasks) < hostile.concurrency:
                    call = self.call(hostile.method, hostile.deadline_s, hostile.work_s, hostile.rows, lane)
                    task = asyncio.create_task(call)
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    if random.random() < hostile.abandons:
                        self._loop.call_later(random.choice((0.0, 0.001, 0.02)), task.cancel)
                await asyncio.sleep(random.expovariate(hostile.rate))
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def trouble(self) -> None:
        start = self._loop.now
        for trouble in self.case.troubles:
            await asyncio.sleep(max(start + trouble.at - self._loop.now, 0))
            process = list(self.processes.values())[trouble.replica]
            if trouble.kills:
                process.kill()
                await asyncio.sleep(trouble.lasts_s)
                process.start()
            else:
                process.stands_until = self._loop.now + trouble.lasts_s
                await asyncio.sleep(0 if self.case.harmless else trouble.lasts_s)

    def look_for_lost(self) -> None:
        """No row waits while its lane could send it. Called whenever the loop is about to wait."""
        for coalescer in self.client._coalescers:
            for key, lane in coalescer._queue._lanes.items():
                waits = lane.rows and not coalescer._queue._is_closed(lane)
                if waits and key not in coalescer._held and key not in coalescer._scheduled:
                    self.wrong.append("a row waits, and nothing will send it")

    async def recovered(self) -> None:
        """Each method answers again within its time."""
        ends = self._loop.now + RECOVERY_S
        for method in METHODS:
            while failed := await self.call(method, 1.0, 0.001):
                if self._loop.now > ends:
                    self.wrong.append(f"{method} still fails {RECOVERY_S} s after the last fault: {failed}")
                    return
                await asyncio.sleep(0.05)

    def look_for_taken(self) -> None:
        """What calls took is free again: places, slots, permits."""
        held: dict[str, Any] = {p.name: p.stack.shed.in_flight for p in self.processes.values()}
        for replica in self.client.replicas.all:
            held[f"calls at {replica.index}"] = replica.outstanding
            held[f"silence of {replica.index}"] = replica.liveness.silent
            for name, guard in replica._guards.items():
                held[f"slots of {name} at {replica.index}"] = guard.limiter.in_flight
                probing = guard.breaker.state(self._loop.now) is State.HALF_OPEN
                held[f"probes of {name} at {replica.index}"] = probing and guard.breaker._probes_out
        for coalescer in self.client._coalescers:
            held["waiting rows"], held["batches"] = coalescer.waiting_rows, len(coalescer._calls)
        held["waiting for a slot"] = len(self.client.replicas._waiting)
        self.wrong += [f"{what}: {count} at the end" for what, count in held.items() if count]


async def _run(world: World, loop: VirtualLoop) -> None:
    loop.before_waiting = world.look_for_lost
    hostile, trouble = asyncio.create_task(world.hostile()), asyncio.create_task(world.trouble())
    await world.good()
    await trouble
    await world.recovered()
    hostile.cancel()
    await asyncio.gather(hostile, return_exceptions=True)
    await asyncio.sleep(4.0)  # longer than any call may take
    world.look_for_taken()
    await world.client.close()


def failures(seed: int) -> list[str]:
    """What is wrong in the case of a seed; nothing if all holds."""
    channels = dial.Channels
    try:
        with virtual_time(seed) as loop:
            telemetry = Telemetry("simulated", config.Telemetry(log_level="error", trace_ratio=0))
            world: list[World] = []

            async def run() -> None:
                world.append(World(Case.of(seed), loop, telemetry))
                await _run(world[0], loop)

            try:
                loop.run_until_complete(run())
            except Exception as error:  # noqa: BLE001 - whatever it is, the case fails
                return [f"{type(error).__name__}: {error}", *world[0].wrong]
            return world[0].wrong
    finally:
        dial.Channels = channels  # type: ignore[misc]
