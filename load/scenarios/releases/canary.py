"""`canary`: what a second version with a small share of the rows costs: throughput and CPU with it and without, in turns.

The candidate is a copy of the light model as a version of its own, so it costs what it costs to keep two arms apart.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from headrace.cli.installation import layout
from headrace.releases import LIVE
from headrace.releases.document import Assignment
from load.generator.closed_loop import Figures, drive
from load.scenarios.closed import pipeline_target
from load.systems.headrace import Setup, command, configuration, headrace, prepare
from load.systems.releases import ReleaseSwitch

_PIPELINE, _MODEL, _ARM = "flights", "flights_light", "candidate"
_VERSION = "2"
_AT_LEAST = 0.85
_HEAD = "| pair | req/s without, with | ratio | CPU µs without, with | failed | others' cores |\n|--:|---|--:|---|--:|--:|"


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if a canary costs too much."""
    prepare(options.home)
    _copied(options.home)
    with headrace(Setup(options.home, options.shape)) as running:
        print(configuration(running.setup), flush=True)
        switch = ReleaseSwitch(options.home, _PIPELINE)
        live = switch.current().arms[LIVE]
        candidate = live.model_copy(update={"models": {**live.models, _MODEL: _VERSION}})

        def weighed(share: float) -> None:
            assign = Assignment(weights={LIVE: 1 - share, _ARM: share}, salt="load")
            switch.commit(f"{share:.0%} canary", arms={_ARM: candidate}, assign=assign)

        target = pipeline_target(running)
        pairs: list[tuple[Figures, Figures]] = []
        print(_HEAD, flush=True)
        try:
            for number in range(options.pairs):
                found = {}
                for share in (0.0, options.share) if number % 2 else (options.share, 0.0):
                    weighed(share)
                    found[share] = drive(target, options.at_once, options.seconds, seed=number)
                pairs.append((found[0.0], found[options.share]))
                _row(number + 1, *pairs[-1])
        finally:
            switch.commit("no canary", arms={}, assign=Assignment(weights={LIVE: 1.0}, salt="load"))
    _told(pairs)


def _copied(home: Path) -> None:
    """The model's newest file as another version, if that is not there yet."""
    models = layout.of(home).models / _MODEL
    if not (models / _VERSION).exists():
        [file] = sorted((models / "1").glob("*.onnx"))
        command(home, "models", "add", _MODEL, str(file), "--version", _VERSION, "--yes")


def _row(number: int, off: Figures, on: Figures) -> None:
    others = max(off.other_cores, on.other_cores)
    print(
        f"| {number} | {off.rate:.0f}, {on.rate:.0f} | {on.rate / off.rate:.3f} | {off.server_us:.0f}, {on.server_us:.0f} "
        f"| {off.failed + on.failed} | {others:.2f} |",
        flush=True,
    )


def _told(pairs: Sequence[tuple[Figures, Figures]]) -> None:
    ratio = statistics.median(on.rate / off.rate for off, on in pairs)
    cpu = statistics.median(on.server_us / off.server_us for off, on in pairs)
    said = f"with the canary: {ratio:.3f} of the throughput (at least {_AT_LEAST:g} is expected), {cpu:.3f} of the CPU per answer"
    if ratio < _AT_LEAST:
        raise SystemExit(said)
    print(said)
