"""`canary`: what a second version with a small share of the rows costs: throughput and CPU with it and without, in turns.

The candidate is a copy of the light model as a version of its own, so it costs what it costs to keep two arms apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from headrace.cli.installation import layout
from headrace.releases import LIVE
from headrace.releases.document import Assignment
from load.generator.closed_loop import Figures, drive
from load.scenarios.closed import pipeline_target
from load.scenarios.pairs import compare
from load.systems.headrace import Setup, command, configuration, headrace, prepare
from load.systems.releases import ReleaseSwitch

_PIPELINE, _MODEL, _ARM = "flights", "flights_light", "candidate"
_VERSION = "2"
_AT_LEAST = 0.85


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

        def figures(on: bool, seed: int) -> Figures:
            weighed(options.share if on else 0.0)
            return drive(target, options.at_once, options.seconds, seed)

        try:
            compare(options.pairs, figures, "the canary", _AT_LEAST)
        finally:
            switch.commit("no canary", arms={}, assign=Assignment(weights={LIVE: 1.0}, salt="load"))


def _copied(home: Path) -> None:
    """The model's newest file as another version, if that is not there yet."""
    models = layout.of(home).models / _MODEL
    if not (models / _VERSION).exists():
        [file] = sorted((models / "1").glob("*.onnx"))
        command(home, "models", "add", _MODEL, str(file), "--version", _VERSION, "--yes")
