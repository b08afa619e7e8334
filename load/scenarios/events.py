"""`events-throughput`: what events of predictions cost a whole system: requests per second and CPU with and without, in turns.

Two homes run at once, so that a pair of windows is seconds apart and a slower machine slows both. `--off nothing` compares a
system with itself (A/A), which says how much figures differ by chance; `--off monitoring` also takes away the counts that routers
report.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from load.generator.closed_loop import drive
from load.scenarios.closed import pipeline_target
from load.scenarios.pairs import compare
from load.systems.headrace import Setup, configuration, headrace, prepare

# Settings of the router of the system without.
OFF: dict[str, dict[str, Any]] = {
    "events": {"events": {"enabled": False}},
    "monitoring": {"events": {"enabled": False}, "monitoring": None},
    "nothing": {},
}
_AT_LEAST = 0.97


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if events cost too much."""
    prepare(options.home)
    with_them = Setup(options.home, options.shape)
    without = replace(with_them, home=_copied(options.home), router=OFF[options.off])
    with headrace(with_them) as on, headrace(without) as off:
        print(f"{configuration(on.setup)}; without: {options.off}", flush=True)
        targets = {True: pipeline_target(on), False: pipeline_target(off)}
        compare(
            options.pairs,
            lambda enabled, seed: drive(targets[enabled], options.at_once, options.seconds, seed),
            options.off,
            _AT_LEAST,
        )


def _copied(home: Path) -> Path:
    """A second home with the same data, models and secrets. What ran in the first is not in it."""
    other = home.with_name(f"{home.name}-beside")
    if not other.exists():
        shutil.copytree(home, other, ignore=shutil.ignore_patterns("run", "monitoring", "journal", "*.lock"))
    return other
