"""The open-loop profiles: steady rates, a ramp, a spike, a soak."""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence

from load.generator.arrivals import Stretch, ramp, spike, steady
from load.generator.load_generator import Caller
from load.generator.open_loop import OpenLoopRun, RequestStream, run_open_loop
from load.systems.headrace import Running, Setup, configuration, headrace
from load.systems.processes import pss_mib

_SLICES = 10
# A soak sends its requests in parts of this length; after each, the memory is read.
_SOAK_STEP_S = 30.0
# Memory that grows by less over a soak counts as flat: the allocator's own reserve varies by as much.
_FLAT = 0.02
_HEAD = (
    "| {} | offered/s | goodput/s | p50 ms | p99 ms | refused | late | failed "
    "| server CPU µs/req | client CPU µs/req | late leaving, p99 ms | PSS MB |\n|--:" + "|--:" * 11 + "|"
)


def at_rates(options: argparse.Namespace) -> None:
    """`open`: each rate for some seconds."""
    setup = _setup(options)
    with headrace(setup) as running:
        _begin(setup, options, running)
        print(_HEAD.format("rate"), flush=True)
        runs = [_line(running, options, f"{r}", steady(r, options.seconds)) for r in options.rates]
    _end(runs)


def ramped(options: argparse.Namespace) -> None:
    """`ramp`: what became of each tenth of the time while the rate went up."""
    setup = _setup(options)
    with headrace(setup) as running:
        _begin(setup, options, running)
        run = _run(running, options, ramp(options.rate, options.seconds))
        _slices(run)
    _end([run])


def spiked(options: argparse.Namespace) -> None:
    """`spike`: a fifth of the rate, the rate for a fifth of the time, and how soon all is well again."""
    setup = _setup(options)
    with headrace(setup) as running:
        _begin(setup, options, running)
        run = _run(running, options, spike(options.rate / 5, options.rate, options.seconds))
        _slices(run)
    _end([run])


def soaked(options: argparse.Namespace) -> None:
    """`soak`: one rate for minutes. Memory must not grow, and no request may fail."""
    setup = _setup(options)
    memory: list[float] = []
    failures = 0
    with headrace(setup) as running:
        _begin(setup, options, running)
        print(_HEAD.format("minute"), flush=True)
        runs = []
        for i in range(max(round(options.minutes * 60 / _SOAK_STEP_S), 1)):
            minute = f"{(i + 1) * _SOAK_STEP_S / 60:.1f}"
            run = _line(running, options, minute, steady(options.rate, _SOAK_STEP_S), seed=i)
            runs.append(run)
            outcome = run.outcome()
            failures += outcome.offered - outcome.good
            memory.append(pss_mib(running.pids))
    _end(runs)
    print(soak_verdict(failures, sum(run.outcome().offered for run in runs), memory))


def soak_verdict(failures: int, offered: int, memory: Sequence[float]) -> str:
    """What a soak showed, in words. `memory`: MB after each stretch. Raises SystemExit if a request failed or memory grew."""
    # Caches and pools are filled in the beginning.
    settled = memory[len(memory) // 5 :]
    grew = _trend(settled) * (len(settled) - 1) if len(settled) > 1 else 0.0
    told = (
        f"{failures} of {offered} without an answer in time; memory {memory[0]:.0f} to {memory[-1]:.0f} MB, "
        f"by its trend without the first fifth {grew:+.1f} MB"
    )
    if failures:
        raise SystemExit(f"{told}: FAILED, none may be lost")
    if grew > _FLAT * statistics.mean(settled):
        raise SystemExit(f"{told}: FAILED, at most {_FLAT:.0%} is flat")
    return f"{told}: flat, and no error"


def _trend(values: Sequence[float]) -> float:
    """Growth from one value to the next, by the median of all pairs' (Theil and Sen): an outlier does not bend it."""
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)


def _setup(options: argparse.Namespace) -> Setup:
    return Setup(options.home, options.shape, options.servers)


def _begin(setup: Setup, options: argparse.Namespace, running: Running) -> None:
    print(configuration(setup))
    where = f"core {', '.join(map(str, sorted(options.clients)))}" if options.clients else "any core"
    print(
        f"{options.model}, open loop, client on {where}, deadline {options.deadline_ms:.0f} ms\n", flush=True
    )
    # The first seconds of a system are not measured.
    _run(running, options, steady(200.0, 3.0), check=False)


def _line(
    running: Running, options: argparse.Namespace, label: str, stretches: Sequence[Stretch], seed: int = 1
) -> OpenLoopRun:
    run = _run(running, options, stretches, seed)
    o = run.outcome()
    busy = " ~" if run.other_cores > 0.2 else ""
    print(
        f"| {label}{busy} | {o.offered / o.seconds:.0f} | {o.goodput:.0f} | {o.latency_ms(50):.2f} "
        f"| {o.latency_ms(99):.2f} | {len(o.refused)} | {o.late} | {o.failed} | {run.server_us:.0f} "
        f"| {run.client_us:.0f} | {run.lag_ms:.2f} | {run.memory_mib:.0f} |",
        flush=True,
    )
    return run


def _slices(run: OpenLoopRun) -> None:
    print("| second | offered/s | goodput/s | p50 ms | p99 ms | refused | told in p99 ms | late | failed |")
    print("|--:" * 9 + "|")
    width = run.seconds / _SLICES
    for i in range(_SLICES):
        o = run.outcome(after=i * width, until=(i + 1) * width)
        print(
            f"| {i * width:.0f}–{(i + 1) * width:.0f} | {o.offered / width:.0f} | {o.goodput:.0f} "
            f"| {o.latency_ms(50):.1f} | {o.latency_ms(99):.1f} | {len(o.refused)} | {o.refusal_ms(99):.1f} "
            f"| {o.late} | {o.failed} |",
            flush=True,
        )
    print(
        f"\nserver {run.server_us:.0f} µs, client {run.client_us:.0f} µs of CPU a request; {run.memory_mib:.0f} MB; "
        f"requests left at most {run.lag_ms:.2f} ms late (p99); others used {run.other_cores:.2f} cores"
    )


def _end(runs: Sequence[OpenLoopRun]) -> None:
    print("\n~: others used more than 0.2 cores meanwhile")
    for run in runs:
        print(f"{run.verified}")


def _run(
    running: Running,
    options: argparse.Namespace,
    stretches: Sequence[Stretch],
    seed: int = 1,
    *,
    check: bool = True,
) -> OpenLoopRun:
    [(tenant, key)] = running.keys.items()
    caller = Caller(tenant, key, options.deadline_ms / 1000)
    return run_open_loop(
        running,
        options.model,
        [RequestStream(caller, stretches)],
        cpus=options.clients,
        seed=seed,
        check=check,
    )
