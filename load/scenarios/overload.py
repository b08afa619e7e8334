"""Overload: three times what the system can do, open loop, the client on cores of its own. The heavy model.

Three questions. How much useful work is left at 3× (goodput against its peak)? Who is served first, and how soon do
the others learn that they are not? What does one greedy tenant cost those who keep to their share?
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterable, Sequence

from headrace.access.specs import TenantSpec
from load.generator.load_generator import Caller
from load.generator.open_loop import OpenLoopRun, RequestStream, run_open_loop
from load.systems.headrace import AMPLE, Running, Setup, configuration, headrace

_FACTOR = 3.0
_HIGH, _NORMAL = 5, 1
# What the tenants that keep to their share ask for together, as a part of the peak.
_MODEST = 0.4
_MODEST_TENANTS = 4
_STEP = 1.25
_FIRST_RATE = 300.0


def run(options: argparse.Namespace) -> None:
    """`overload`. Prints the tables."""
    everyone = frozenset(os.sched_getaffinity(0))
    options.clients = options.clients or frozenset({max(everyone)})
    made = _setup(options, options.servers or everyone - options.clients or everyone)
    with headrace(made) as running:
        print(configuration(made))
        cores = ", ".join(map(str, sorted(options.clients)))
        print(f"client on core {cores}; deadline {options.deadline_ms:.0f} ms; {options.model}\n")
        peak = find_peak(running, options)
        at_three(running, options, peak)
        greedy(running, options, peak)


def _setup(options: argparse.Namespace, servers: frozenset[int]) -> Setup:
    """Tenants with equal rights, one of which will be greedy, and one with high priority.

    The ingress refuses before it has read a message, so it uses the priority of the tenant. The quotas are finite, but
    never reached.
    """
    names = dict.fromkeys(["load", *(f"modest-{i}" for i in range(_MODEST_TENANTS)), "greedy"], _NORMAL)
    names["high"] = _HIGH
    tenants = {n: TenantSpec(pipelines=("*",), limits=AMPLE, priority=p) for n, p in names.items()}
    return Setup(options.home, options.shape, servers, tenants=tenants)


def find_peak(running: Running, options: argparse.Namespace) -> float:
    """The highest goodput at any rate; rates go up until less than 70 % of what is offered is answered in time."""
    print(
        "| offered/s | goodput/s | p50 ms | p99 ms | refused | late | failed | server CPU µs | client CPU µs |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    rate, best = _FIRST_RATE, 0.0
    _run(running, options, [_stream(running, options, "load", rate, seconds=2.0)])
    while True:
        run = _run(running, options, [_stream(running, options, "load", rate)], check=False)
        show(f"{rate:.0f}", run)
        goodput = run.outcome().goodput
        best = max(best, goodput)
        if goodput < 0.7 * rate:
            return best
        rate *= _STEP


def at_three(running: Running, options: argparse.Namespace, peak: float) -> None:
    """Three times the peak; a tenth of the peak is of high priority."""
    goodputs = []
    print(f"\nAt {_FACTOR:g}× the peak of {peak:.0f}/s, a tenth of the peak with high priority:\n")
    print(
        "| run | who | offered/s | goodput/s | p50 ms | p99 ms | refused | told in p50 ms | p99 ms | late | failed |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for i in range(options.runs):
        high = _stream(running, options, "high", 0.1 * peak)
        low = _stream(running, options, "load", (_FACTOR - 0.1) * peak)
        run = _run(running, options, [high, low], seed=i + 1)
        for who, names in (("all", ()), ("high", ("high",)), ("normal", ("load",))):
            o = run.outcome(*names)
            print(
                f"| {i + 1} | {who} | {o.offered / o.seconds:.0f} | {o.goodput:.0f} | {o.latency_ms(50):.1f} "
                f"| {o.latency_ms(99):.1f} | {len(o.refused)} | {o.refusal_ms(50):.1f} | {o.refusal_ms(99):.1f} "
                f"| {o.late} | {o.failed} |",
                flush=True,
            )
        goodputs.append(run.outcome().goodput)
        print(
            f"\n{run.verified}; server {run.server_us:.0f} µs, client {run.client_us:.0f} µs a request; "
            f"others used {run.other_cores:.2f} cores\n",
            flush=True,
        )
    median = _median(goodputs)
    print(
        f"goodput at {_FACTOR:g}×: {median:.0f}/s, {median / peak:.0%} of the peak (aim: 90 %)\n", flush=True
    )


def greedy(running: Running, options: argparse.Namespace, peak: float) -> None:
    """The modest tenants' p99 with a tenant who asks for three times the peak, of that without."""
    alone, beside = [], []
    for i in range(options.runs):
        modest = [
            _stream(running, options, f"modest-{n}", _MODEST * peak / _MODEST_TENANTS)
            for n in range(_MODEST_TENANTS)
        ]
        names = [m.caller.name for m in modest]
        alone.append(_run(running, options, modest, seed=i + 1, check=False).outcome(*names))
        wild = _stream(running, options, "greedy", _FACTOR * peak)
        beside.append(_run(running, options, [*modest, wild], seed=i + 1, check=False).outcome(*names))
    print(
        f"{_MODEST_TENANTS} modest tenants ask for {_MODEST:.0%} of the peak together; a greedy one for {_FACTOR:g}×:\n"
    )
    print("| modest tenants | answered in time | p50 ms | p99 ms |\n|---|--:|--:|--:|")
    for name, outcomes in (("alone", alone), ("beside the greedy one", beside)):
        share = statistics.median(o.good / o.offered for o in outcomes)
        print(
            f"| {name} | {share:.1%} | {_median(o.latency_ms(50) for o in outcomes):.1f} "
            f"| {_median(o.latency_ms(99) for o in outcomes):.1f} |"
        )
    ratio = _median(o.latency_ms(99) for o in beside) / _median(o.latency_ms(99) for o in alone)
    print(f"\np99 of the modest: ×{ratio:.2f} (aim: 1.5)", flush=True)


def show(label: str, run: OpenLoopRun) -> None:
    """A run as a line of the first table."""
    o = run.outcome()
    print(
        f"| {label} | {o.goodput:.0f} | {o.latency_ms(50):.1f} | {o.latency_ms(99):.1f} | {len(o.refused)} | {o.late} "
        f"| {o.failed} | {run.server_us:.0f} | {run.client_us:.0f} |",
        flush=True,
    )


def _run(
    running: Running,
    options: argparse.Namespace,
    streams: Sequence[RequestStream],
    *,
    seed: int = 1,
    check: bool = True,
) -> OpenLoopRun:
    return run_open_loop(running, options.model, streams, cpus=options.clients, seed=seed, check=check)


def _stream(
    running: Running, options: argparse.Namespace, tenant: str, rate: float, *, seconds: float | None = None
) -> RequestStream:
    caller = Caller(tenant, running.keys[tenant], options.deadline_ms / 1000)
    return RequestStream(caller, rate, options.seconds if seconds is None else seconds)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
