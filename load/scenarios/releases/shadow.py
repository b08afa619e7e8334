"""`shadow`: what a shadow that gets far more than it can run costs the live arm. At half the peak, open loop.

The shadow runs the heavy model for every request. Windows without a shadow, with it, and without it again take turns: the two
without show how much figures differ by themselves (A/A). What the shadow ran and what was dropped is in its own report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.api.router.v1 import router_pb2 as pb
from headrace.api.router.v1 import shadow_pb2
from headrace.cli.installation import layout
from headrace.comparison import ComparisonReport, merged
from headrace.comparison.messages import read_report
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Fault
from load.generator.arrivals import steady
from load.generator.load_generator import Caller
from load.generator.open_loop import RequestStream, run_open_loop
from load.scenarios.overload import OverloadSettings, find_peak
from load.systems.headrace import Running, Setup, configuration, headrace
from load.systems.releases import ReleaseSwitch

_PIPELINE, _ARM = "flights", "heavy"
_DEADLINE_S = 1.0
_ALLOWED = 0.15
_HEAD = "| pair | p50 ms off, on, off | p99 ms off, on, off | failed | others' cores |\n|--:|---|---|--:|--:|"
_REPORT = unary(
    pb.DESCRIPTOR,
    "RouterService",
    "GetShadowReport",
    shadow_pb2.GetShadowReportRequest,
    shadow_pb2.GetShadowReportResponse,
    idempotent=True,
)


@dataclass(frozen=True, slots=True)
class Window:
    """Latencies of one window in ms, requests that failed, cores that others used."""

    p50: float
    p99: float
    failed: int
    other_cores: float


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if the live arm suffers more than it may."""
    setup = Setup(options.home, "apart", options.servers)
    everyone = frozenset(os.sched_getaffinity(0))
    with headrace(setup) as running:
        print(configuration(setup), flush=True)
        rules = OverloadSettings("flights", _DEADLINE_S, 3.0, 1, options.clients or everyone)
        peak = options.peak or find_peak(running, rules)
        rate = peak * options.part
        print(
            f"peak {peak:.0f}/s; {rate:.0f}/s sent; {options.pairs} pairs of windows of {options.seconds:g} s\n"
        )
        shadows = _Switch(options.home)
        pairs: list[list[Window]] = []
        try:
            print(_HEAD, flush=True)
            pairs.extend(_pair(running, shadows, rate, options, n) for n in range(options.pairs))
        finally:
            shadows.set(on=False)
            report = shadows.report()
        _told(pairs, report, rate * options.seconds * len(pairs))


def _pair(
    running: Running, shadows: _Switch, rate: float, options: argparse.Namespace, number: int
) -> list[Window]:
    windows = []
    for turn, on in enumerate((False, True, False)):
        shadows.set(on=on)
        windows.append(window(running, rate, options, seed=number * 3 + turn))
    p50 = ", ".join(f"{w.p50:.2f}" for w in windows)
    p99 = ", ".join(f"{w.p99:.2f}" for w in windows)
    failed, others = sum(w.failed for w in windows), max(w.other_cores for w in windows)
    print(f"| {number + 1} | {p50} | {p99} | {failed} | {others:.2f} |", flush=True)
    return windows


def window(running: Running, rate: float, options: argparse.Namespace, seed: int) -> Window:
    """Requests at this rate for the options' `seconds`, from the cores `clients`."""
    caller = Caller("load", running.keys["load"], _DEADLINE_S)
    stream = RequestStream(caller, steady(rate, options.seconds))
    done = run_open_loop(running, "flights", [stream], cpus=options.clients, seed=seed, check=False)
    outcome = done.outcome()
    failed = outcome.offered - outcome.good
    return Window(outcome.latency_ms(50), outcome.latency_ms(99), failed, done.other_cores)


def _told(pairs: Sequence[Sequence[Window]], report: ComparisonReport | None, offered: float) -> None:
    """`offered`: rows that were copied."""
    print("\n" + verdict(pairs))
    if report is None or not report.rows:
        print("no row has run on the shadow")
        return
    live, shadow = report.live_seconds.quantile(0.5) * 1e3, report.shadow_seconds.quantile(0.5) * 1e3
    print(
        f"shadow: {offered:.0f} rows copied, {report.rows} run: {offered / report.rows:.1f} times what it ran; "
        f"dropped {json.dumps(report.dropped)}, the others wait; p50 of a row {live:.2f} ms live, {shadow:.2f} ms shadow"
    )


def verdict(pairs: Sequence[Sequence[Window]], what: str = "the shadow") -> str:
    """In words: the p99 with a shadow (or `what`) against those without, beside the spread of those without."""
    ratios = [on.p99 / statistics.mean((before.p99, after.p99)) for before, on, after in pairs]
    spread = [max(before.p99, after.p99) / min(before.p99, after.p99) for before, _, after in pairs]
    typical, apart = statistics.median(ratios), statistics.median(spread)
    told = (
        f"p99 with {what} is {typical:.2f} times that without (median of {len(pairs)}; "
        f"{min(ratios):.2f} to {max(ratios):.2f}); without, two windows differ by a factor of {apart:.2f} "
        f"(median; up to {max(spread):.2f})"
    )
    if typical > 1 + _ALLOWED and typical > apart:
        return f"{told}: TOO MUCH, {1 + _ALLOWED:.2f} or the spread is allowed"
    return f"{told}: well within what is allowed"


class _Switch:
    """Turns the shadow on and off."""

    def __init__(self, home: Path) -> None:
        self._releases = ReleaseSwitch(home, _PIPELINE)
        place = layout.of(home)
        self._target = f"unix-dir:{place.listed('router')}"
        text = _document(place.pipelines / _PIPELINE / "pipeline.yaml")
        self._arm = self._releases.arm(text, {"flights_heavy": "1"})

    def set(self, *, on: bool) -> None:
        """Commits a release with the shadow, or without."""
        shadow = {"arm": _ARM, "share": 1.0} if on else None
        self._releases.commit("shadow", arms={_ARM: self._arm}, shadow=shadow)

    def report(self) -> ComparisonReport | None:
        """Of all windows with a shadow together."""
        found = asyncio.run(self._reports())
        for report in found:
            report.release = 0
        whole = merged(found)
        return whole[0] if whole else None

    async def _reports(self) -> list[ComparisonReport]:
        client = Client("router", ClientRules(self._target))
        request = shadow_pb2.GetShadowReportRequest(pipeline=_PIPELINE)
        try:
            replies = await client.each(_REPORT)(request, deadline=time.monotonic() + 5)
        finally:
            await client.close()
        return [
            read_report(m) for r in replies if not isinstance(r, Fault) for m in r.reports if m.arm == _ARM
        ]


def _document(path: Path) -> str:
    """The pipeline's document with the heavy model in place of the light one."""
    return path.read_text().replace("name: flights_light", "name: flights_heavy")
