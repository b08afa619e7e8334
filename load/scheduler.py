"""The executor's scheduler against FIFO batching, simulated: latency and throughput against load, deadlines missed.

usage: python -m load.scheduler [--seconds 60] [--seed 1]

The scheduler under test is the real one; the model is its run time `a + b · rows`, and the clock is simulated.
FIFO batching takes what waits in order of arrival, up to the same size; a late row is run like any other. "FIFO,
expired dropped" is the same, but rows whose deadline has passed before their run are not run.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from services.executor.scheduling.run_time import RunTimes
from services.executor.scheduling.scheduler import Limits, ScheduledRun, Scheduler

SHORT, LONG = 0.020, 0.200
MAX_ROWS = 64


@dataclass(frozen=True, slots=True)
class Engine:
    """ScheduledRun time in seconds: fixed part, part per row; each run deviates by a few per cent."""

    fixed: float
    per_row: float

    def seconds(self, rows: int, chance: random.Random) -> float:
        return (self.fixed + self.per_row * rows) * max(chance.gauss(1.0, 0.05), 0.5)

    @property
    def capacity(self) -> float:
        """Rows per second in full runs."""
        return MAX_ROWS / (self.fixed + self.per_row * MAX_ROWS)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call: when it comes, how many rows, and the budget of each."""

    at: float
    rows: int
    budget: float


@dataclass
class Tally:
    """What became of the rows of one kind."""

    offered: int = 0
    in_time: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def missed(self) -> float:
        return 1 - self.in_time / max(self.offered, 1)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


class Queue(Protocol):
    """What decides who runs: `start` gives the calls' rows of one run, or nothing."""

    def offer(self, arrival: Arrival) -> None: ...
    def start(self, now: float) -> list[tuple[Arrival, int]]: ...
    def finish(self, now: float) -> None: ...


class Ours:
    """The executor's scheduler."""

    def __init__(self, engine: Engine) -> None:
        times = RunTimes()
        for rows in (1, 2, 4, 8, 16, 32, 64):
            times.learn(rows, engine.fixed + engine.per_row * rows)
        self._scheduler: Scheduler[Arrival] = Scheduler(Limits(MAX_ROWS, 1 << 20), times)
        self._run: ScheduledRun[Arrival] | None = None
        self._began = 0.0

    def offer(self, arrival: Arrival) -> None:
        n = arrival.rows
        deadlines = [arrival.at + arrival.budget] * n
        self._scheduler.offer(arrival, range(n), [1] * n, ["t"] * n, deadlines, arrival.at)

    def start(self, now: float) -> list[tuple[Arrival, int]]:
        while True:
            self._run, self._began = self._scheduler.start(now), now
            if self._run is not None or not self._scheduler.queued:
                break
        self._scheduler.drops()
        return [(part.call, len(part.rows)) for part in self._run.parts] if self._run else []

    def finish(self, now: float) -> None:
        assert self._run is not None
        self._scheduler.finish(self._run, now - self._began)


class Fifo:
    """Batching in order of arrival."""

    def __init__(self, *, drop_expired: bool) -> None:
        self._drop = drop_expired
        self._waiting: deque[tuple[Arrival, int]] = deque()

    def offer(self, arrival: Arrival) -> None:
        self._waiting.append((arrival, arrival.rows))

    def start(self, now: float) -> list[tuple[Arrival, int]]:
        taken, left = [], MAX_ROWS
        while self._waiting and left:
            arrival, rows = self._waiting.popleft()
            if self._drop and arrival.at + arrival.budget <= now:
                continue
            n = min(rows, left)
            taken.append((arrival, n))
            left -= n
            if rows > n:
                self._waiting.appendleft((arrival, rows - n))
        return taken

    def finish(self, now: float) -> None: ...


def arrivals(rate: float, seconds: float, chance: random.Random, burst: int) -> Iterator[Arrival]:
    """Calls of 1 to `burst` rows at random times, half with the short budget, `rate` rows a second in all."""
    now, mean_rows = 0.0, (1 + burst) / 2
    while now < seconds:
        now += chance.expovariate(rate / mean_rows)
        yield Arrival(now, chance.randint(1, burst), SHORT if chance.random() < 0.5 else LONG)


def simulate(queue: Queue, engine: Engine, calls: list[Arrival], chance: random.Random) -> dict[float, Tally]:
    """One instance of the engine behind `queue`, until all calls are over."""
    tallies = {SHORT: Tally(), LONG: Tally()}
    events = [(call.at, i, call) for i, call in enumerate(calls)]
    heapq.heapify(events)
    running: list[tuple[Arrival, int]] = []
    busy_until = now = 0.0
    while events or running:
        if running and (not events or busy_until <= events[0][0]):
            now = busy_until
            queue.finish(now)
            for call, rows in running:
                tally = tallies[call.budget]
                tally.in_time += rows * (now <= call.at + call.budget)
                tally.latencies += [now - call.at] * rows
            running = []
        else:
            now, _, call = heapq.heappop(events)
            tallies[call.budget].offered += call.rows
            queue.offer(call)
        if not running and (running := queue.start(now)):
            busy_until = now + engine.seconds(sum(rows for _, rows in running), chance)
    return tallies


def compare(engine: Engine, load: float, seconds: float, seed: int, burst: int) -> None:
    """One line of the table for each way of batching."""
    calls = list(arrivals(load * engine.capacity, seconds, random.Random(seed), burst))
    queues: dict[str, Queue] = {
        "FIFO": Fifo(drop_expired=False),
        "FIFO, expired dropped": Fifo(drop_expired=True),
        "scheduler": Ours(engine),
    }
    for name, queue in queues.items():
        tallies = simulate(queue, engine, calls, random.Random(seed))
        short, long = tallies[SHORT], tallies[LONG]
        good = (short.in_time + long.in_time) / calls[-1].at
        print(
            f"| {load:.0%} | {burst} | {name} | {short.missed:.2%} | {long.missed:.2%} | {good:.0f} "
            f"| {short.quantile(0.5) * 1e3:.1f} / {short.quantile(0.99) * 1e3:.1f} "
            f"| {long.quantile(0.5) * 1e3:.1f} / {long.quantile(0.99) * 1e3:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fixed-us", type=float, default=1000)
    parser.add_argument("--row-us", type=float, default=150)
    options = parser.parse_args()
    engine = Engine(options.fixed_us / 1e6, options.row_us / 1e6)
    print(
        f"engine {options.fixed_us:.0f} µs + {options.row_us:.0f} µs a row, {engine.capacity:.0f} rows/s in runs of {MAX_ROWS}"
    )
    print(
        "| load | rows a call, at most | batching | 20 ms missed | 200 ms missed | good rows/s "
        "| 20 ms p50 / p99 ms | 200 ms p50 / p99 ms |"
    )
    print("|--:|--:|---|--:|--:|--:|--:|--:|")
    for burst in (1, 16, 64):
        for load in (0.5, 0.7, 0.9, 1.1):
            compare(engine, load, options.seconds, options.seed, burst)


if __name__ == "__main__":
    main()
