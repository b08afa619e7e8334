"""`canary`: what a second version with a small share of the rows costs: throughput and CPU with it and without, in turns.

The candidate is a copy of the light model as a version of its own, so it costs what it costs to keep two arms apart.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

from headrace.cli.installation import layout
from headrace.releases import LIVE
from headrace.releases.document import Assignment
from load.generator.closed_loop import Figures, drive
from load.scenarios.closed import pipeline_target
from load.systems.headrace import Setup, command, configuration, headrace, prepare
from load.systems.releases import ReleaseSwitch

_PIPELINE, MODEL, _ARM = "flights", "flights_light", "candidate"
COPY = "2"
_AT_LEAST = 0.95
_HEAD = "| pair | req/s without, with | ratio | CPU µs without, with | failed | others' cores |\n|--:|---|--:|---|--:|--:|"


def run(options: argparse.Namespace) -> dict[str, float]:
    """Prints the table; returns `ratio`, of the throughput without."""
    prepare(options.home)
    with headrace(Setup(options.home, options.shape)) as running:
        copy_model(options.home)
        print(configuration(running.setup), flush=True)
        switch = ReleaseSwitch(options.home, _PIPELINE)
        live = switch.current().arms[LIVE]
        candidate = live.model_copy(update={"models": {**live.models, MODEL: COPY}})

        def weighed(share: float) -> None:
            assign = Assignment(weights={LIVE: 1 - share, _ARM: share}, salt="load")
            switch.commit(f"{share:.0%} canary", arms={_ARM: candidate}, assign=assign)

        target = pipeline_target(running)

        def drive_with(share: float, seed: int) -> Figures:
            weighed(share)
            return drive(target, options.at_once, options.seconds, seed)

        try:
            return _in_turns(options, drive_with)
        finally:
            switch.commit("no canary", arms={}, assign=Assignment(weights={LIVE: 1.0}, salt="load"))


def _in_turns(options: argparse.Namespace, drive_with: Callable[[float, int], Figures]) -> dict[str, float]:
    """Prints a line a pair."""
    ratios, cpu, others = list[float](), list[float](), list[float]()
    print(_HEAD, flush=True)
    for number in range(options.pairs):
        order = (0.0, options.share) if number % 2 else (options.share, 0.0)
        found = {share: drive_with(share, number) for share in order}
        off, on = found[0.0], found[options.share]
        ratios.append(on.rate / off.rate)
        cpu.append(on.server_us / off.server_us)
        others.append(max(off.other_cores, on.other_cores))
        print(
            f"| {number + 1} | {off.rate:.0f}, {on.rate:.0f} | {ratios[-1]:.3f} | {off.server_us:.0f}, {on.server_us:.0f} "
            f"| {off.failed + on.failed} | {others[-1]:.2f} |",
            flush=True,
        )
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}; aim {_AT_LEAST}"
    print(
        f"{ratio:.3f} of the throughput without ({spread}), {statistics.median(cpu):.3f} of the CPU per answer"
    )
    return {"ratio": ratio, "others": statistics.median(others)}


def copy_model(home: Path) -> None:
    """The model's newest file as another version, if that is not there yet; of a home that is up."""
    models = layout.of(home).models / MODEL
    if not (models / COPY).exists():
        [file] = sorted((models / "1").glob("*.onnx"))
        command(home, "models", "add", MODEL, str(file), "--version", COPY, "--yes")
