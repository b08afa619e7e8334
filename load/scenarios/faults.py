"""`faults`: what is lost while each service in turn is killed, stopped, or restarted, at a part of the peak load.

Without retries of the client. Killed: kill -9, and the supervisor does the rest. Stopped: SIGSTOP for some seconds, then
SIGCONT, as a process that hangs. Restarted: `headrace restart`.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.cli.installation import layout
from headrace.cli.installation import services as installed
from headrace.cli.supervision import control, daemon
from load.generator.flight_requests import infer_message, rows
from load.generator.poisson_client import PoissonClient, RequestResult
from load.scenarios.overload import OverloadSettings, find_peak
from load.systems.headrace import Running, Setup, configuration, headrace
from load.systems.processes import OtherWork

_CALM_S, _STOPPED_S, _LONGEST_S, _RESTART_S = 3.0, 5.0, 30.0, 300.0
# A fault is over when no request was hit for so long.
_QUIET_S = 2.0
# The pipeline allows a request one second; the client waits longer, so that it gets the pipeline's answer.
_DEADLINE_S = 2.0
_COLUMNS = (
    "fault", "service", "asked", "failed", "refused", "fell back", "codes", "told in p50 ms", "longest ms",
    "last one hit came, s after the fault's begin", "after its end", "p99 ms before", "afterwards",
)  # fmt: skip
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * 2}{'|--:' * 4}|---{'|--:' * 6}|"


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a service, when it began and when it had ended (monotonic)."""

    began: float
    ended: float


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    setup = Setup(options.home, options.shape, options.servers)
    with headrace(setup) as running:
        print(configuration(setup), flush=True)
        known = calm_messages(running, options.home)
        peak = options.peak or measured_peak(running, frozenset(os.sched_getaffinity(0)))
        rate = peak * options.part
        print(
            f"peak {peak:.0f}/s; {rate:.0f}/s sent by Poisson arrivals; "
            f"{len(known)} rows that need no fallback while all is well\n"
        )
        print(_HEAD, flush=True)
        for fault in options.faults:
            for service in services(fault, options):
                print(line(fault, service, running, known, rate), flush=True)
    print("\n~: others used more than 0.2 cores meanwhile")


def services(fault: str, options: argparse.Namespace) -> Sequence[str]:
    """Which ones: those that have a process. An ingress that is stopped answers nobody, which tells nothing."""
    there = installed.start_order() if options.shape == "apart" else (installed.INGRESS,)
    wanted = [s for s in there if not options.services or s in options.services]
    return [s for s in wanted if not (fault == "stop" and s == installed.INGRESS)]


def calm_messages(running: Running, home: Path) -> list[bytes]:
    """Requests that need no fallback without a fault, so that each later fallback is caused by the fault."""
    [key] = running.keys.values()
    messages = [infer_message("flights", row) for row in rows(home)[:1000]]
    with PoissonClient(running.target, key, messages, 300.0, _DEADLINE_S) as sending:
        began = time.monotonic()
        while len(sending.since(began)) < len(messages):
            time.sleep(0.1)
        ended = sending.since(began)[: len(messages)]
    hit = {e.number % len(messages) for e in ended if e.hit}
    if len(hit) > len(messages) / 2:
        raise SystemExit(
            f"{len(hit)} of {len(messages)} requests fail or fall back although nothing was done yet"
        )
    return [m for i, m in enumerate(messages) if i not in hit]


def measured_peak(running: Running, clients: frozenset[int]) -> float:
    """The highest goodput at any rate, as `overload` finds it."""
    peak = find_peak(running, OverloadSettings("flights", _DEADLINE_S, 3.0, 1, clients))
    print()
    return peak


def line(fault: str, service: str, running: Running, messages: Sequence[bytes], rate: float) -> str:
    """One fault of one service, as a line of the table."""
    [key] = running.keys.values()
    others = OtherWork(running.pids)
    with PoissonClient(running.target, key, messages, rate, _DEADLINE_S) as sending:
        calm = time.monotonic()
        time.sleep(_CALM_S)
        done = FAULTS[fault](running.setup.home, service)
        _wait_until_well(sending, done)
        end = time.monotonic()
        sending_ended = sending.since(calm)
    before = [e for e in sending_ended if e.due < done.began - _DEADLINE_S / 2]
    during = [e for e in sending_ended if e.due >= done.began - _DEADLINE_S and e.due + e.took >= done.began]
    after = [e for e in sending_ended if e.due >= end - _QUIET_S]
    busy = " ~" if others.cores() > 0.2 else ""
    return (
        f"| {fault} | {service}{busy} | {told(done, during)} | {_p99_ms(before):.0f} | {_p99_ms(after):.0f} |"
    )


def told(done: Fault, during: Sequence[RequestResult]) -> str:
    """What became of the requests from the fault on: the columns `asked` to `after its end`."""
    failed = [e for e in during if e.failed]
    hit = [e for e in during if e.hit]
    codes = ", ".join(f"{code.name} {n}" for code, n in Counter(e.code for e in failed).most_common()) or "–"
    last = max((e.due for e in hit), default=math.nan)
    took = sorted(e.took * 1000 for e in failed)
    times = f"{statistics.median(took):.0f} | {took[-1]:.0f}" if took else "– | –"
    until = "– | –" if math.isnan(last) else f"{last - done.began:.1f} | {max(last - done.ended, 0):.1f}"
    refused, fell_back = sum(e.refused for e in during), sum(e.fell_back for e in during)
    return f"{len(during)} | {len(failed)} | {refused} | {fell_back} | {codes} | {times} | {until}"


def _wait_until_well(sending: PoissonClient, done: Fault) -> None:
    """Waits until no request is hit, at most half a minute; the times in the table show it."""
    give_up = time.monotonic() + _LONGEST_S
    while time.monotonic() < give_up:
        now = time.monotonic()
        recent = sending.since(now - _QUIET_S)
        if now - done.ended > _QUIET_S and recent and not any(e.hit for e in recent):
            return
        time.sleep(0.1)


def _kill(home: Path, service: str) -> Fault:
    pid, began = _pid(home, service), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return Fault(began, began)


def _stop(home: Path, service: str) -> Fault:
    pid, began = _pid(home, service), time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(_STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    return Fault(began, time.monotonic())


def _restart(home: Path, service: str) -> Fault:
    began = time.monotonic()
    control.ask(layout.of(home).control, {"do": "restart", "service": service}, _RESTART_S)
    return Fault(began, time.monotonic())


FAULTS: dict[str, Callable[[Path, str], Fault]] = {"kill": _kill, "stop": _stop, "restart": _restart}


def _pid(home: Path, service: str) -> int:
    return int(daemon.status(layout.of(home))["services"][service]["pid"])


def _p99_ms(ended: Sequence[RequestResult]) -> float:
    times = sorted(e.took for e in ended)
    return times[min(int(0.99 * len(times)), len(times) - 1)] * 1000 if times else math.nan
