"""`events-throughput`: what events of predictions cost a whole system: requests per second and CPU with and without, in turns.

Two homes run at once, so that a pair of windows is seconds apart and a slower machine slows both. `--off nothing` compares a
system with itself (A/A), which says how much figures differ by chance; `--off monitoring` also takes away the counts that routers
report.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from load.generator.closed_loop import Figures, drive
from load.scenarios.closed import pipeline_target
from load.systems.headrace import Setup, configuration, headrace, prepare

# Settings of the router of the system without.
OFF: dict[str, dict[str, Any]] = {
    "events": {"events": {"enabled": False}},
    "monitoring": {"events": {"enabled": False}, "monitoring": None},
    "nothing": {},
}
_AT_LEAST = 0.97
_HEAD = "| pair | req/s without, with | ratio | CPU µs without, with | failed | others' cores |\n|--:|---|--:|---|--:|--:|"


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if events cost too much."""
    prepare(options.home)
    with_them = Setup(options.home, options.shape)
    without = replace(with_them, home=_copied(options.home), router=OFF[options.off])
    with headrace(with_them) as on, headrace(without) as off:
        print(f"{configuration(on.setup)}; without: {options.off}", flush=True)
        targets = {True: pipeline_target(on), False: pipeline_target(off)}
        pairs: list[tuple[Figures, Figures]] = []
        print(_HEAD, flush=True)
        for number in range(options.pairs):
            found = {}
            for which in (False, True) if number % 2 else (True, False):
                found[which] = drive(targets[which], options.at_once, options.seconds, seed=number)
            pairs.append((found[False], found[True]))
            _row(number + 1, *pairs[-1])
    _told(pairs, options.off)


def _copied(home: Path) -> Path:
    """A second home with the same data, models and secrets. What ran in the first is not in it."""
    other = home.with_name(f"{home.name}-beside")
    if not other.exists():
        shutil.copytree(home, other, ignore=shutil.ignore_patterns("run", "monitoring", "journal", "*.lock"))
    return other


def _row(number: int, off: Figures, on: Figures) -> None:
    others = max(off.other_cores, on.other_cores)
    print(
        f"| {number} | {off.rate:.0f}, {on.rate:.0f} | {on.rate / off.rate:.3f} | {off.server_us:.0f}, {on.server_us:.0f} "
        f"| {off.failed + on.failed} | {others:.2f} |",
        flush=True,
    )


def _told(pairs: Sequence[tuple[Figures, Figures]], off: str) -> None:
    ratios = sorted(on.rate / without.rate for without, on in pairs)
    ratio = statistics.median(ratios)
    cpu = statistics.median(on.server_us / without.server_us for without, on in pairs)
    failed = sum(without.failed + on.failed for without, on in pairs)
    said = (
        f"with it: {ratio:.3f} of the throughput without {off} ({ratios[0]:.3f} to {ratios[-1]:.3f}; at least {_AT_LEAST:g} is"
        f" expected), {cpu:.3f} of the CPU per answer, {failed} failed"
    )
    if ratio < _AT_LEAST:
        raise SystemExit(said)
    print(said)
