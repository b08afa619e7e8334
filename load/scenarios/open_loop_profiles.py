"""The open-loop profiles: steady rates, a soak."""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headrace.cli.installation import layout, services
from load.generator.load_generator import Caller
from load.generator.open_loop import OpenLoopRun, RequestStream, run_open_loop
from load.systems.headrace import Running, Setup, command, configuration, found_running, headrace, prepare
from load.systems.processes import pss_mib

# The model that a soak swaps, and the version that is a copy of its first one.
_MODEL, _COPY = "flights_light", "2"
# A soak sends its requests in parts of this length; after each, the memory is read.
_SOAK_STEP_S = 30.0
# How soon the callers cancel who do.
_CANCELLED_S = 0.003
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
        runs = [_line(running, options, f"{r}", r, options.seconds) for r in options.rates]
    _end(runs)


def soaked(options: argparse.Namespace) -> None:
    """`soak`: one rate for minutes. Memory must not grow, and no request may fail. `--disturb`: meanwhile services are restarted,
    versions swapped, and other callers cancel what they have just sent."""
    setup = _setup(options)
    memory: list[float] = []
    failures, offered = 0, 0
    if options.disturb:
        prepare(options.home)
    with headrace(setup) as running:
        if options.disturb:
            _copy_model(options.home)
        _begin(setup, options, running)
        print(_HEAD.format("minute"), flush=True)
        runs = []
        for i in range(max(round(options.minutes * 60 / _SOAK_STEP_S), 1)):
            minute = f"{(i + 1) * _SOAK_STEP_S / 60:.1f}"
            with ThreadPoolExecutor() as pool:
                done = pool.submit(_disturb, options, i) if options.disturb else None
                run = _line(running, options, minute, options.rate, _SOAK_STEP_S, seed=i)
            if done:
                done.result()
                running = found_running(setup, running.keys)
            runs.append(run)
            outcome = run.outcome("load")
            failures, offered = failures + outcome.offered - outcome.good, offered + outcome.offered
            memory.append(pss_mib(running.pids))
    _end(runs)
    # A service that was just restarted has less: compared is what is as long after the same one's restart.
    cycle = 2 * (len(services.start_order()) - 1) if options.disturb else 1
    print(soak_verdict(failures, offered, memory, cycle))


def _copy_model(home: Path) -> None:
    """The model's file as another version, if that is not there yet; of a home that is up."""
    models = layout.of(home).models / _MODEL
    if not (models / _COPY).exists():
        [file] = sorted((models / "1").glob("*.onnx"))
        command(home, "models", "add", _MODEL, str(file), "--version", _COPY, "--yes")


def _disturb(options: argparse.Namespace, number: int) -> None:
    """Restarts the next service, or has the other one of two equal versions of a model take over."""
    if number % 2:
        version = _COPY if number % 4 == 1 else "1"
        command(options.home, "release", "deploy", options.model, "--models", f"{_MODEL}={version}", "--yes")
    else:
        restarted = [name for name in services.start_order() if name != services.INGRESS]
        command(options.home, "restart", restarted[number // 2 % len(restarted)], "--yes")


def soak_verdict(failures: int, offered: int, memory: Sequence[float], cycle: int = 1) -> str:
    """What a soak showed, in words. `memory`: MB after each stretch; `cycle`: as of `growth`."""
    settled = memory[len(memory) // 5 :]
    grew = growth(memory, cycle) * (len(settled) - 1)
    told = (
        f"{failures} of {offered} without an answer in time; memory {memory[0]:.0f} to {memory[-1]:.0f} MB, "
        f"by its trend without the first fifth {grew:+.1f} MB"
    )
    if failures:
        return f"{told}: FAILED, none may be lost"
    if grew > _FLAT * statistics.mean(settled):
        return f"{told}: FAILED, at most {_FLAT:.0%} is flat"
    return f"{told}: flat, and no error"


def growth(memory: Sequence[float], cycle: int = 1) -> float:
    """From one stretch to the next without the first fifth, in which caches and pools are filled; by the median of all pairs'
    (Theil and Sen): an outlier does not bend it. `cycle`: pairs are a multiple of so many stretches apart."""
    pairs = itertools.combinations(enumerate(memory[len(memory) // 5 :]), 2)
    return statistics.median([(b - a) / (j - i) for (i, a), (j, b) in pairs if (j - i) % cycle == 0] or [0.0])


def _setup(options: argparse.Namespace) -> Setup:
    return Setup(options.home, options.shape, options.servers)


def _begin(setup: Setup, options: argparse.Namespace, running: Running) -> None:
    print(configuration(setup))
    where = f"core {', '.join(map(str, sorted(options.clients)))}" if options.clients else "any core"
    print(
        f"{options.model}, open loop, client on {where}, deadline {options.deadline_ms:.0f} ms\n", flush=True
    )
    # The first seconds of a system are not measured.
    _run(running, options, 200.0, 3.0, check=False)


def _line(
    running: Running, options: argparse.Namespace, label: str, rate: float, seconds: float, seed: int = 1
) -> OpenLoopRun:
    run = _run(running, options, rate, seconds, seed)
    o = run.outcome("load")
    busy = " ~" if run.other_cores > 0.2 else ""
    print(
        f"| {label}{busy} | {o.offered / o.seconds:.0f} | {o.goodput:.0f} | {o.latency_ms(50):.2f} "
        f"| {o.latency_ms(99):.2f} | {len(o.refused)} | {o.late} | {o.failed} | {run.server_us:.0f} "
        f"| {run.client_us:.0f} | {run.lag_ms:.2f} | {run.memory_mib:.0f} |",
        flush=True,
    )
    return run


def _end(runs: Sequence[OpenLoopRun]) -> None:
    print("\n~: others used more than 0.2 cores meanwhile")
    for run in runs:
        print(f"{run.verified}")


def _run(
    running: Running,
    options: argparse.Namespace,
    rate: float,
    seconds: float,
    seed: int = 1,
    *,
    check: bool = True,
) -> OpenLoopRun:
    key, deadline_s = running.keys["load"], options.deadline_ms / 1000
    streams = [RequestStream(Caller("load", key, deadline_s), rate, seconds)]
    if getattr(options, "disturb", False):
        hasty = Caller("hasty", key, deadline_s, _CANCELLED_S - deadline_s)
        streams.append(RequestStream(hasty, options.rate / 10, seconds))
    return run_open_loop(running, options.model, streams, cpus=options.clients, seed=seed, check=check)
