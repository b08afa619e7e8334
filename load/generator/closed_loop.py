"""One closed-loop run against any server of the Open Inference Protocol: ours, or a peer's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from load.generator.load_generator import PENDING, Caller, Plan
from load.generator.open_loop import PATH, run_plan
from load.systems.processes import turn

_WARM_UP_S = 1.0
# The kernel distributes connections among processes that share a port; with few, one process may get most of them.
_CONNECTIONS = 16
_DEADLINE_S = 5.0
# No system here is faster; requests that are never sent cost nothing.
_FASTEST = 30_000
_VERIFIED = 0.01
Check = Callable[[Mapping[int, bytes]], str]


@dataclass(frozen=True, slots=True)
class Target:
    """What to send where: serialised ModelInferRequests to host:port. `check` gets replies by position in `messages`,
    raises SystemExit at a wrong one, and says in words what it found."""

    address: str
    messages: Sequence[bytes]
    key: str
    pids: frozenset[int]
    check: Check
    # Processes that work for the servers, such as a store: their CPU is neither the servers' nor a disturbance.
    helpers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Figures:
    """Answers per second, their latencies and CPU per answer in µs, requests that failed, cores that others used."""

    rate: float
    p50_us: float
    p99_us: float
    server_us: float
    client_us: float
    failed: int
    other_cores: float
    verified: str
    # CPU of the target's helpers per answer.
    helpers_us: float = 0.0
    # How many requests failed with which gRPC status.
    codes: Mapping[int, int] = field(default_factory=dict)


def drive(target: Target, at_once: int, seconds: float, seed: int) -> Figures:
    """Sends for a first second, which is not counted, and then for `seconds`. The same seed gives the same requests."""
    made = plan(target, at_once, _WARM_UP_S + seconds, seed)
    with turn():
        samples = run_plan(made)
    sent = samples.status != PENDING
    answered = samples.status == 0
    counted = answered & (samples.ended >= _WARM_UP_S) & (samples.ended < made.seconds)
    took = (samples.ended - samples.sent)[counted] * 1e6
    total = max(int(answered.sum()), 1)
    replies = {int(made.what[i]): reply for i, reply in samples.replies.items() if samples.status[i] == 0}
    return Figures(
        len(took) / seconds,
        float(np.percentile(took, 50)) if len(took) else float("nan"),
        float(np.percentile(took, 99)) if len(took) else float("nan"),
        samples.servers_cpu_s / total * 1e6,
        samples.cpu_s / total * 1e6,
        int((sent & ~answered).sum()),
        samples.other_cores,
        target.check(replies),
        samples.helpers_cpu_s / total * 1e6,
        Counter(samples.status[sent & ~answered].tolist()),
    )


def plan(target: Target, at_once: int, seconds: float, seed: int) -> Plan:
    """What a run sends: more requests than any system here answers in the time, each row once before any comes again."""
    random = np.random.default_rng(seed)
    count, distinct = int(_FASTEST * seconds), len(target.messages)
    order = [random.permutation(distinct) for _ in range(-(-count // distinct))]
    kept = np.flatnonzero(random.random(count) < _VERIFIED)
    return Plan(
        target.address,
        PATH,
        [Caller("load", target.key, _DEADLINE_S)],
        target.messages,
        np.zeros(count),
        np.zeros(count, np.uint16),
        np.concatenate(order)[:count].astype(np.uint32),
        frozenset(kept.tolist()),
        min(_CONNECTIONS, at_once),
        target.pids,
        helpers=target.helpers,
        at_once=at_once,
        seconds=seconds,
    )
