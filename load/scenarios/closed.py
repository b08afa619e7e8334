"""Systems in a closed loop over concurrency, in turns. The table gives medians; ratios are to the first system of the run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.hop.errors import Code
from load.generator.closed_loop import Figures, Target, drive
from load.generator.flight_requests import rows, rows_message
from load.generator.verification import verify
from load.systems.headrace import Running
from load.systems.processes import pss_mib

HEAD = (
    "| system | c | req/s [least–most] | × {} | p50 ms | p99 ms | server CPU µs/req | client | failed | PSS MB |\n"
    "|---|" + "--:|" * 9
)

_CODES = {int(code): code.name for code in Code}


@dataclass
class Point:
    """Runs of one system at one concurrency."""

    runs: list[Figures] = field(default_factory=list)

    def median(self, what: Callable[[Figures], float]) -> float:
        return statistics.median(what(f) for f in self.runs)

    @property
    def rate(self) -> float:
        return self.median(lambda f: f.rate)

    @property
    def failed(self) -> int:
        """Requests of all runs that were not answered."""
        return sum(f.failed for f in self.runs)

    def answered(self) -> bool:
        """In each run."""
        return all(f.rate for f in self.runs)

    def speed(self) -> str:
        """Requests/s [least–most], `~` if others used more than 0.2 cores meanwhile."""
        rates = [f.rate for f in self.runs]
        busy = " ~" if self.median(lambda f: f.other_cores) > 0.2 else ""
        return f"{self.rate:.0f} [{min(rates):.0f}–{max(rates):.0f}]{busy}"

    def latency(self) -> str:
        """p50 and p99 in ms, as two columns."""
        return f"{self.median(lambda f: f.p50_us) / 1e3:.2f} | {self.median(lambda f: f.p99_us) / 1e3:.2f}"

    def codes(self) -> str:
        """What they were told, such as `INVALID_ARGUMENT 12`; PENDING: nothing."""
        total = sum((Counter(f.codes) for f in self.runs), Counter[int]())
        return ", ".join(f"{_CODES.get(code, 'PENDING')} {n}" for code, n in total.most_common())


@dataclass
class Result:
    """Of one system: its points by concurrency, memory of its processes in MiB (PSS)."""

    points: dict[int, Point]
    memory_mib: float


def in_turns(
    targets: Mapping[str, Target], concurrencies: Sequence[int], runs: int, seconds: float
) -> dict[str, Result]:
    """Several systems that run at once, asked one after another in each of the rounds: a machine whose speed changes within
    minutes does so for all of them. Each point `runs` times, after one that is thrown away."""
    points = {name: {c: Point() for c in concurrencies} for name in targets}
    for at_once in concurrencies:
        print(f"c = {at_once}: {runs} rounds of {len(targets)} systems", flush=True)
        for target in targets.values():
            drive(target, at_once, 1.0, seed=0)
        for i in range(runs):
            order = list(targets.items())
            for name, target in order if i % 2 == 0 else reversed(order):
                points[name][at_once].runs.append(drive(target, at_once, seconds, seed=i + 1))
    return {name: Result(points[name], pss_mib(target.pids)) for name, target in targets.items()}


def line(name: str, at_once: int, result: Result, base: Result) -> str:
    """A line of the table. A point at which most requests failed has no figures worth showing."""
    point = result.points[at_once]
    if not point.answered():
        told = f"no answers ({point.codes()})"
        return f"| {name} | {at_once} | {told} | | | | | | {point.failed} | {result.memory_mib:.0f} |"
    against = base.points[at_once].rate
    ratio = f"{point.rate / against:.2f}" if against else "–"
    return (
        f"| {name} | {at_once} | {point.speed()} | {ratio} | {point.latency()} "
        f"| {point.median(lambda f: f.server_us):.0f} | {point.median(lambda f: f.client_us):.0f} | {point.failed} "
        f"| {result.memory_mib:.0f} |"
    )


def pipeline_target(running: Running, pipeline: str = "flights", each: int = 1) -> Target:
    """Ours, asked for whole rows, `each` at a time."""
    home, feast = running.setup.home, running.setup.feast
    asked = rows(home)
    [key] = running.keys.values()
    starts = range(0, len(asked) - each + 1, each)
    return Target(
        running.target,
        [rows_message(pipeline, asked[i : i + each]) for i in starts],
        key,
        running.pids,
        lambda replies: verify(home, feast, pipeline, asked, replies, each),
    )
