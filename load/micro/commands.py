"""The command lines of the measurements of one part."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from load.arguments import Commands, RunCommand, command, cores, names, numbers, system_command
from load.systems.processes import ROOT

_DEFAULT_HOME = ROOT / ".headrace"


def add(commands: Commands) -> None:
    """Adds them all."""
    calls = commands.add_parser("hop")
    calls.set_defaults(run=_of("hop_calls"))
    calls.add_argument("--conc", type=numbers, default=[1, 8, 64])
    calls.add_argument("--runs", type=int, default=5)
    refused = commands.add_parser("refusals")
    refused.set_defaults(run=_of("refusals"))
    refused.add_argument("--rates", type=numbers, default=[8000, 20000])
    refused.add_argument("--seconds", type=float, default=3.0)
    refused.add_argument("--clients", type=cores, help="cores of the client, such as 1")
    routes = commands.add_parser("routes")
    routes.set_defaults(run=_of("routes"))
    routes.add_argument("--rows", type=numbers, default=[1, 8, 64, 256])
    routes.add_argument("--runs", type=int, default=7)
    routes.add_argument("--keys", type=int, default=100_000)
    offered = commands.add_parser("shadow-offer")
    offered.set_defaults(run=_of("shadow_offer"))
    offered.add_argument("--rows", type=numbers, default=[1, 8, 64])
    offered.add_argument("--seconds", type=float, default=1.0)
    leased = commands.add_parser("leases")
    leased.set_defaults(run=_of("leases"))
    leased.add_argument("--tenants", type=numbers, default=[1, 10, 100])
    leased.add_argument("--runs", type=int, default=200)
    ticks = commands.add_parser("ticks")
    ticks.set_defaults(run=_of("monitoring.ticks"))
    ticks.add_argument("--rows", type=numbers, default=[1, 64, 256])
    ticks.add_argument("--runs", type=int, default=5)
    told = commands.add_parser("events")
    told.set_defaults(run=_of("monitoring.events"))
    told.add_argument("--rows", type=numbers, default=[1, 8, 64, 256])
    told.add_argument("--seconds", type=float, default=1.0)
    sketched = commands.add_parser("sketches")
    sketched.set_defaults(run=_of("monitoring.sketches"))
    sketched.add_argument("--rows", type=numbers, default=[1, 64, 1024])
    sketched.add_argument("--columns", type=int, default=24)
    sketched.add_argument("--runs", type=int, default=5)
    audit = commands.add_parser("audit")
    audit.set_defaults(run=_of("monitoring.audit"))
    audit.add_argument("--entries", type=int, default=1_000_000)
    command(commands, "memory", _of("memory"), _DEFAULT_HOME)
    pictures = command(commands, "moderation", _of("moderation"), _DEFAULT_HOME)
    pictures.add_argument("--seconds", type=float, default=10.0)
    kept = system_command(commands, "response-cache", _of("response_cache"))
    kept.add_argument("--requests", type=int, default=2000, help="flights")
    kept.add_argument("--pictures", type=int, default=80)
    executor = commands.add_parser("executor")
    executor.set_defaults(run=_of("executor.command"))
    executor.add_argument("--models", type=Path, default=_DEFAULT_HOME / "models")
    executor.add_argument("--seconds", type=float, default=3)
    executor.add_argument("--only", type=names, help="of overhead, latency, batching, swap")
    _add_features(commands)


def _add_features(commands: Commands) -> None:
    served = command(commands, "features", _of("features.comparison"))
    served.add_argument("--rows", type=numbers, default=[1, 100])
    served.add_argument("--seconds", type=float, default=2.0)
    served.add_argument("--runs", type=int, default=3)
    served.add_argument("--concurrency", type=int, default=16)
    added = command(commands, "features-added", _of("features.added_time"))
    added.add_argument("--shapes", type=names, default=["apart", "together"])
    added.add_argument("--requests", type=int, default=2000)
    broken = command(commands, "features-outage", _of("features.outage"))
    broken.add_argument("--concurrency", type=int, default=8)
    broken.add_argument("--deadline", type=float, default=0.25)


def _of(module: str) -> RunCommand:
    """The `run` of a module here, imported when it is wanted: pandas, Feast and ONNX Runtime take seconds."""

    def run(options: argparse.Namespace) -> None:
        import_module(f"load.micro.{module}").run(options)

    return run
