"""`closed`: closed loop over concurrency, this build against itself with coalescing off, in one run.

The table gives medians; ratios are to the first system of the run. A run that perf_analyzer ends early (it takes any
failed request for the end) gives no figures; the table says how many did, and why.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field

from load.driving import Drive, DriveError, Figures, drive
from load.measuring import OtherWork, Sampler, pss_mib, turn
from load.peers import peer, redis_server
from load.rows import perf_analyzer_inputs, rows
from load.systems import Setup, configuration, headrace


@dataclass
class Point:
    """Runs of one system at one concurrency. `failures`: why runs ended without figures."""

    figures: list[Figures] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    other_cores: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self) -> tuple[float, float, float, float]:
        """Rate, p50 µs, p99 µs, server CPU µs per request."""
        return (
            statistics.median(f.rate for f in self.figures),
            statistics.median(f.p50_us for f in self.figures),
            statistics.median(f.p99_us for f in self.figures),
            statistics.median(self.cpu_us),
        )


def measure(
    system: tuple[Drive, set[int]], concurrencies: list[int], runs: int
) -> tuple[dict[int, Point], float]:
    """Figures by concurrency (a first run is thrown away), and the memory of the processes in MiB (PSS).

    Runs that fail are noted in their point.
    """
    what, pids = system
    points: dict[int, Point] = {}
    for concurrency in concurrencies:
        point = points[concurrency] = Point()
        for i in range(runs + 1):
            with turn():
                others = OtherWork(pids)
                try:
                    with Sampler(pids) as sampler:
                        figures = drive(what, concurrency) if i else drive(what, concurrency, window_ms=400)
                except DriveError as error:
                    # The other runs and points are worth having: one request past its deadline ends a whole run.
                    point.failures.append(error.reason)
                    continue
                other_cores = others.cores()
            if i:
                point.figures.append(figures)
                point.cpu_us.append(sampler.cores() / figures.rate * 1e6)
                point.other_cores.append(other_cores)
    return points, pss_mib(pids)


def print_table(name: str, points: dict[int, Point], memory: float, base: dict[int, Point] | None) -> None:
    for concurrency, point in points.items():
        if not point.figures:
            print(
                f"| {name} | {concurrency} | failed: {point.failures[-1]} | | | | | {memory:.0f} |",
                flush=True,
            )
            continue
        rate, p50, p99, cpu = point.median()
        against = base.get(concurrency) if base else point
        ratio = f"{rate / against.median()[0]:.2f}" if against and against.figures else "–"
        spread = f"[{min(f.rate for f in point.figures):.0f}–{max(f.rate for f in point.figures):.0f}]"
        spread += " ~" if statistics.median(point.other_cores) > 0.2 else ""
        lost = f", {len(point.failures)} failed: {point.failures[-1]}" if point.failures else ""
        print(
            f"| {name} | {concurrency} | {rate:.0f} {spread}{lost} | {ratio} | {p50 / 1e3:.2f} | {p99 / 1e3:.2f} "
            f"| {cpu:.0f} | {memory:.0f} |",
            flush=True,
        )


def run(options: argparse.Namespace) -> None:
    """`closed`."""
    print(configuration(Setup(options.home, options.shape)))
    print("closed loop, perf_analyzer on the same cores; 50,000 different flights\n")
    print(
        "| system | c | req/s | × base | p50 ms | p99 ms | CPU µs/req | PSS MB |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    base = None
    if options.reference:
        with (
            redis_server(options.reference, options.home),
            peer(options.reference, "pipeline", "ref_chain", options.home) as system,
        ):
            base, memory = measure(system, options.conc, options.runs)
        print_table("naive chain", base, memory, base)
    for name, coalescing in (("coalescing off", False), ("headrace", True)):
        setup = Setup(options.home, options.shape, coalescing=coalescing)
        with headrace(setup) as running:
            inputs = perf_analyzer_inputs(rows(options.home), options.home / "data" / "perf_analyzer.json")
            [key] = running.keys.values()
            what = Drive(running.target, "flights", inputs, key)
            points, memory = measure((what, set(running.pids)), options.conc, options.runs)
        base = base or points
        print_table(f"{name}, {options.shape}", points, memory, base)
