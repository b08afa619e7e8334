"""What runs beside the answers, and what it costs them: windows at a part of the peak without it, with it, and without it again.

The two without show how much figures differ by themselves (A/A).
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from load.generator.arrivals import steady
from load.generator.load_generator import Caller
from load.generator.open_loop import RequestStream, run_open_loop
from load.scenarios.overload import OverloadSettings, find_peak
from load.systems.headrace import Running, Setup, configuration, headrace

PIPELINE = "flights"
_DEADLINE_S = 1.0
_ALLOWED = 0.15
_HEAD = "| pair | p50 ms off, on, off | p99 ms off, on, off | failed | others' cores |\n|--:|---|---|--:|--:|"


@dataclass(frozen=True, slots=True)
class Window:
    """Latencies of one window in ms, requests that failed, cores that others used."""

    p50: float
    p99: float
    failed: int
    other_cores: float


@contextmanager
def at_part_of_peak(options: argparse.Namespace) -> Iterator[tuple[Running, float]]:
    """A running headrace, and the requests a second of its windows."""
    setup = Setup(options.home, "apart", options.servers)
    with headrace(setup) as running:
        print(configuration(setup), flush=True)
        clients = options.clients or frozenset(os.sched_getaffinity(0))
        peak = options.peak or find_peak(running, OverloadSettings(PIPELINE, _DEADLINE_S, 3.0, 1, clients))
        rate = peak * options.part
        print(
            f"peak {peak:.0f}/s; {rate:.0f}/s sent; {options.pairs} pairs of windows of {options.seconds:g} s\n"
        )
        yield running, rate


def in_turns(
    running: Running, rate: float, options: argparse.Namespace, switch: Callable[[bool], None]
) -> list[list[Window]]:
    """Prints a line a pair. `switch`: turns on or off what is measured; it is off at the end."""
    pairs: list[list[Window]] = []
    print(_HEAD, flush=True)
    try:
        for number in range(options.pairs):
            windows = []
            for turn, on in enumerate((False, True, False)):
                switch(on)
                windows.append(_window(running, rate, options, seed=number * 3 + turn))
            pairs.append(windows)
            p50 = ", ".join(f"{w.p50:.2f}" for w in windows)
            p99 = ", ".join(f"{w.p99:.2f}" for w in windows)
            failed, others = sum(w.failed for w in windows), max(w.other_cores for w in windows)
            print(f"| {number + 1} | {p50} | {p99} | {failed} | {others:.2f} |", flush=True)
    finally:
        switch(False)
    return pairs


def _window(running: Running, rate: float, options: argparse.Namespace, seed: int) -> Window:
    caller = Caller("load", running.keys["load"], _DEADLINE_S)
    stream = RequestStream(caller, steady(rate, options.seconds))
    done = run_open_loop(running, PIPELINE, [stream], cpus=options.clients, seed=seed, check=False)
    outcome = done.outcome()
    failed = outcome.offered - outcome.good
    return Window(outcome.latency_ms(50), outcome.latency_ms(99), failed, done.other_cores)


def verdict(pairs: Sequence[Sequence[Window]], what: str) -> str:
    """In words: the p99 with `what` against those without, beside the spread of those without."""
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
