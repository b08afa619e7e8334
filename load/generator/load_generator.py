"""Sends requests, in an open or a closed loop. A process of its own.

    python -m load.generator.load_generator PLAN RESULT        (pickled Plan, pickled Samples; see open_loop.py)

Open: each request leaves when it is due, whatever became of those before. Latency counts from the time at which it was
meant to leave; a generator that is late, or has no stream free, so makes the figures worse, never better (no coordinated
omission). Closed: some callers, each of whom sends the next request when it has the answer to the last one.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from load.generator.hpack import call_headers
from load.generator.http2 import DEADLINE_EXCEEDED, CallResult, Connection
from load.systems.processes import CpuMeter, OtherWork

# Status of a request that was neither answered nor past its deadline when the run ended. There must be none.
PENDING = 255
_LONGEST_WAIT_S = 0.05
_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends: `key` is the credential, `deadline_s` each request's time, `grace_s` when after that it is cancelled, for the
    server may say itself that it is late; < 0: sooner than the server was told."""

    name: str
    key: str
    deadline_s: float
    grace_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run sends. Request i leaves at `times[i]`, from `callers[who[i]]`, with `messages[what[i]]`.

    `at_once` > 0: a closed loop of so many, which ends after `seconds`; requests leave in their order, whatever `times` says.
    """

    target: str
    path: str
    callers: Sequence[Caller]
    messages: Sequence[bytes]
    times: NDArray[np.float64]
    who: NDArray[np.uint16]
    what: NDArray[np.uint32]
    # Requests whose reply is kept.
    kept: frozenset[int] = frozenset()
    connections: int = 8
    # Processes whose CPU time is taken over the run.
    servers: frozenset[int] = frozenset()
    # Processes whose work is expected, such as a store.
    helpers: frozenset[int] = frozenset()
    cpus: frozenset[int] | None = None
    at_once: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Samples:
    """What became of each request. Seconds from the start of the run; `cpu_s`: what the generator itself used."""

    sent: NDArray[np.float64]
    ended: NDArray[np.float64]
    status: NDArray[np.uint8]
    replies: dict[int, bytes] = field(default_factory=dict)
    cpu_s: float = 0.0
    # What the servers and their helpers used, and how many cores all others.
    servers_cpu_s: float = 0.0
    helpers_cpu_s: float = 0.0
    other_cores: float = 0.0


class LoadGenerator:
    """Runs a plan over plain sockets, without an event loop: `select` waits for microseconds, uvloop for milliseconds."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        count = len(plan.times)
        self.samples = Samples(
            np.full(count, np.nan), np.full(count, np.nan), np.full(count, PENDING, np.uint8)
        )
        host, _, port = plan.target.rpartition(":")
        self._sockets = [socket.create_connection((host, int(port)), 5) for _ in range(plan.connections)]
        self._connections = [Connection() for _ in self._sockets]
        for each in self._sockets:
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers: dict[tuple[int, int], bytes] = {}
        self._turn = 0
        self._held: deque[int] = deque()  # requests that are due and have no stream yet
        # Requests in flight by the time that their callers allow, so that each queue is in the order of the deadlines.
        self._due: dict[float, deque[tuple[float, int, Connection, int]]] = {
            c.deadline_s + c.grace_s: deque() for c in plan.callers
        }
        self._times: list[float] = plan.times.tolist()
        self._left = count
        self._following = 0  # the next request

    def run(self) -> Samples:
        """Sends everything; returns when every request was answered or is past its deadline."""
        try:
            self._settle()
            return self._run()
        finally:
            for each in self._sockets:
                each.close()

    def _run(self) -> Samples:
        samples = self.samples
        cpu, meter = time.process_time(), CpuMeter(self._plan.servers)
        helpers = CpuMeter(self._plan.helpers)
        others = OtherWork(self._plan.servers | self._plan.helpers)
        start = time.perf_counter()
        while self._left:
            now = time.perf_counter() - start
            due = self._release(now)
            self._send(now)
            self._expire(now)
            self._flush()
            self._listen(min(max(due - (time.perf_counter() - start), 0.0), _LONGEST_WAIT_S), start)
        samples.cpu_s, samples.servers_cpu_s = time.process_time() - cpu, meter.seconds()
        samples.helpers_cpu_s, samples.other_cores = helpers.seconds(), others.cores()
        return samples

    def _release(self, now: float) -> float:
        """Takes up the requests that are due; returns when the next one is."""
        times, count = self._times, len(self._times)
        while self._following < count and times[self._following] <= now:
            self._held.append(self._following)
            self._following += 1
        return times[self._following] if self._following < count else math.inf

    def _settle(self) -> None:
        """Waits for HTTP/2 settings, so that opening the connections is not a part of the run."""
        until = time.monotonic() + 1.0
        while time.monotonic() < until and not all(c.settled for c in self._connections):
            self._flush()
            self._listen(0.1, time.perf_counter())

    def _send(self, now: float) -> None:
        held, plan = self._held, self._plan
        while held:
            request = held[0]
            who = int(plan.who[request])
            caller = plan.callers[who]
            left = self._times[request] + caller.deadline_s - now
            if left <= 0:
                held.popleft()
                self._ended(CallResult(request, DEADLINE_EXCEEDED, b""), now)
                continue
            connection = self._connection_for(request, who, left)
            if connection is None:
                return
            held.popleft()
            self.samples.sent[request] = now

    def _connection_for(self, request: int, who: int, left: float) -> Connection | None:
        plan = self._plan
        caller = plan.callers[who]
        millis = max(int(left * 1000 + 0.5), 1)
        headers = self._headers.get((who, millis))
        if headers is None:
            more = [("grpc-timeout", f"{millis}m"), ("authorization", f"Bearer {caller.key}")]
            headers = self._headers[who, millis] = call_headers(plan.path, plan.target, more)
        message = plan.messages[plan.what[request]]
        for _ in self._connections:
            self._turn = (self._turn + 1) % len(self._connections)
            connection = self._connections[self._turn]
            stream = connection.call(request, headers, message)
            if stream:
                longest = caller.deadline_s + caller.grace_s
                self._due[longest].append((self._times[request] + longest, request, connection, stream))
                return connection
        return None

    def _expire(self, now: float) -> None:
        for due in self._due.values():
            while due and (due[0][0] <= now or self.samples.status[due[0][1]] != PENDING):
                _, request, connection, stream = due.popleft()
                if connection.cancel(stream):
                    self._ended(CallResult(request, DEADLINE_EXCEEDED, b""), now)

    def _flush(self) -> None:
        for each, connection in zip(self._sockets, self._connections, strict=True):
            if connection.outgoing and not connection.gone:
                try:
                    sent = each.send(connection.outgoing)
                except OSError:
                    continue  # full: `select` says when it is not; broken: reading shows it
                del connection.outgoing[:sent]

    def _listen(self, wait: float, start: float) -> None:
        pairs = [(s, c) for s, c in zip(self._sockets, self._connections, strict=True) if not c.gone]
        full = [s for s, c in pairs if c.outgoing]
        readable, _, _ = select.select([s for s, _ in pairs], full, [], wait)
        for each in readable:
            connection = self._connections[self._sockets.index(each)]
            try:
                data = each.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            answers = connection.receive(data) if data else connection.lost()
            if not data:
                each.close()
            now = time.perf_counter() - start
            for answer in answers:
                self._ended(answer, now)

    def _ended(self, answer: CallResult, now: float) -> None:
        samples = self.samples
        samples.status[answer.call] = answer.status
        samples.ended[answer.call] = now
        self._left -= 1
        if answer.call in self._plan.kept:
            samples.replies[answer.call] = answer.message


class ClosedLoopGenerator(LoadGenerator):
    """The same in a closed loop: a caller sends its next request when the last one has ended."""

    def _release(self, now: float) -> float:
        plan, count = self._plan, len(self._times)
        if now >= plan.seconds:
            self._left -= count - self._following  # those are never sent
            self._following = count
        under_way = self._following - (count - self._left)
        for request in range(self._following, min(self._following + plan.at_once - under_way, count)):
            self._times[request] = now
            self._held.append(request)
            self._following += 1
        return math.inf


def main() -> None:
    plan: Plan = pickle.loads(Path(sys.argv[1]).read_bytes())
    if plan.cpus is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, plan.cpus)
    samples = (ClosedLoopGenerator if plan.at_once else LoadGenerator)(plan).run()
    Path(sys.argv[2]).write_bytes(pickle.dumps(samples))


if __name__ == "__main__":
    # Imported by its name, so that the pickled classes are found by the process that reads them.
    from load.generator.load_generator import main as run

    run()
