"""The command lines of the scenarios."""

from __future__ import annotations

import argparse
from pathlib import Path

from load.ab import command as ab
from load.ab.versions import last_landed
from load.arguments import HOME, Commands, RunCommand, command, cores, names, numbers, system_command
from load.micro import memory
from load.scenarios import capacity, check, open_loop_profiles, overload, race, scaling
from load.systems.processes import ROOT

_PEERS = "folder of the peers' harness, prepared by its setup.sh"
_SERVERS = "cores of the servers, such as 0"
_CLIENTS = "cores of the client, such as 1"


def add(commands: Commands) -> None:
    """Adds them all."""
    _add_loops(commands)
    _add_live_studies(commands)
    _add_comparisons(commands)
    _add_scaling(commands)


def _add_loops(commands: Commands) -> None:
    """Requests to a whole headrace, and what became of them."""
    system_command(commands, "check", check.run)
    versions = command(commands, "ab", ab.run)
    versions.add_argument("--base", default=last_landed(), help="a commit; else the last that landed")
    versions.add_argument("--shape", choices=["together", "apart"], default="together")
    versions.add_argument("--counts", action="store_true", help="calls of a request alone: a minute, for CI")
    versions.add_argument("--conc", type=numbers, default=[1, 64])
    versions.add_argument("--pairs", type=int, default=9)
    versions.add_argument("--seconds", type=float, default=2.0)
    command(commands, "calls", ab.counted)
    steady = _open_loop(commands, "open", open_loop_profiles.at_rates)
    steady.add_argument("--seconds", type=float, default=10.0)
    steady.add_argument("--rates", type=numbers, default=[250, 500, 1000])
    soak = _open_loop(commands, "soak", open_loop_profiles.soaked)
    soak.add_argument("--rate", type=float, default=300.0)
    soak.add_argument("--minutes", type=float, default=10.0)
    soak.add_argument("--disturb", action="store_true", help="restarts, swaps and cancels meanwhile (apart)")
    three = _open_loop(commands, "overload", overload.run, model="flights_heavy")
    three.add_argument("--seconds", type=float, default=10.0)
    three.add_argument("--runs", type=int, default=3)


def _open_loop(
    commands: Commands, name: str, run: RunCommand, model: str = "flights"
) -> argparse.ArgumentParser:
    made = system_command(commands, name, run)
    made.add_argument("--model", choices=["flights", "flights_heavy"], default=model)
    made.add_argument("--deadline-ms", type=float, default=250.0)
    made.add_argument("--servers", type=cores, help=_SERVERS)
    made.add_argument("--clients", type=cores, help=_CLIENTS)
    return made


def _add_live_studies(commands: Commands) -> None:
    """What a second version costs, and what the processes hold."""
    held = command(commands, "memory", memory.run, ROOT / ".headrace")
    held.add_argument("--shape", choices=["apart", "together"], help="start this one, else of what is up")


def _add_comparisons(commands: Commands) -> None:
    """This build beside others."""
    beside = system_command(commands, "race", race.run)
    beside.add_argument("--peers", type=Path, required=True, help=_PEERS)
    beside.add_argument("--part", choices=["pipeline", "model"], default="pipeline")
    beside.add_argument(
        "--systems", type=lambda text: text.split(";"), help="such as 'headrace apart;triton'"
    )
    beside.add_argument("--conc", type=numbers, default=[1, 64])
    beside.add_argument("--runs", type=int, default=5)
    beside.add_argument("--seconds", type=float, default=3.0)


def _add_scaling(commands: Commands) -> None:
    """One thing grows, the others stay; and what follows for a load."""
    grows = command(commands, "scaling", scaling.run, HOME)
    grows.add_argument("--conc", type=numbers, default=[1, 8])
    grows.add_argument("--runs", type=int, default=1)
    grows.add_argument("--seconds", type=float, default=2.0)
    grows.add_argument("--shapes", type=names, default=["together", "apart"])
    grows.add_argument("--rows", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    grows.add_argument("--keep", type=Path, help="file of the figures, for `capacity`")
    needed = commands.add_parser("capacity")
    needed.set_defaults(run=capacity.run)
    needed.add_argument("--headroom", type=float, default=0.5, help="part of the peak to run at")
    needed.add_argument("--price", type=float, default=0.04, help="of a core-hour: an assumption")
    needed.add_argument("--figures", type=Path, default=capacity.FIGURES)
