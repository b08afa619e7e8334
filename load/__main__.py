"""python -m load COMMAND: every figure of load/RESULTS.md comes from one of these.

closed     closed loop over concurrency; with `--reference` beside the naive chain
open       open loop at given rates (Poisson arrivals; latency counted from when a request was due)
ramp       open loop, the rate goes up evenly
spike      open loop, the rate jumps and falls again
soak       open loop for minutes: memory flat, no error
race       this build in both shapes beside Triton, KServe, MLServer, a naive chain and a hand-written server
picture    throughput against latency of a race, as load/race.svg
faults     at half the peak each service is killed, stopped, restarted: what is lost, and for how long
refusals   what a refusal costs in Envoy alone
overload   three times the capacity: goodput, priorities, a greedy tenant
strangers  what people without a credential can do: the latency of who has one, the door's memory
hop        a call between two processes, on a stream and as an RPC
scaling    what a request costs as its rows, its payload, the replicas of a service or the tenants grow
capacity   the processes and cores that a load needs, and their price, from what `scaling` found
memory     what each process of a running headrace holds
check      a minute, for CI: does natural batching still save CPU as it should?

Several on one machine take turns if LOAD_LOCK names a file. `--clients 1 --servers 0` pins the client to a core of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from load.micro import hop_calls, memory, refusals
from load.scenarios import (
    capacity,
    check,
    closed,
    faults,
    open_loop_profiles,
    overload,
    picture,
    race,
    strangers,
)
from load.scenarios.scaling import payload as scaling_payload
from load.scenarios.scaling import replicas as scaling_replicas
from load.scenarios.scaling import rows as scaling_rows
from load.scenarios.scaling import tenants as scaling_tenants
from load.systems.processes import ROOT

HOME = ROOT / ".headrace" / "load"
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # generic in the stubs only


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and runs the command."""
    parser = argparse.ArgumentParser(
        "python -m load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    _add_loops(commands)
    _add_comparisons(commands)
    _add_scaling(commands)
    _add_parts(commands)
    options = parser.parse_args(arguments)
    options.run(options)


def _add_loops(commands: _Commands) -> None:
    """Requests to a whole headrace, and what becomes of them."""
    loop = _command(commands, "closed", closed.run)
    loop.add_argument("--conc", type=_numbers, default=[1, 8, 32, 64])
    loop.add_argument("--runs", type=int, default=3)
    loop.add_argument("--seconds", type=float, default=3.0)
    loop.add_argument("--reference", type=Path, help="folder of the peers' harness, prepared by its setup.sh")
    for name, run in (
        ("open", open_loop_profiles.at_rates),
        ("ramp", open_loop_profiles.ramped),
        ("spike", open_loop_profiles.spiked),
    ):
        command = _open_loop(commands, name, run)
        command.add_argument("--seconds", type=float, default=10.0)
        if name == "open":
            command.add_argument("--rates", type=_numbers, default=[250, 500, 1000])
        else:
            command.add_argument("--rate", type=float, default=1000.0, help="the highest")
    soak = _open_loop(commands, "soak", open_loop_profiles.soaked)
    soak.add_argument("--rate", type=float, default=300.0)
    soak.add_argument("--minutes", type=float, default=10.0)
    three = _open_loop(commands, "overload", overload.run, model="flights_heavy")
    three.add_argument("--seconds", type=float, default=10.0)
    three.add_argument("--runs", type=int, default=3)
    broken = _command(commands, "faults", faults.run)
    broken.add_argument("--servers", type=_cores, help="cores of the servers, such as 0")
    broken.add_argument("--part", type=float, default=0.5, help="of the peak")
    broken.add_argument("--peak", type=float, help="requests a second; measured first if it is not said")
    broken.add_argument("--faults", type=_names, default=list(faults.FAULTS))
    broken.add_argument("--services", type=_names, default=[])
    foreign = _command(commands, "strangers", strangers.run)
    foreign.add_argument("--servers", type=_cores, help="cores of the servers, such as 0")
    foreign.add_argument("--requests", type=int, default=100_000)
    foreign.add_argument("--rate", type=float, default=300.0)
    foreign.add_argument("--warm-s", type=float, default=10.0)
    foreign.add_argument("--quiet-s", type=float, default=30.0, help="measured before they begin")
    _command(commands, "check", check.run)


def _add_comparisons(commands: _Commands) -> None:
    """This build beside others."""
    beside = _command(commands, "race", race.run)
    beside.add_argument(
        "--peers", type=Path, required=True, help="folder of the peers' harness, prepared by its setup.sh"
    )
    beside.add_argument("--part", choices=["pipeline", "model"], default="pipeline")
    beside.add_argument(
        "--systems", type=lambda text: text.split(";"), help="such as 'headrace apart;triton'"
    )
    beside.add_argument("--conc", type=_numbers, default=[1, 64])
    beside.add_argument("--runs", type=int, default=5)
    beside.add_argument("--seconds", type=float, default=3.0)
    beside.add_argument("--out", type=Path, default=ROOT / ".headrace" / "race.json")
    drawn = commands.add_parser("picture")
    drawn.set_defaults(run=picture.run)
    drawn.add_argument(
        "--race",
        type=Path,
        nargs="+",
        default=[ROOT / ".headrace" / "race.json"],
        help="what races kept; those over different concurrencies are joined",
    )
    drawn.add_argument("--out", type=Path, default=ROOT / "load" / "race.svg")


def _add_scaling(commands: _Commands) -> None:
    """One thing grows, the others stay."""
    grows = commands.add_parser("scaling").add_subparsers(required=True)
    for name, run, conc in (
        ("rows", scaling_rows.run, [1, 8]),
        ("payload", scaling_payload.run, [1, 8]),
        ("replicas", scaling_replicas.run, [64]),
        ("tenants", scaling_tenants.run, [64]),
    ):
        command = grows.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--home", type=lambda p: Path(p).resolve(), default=HOME)
        command.add_argument("--conc", type=_numbers, default=conc)
        command.add_argument("--runs", type=int, default=1)
        command.add_argument("--seconds", type=float, default=2.0)
        if name != "replicas":
            command.add_argument("--shapes", type=_names, default=["together", "apart"])
    grows.choices["rows"].add_argument("--rows", type=_numbers, default=[1, 2, 4, 8, 16, 32, 64])
    grows.choices["rows"].add_argument("--keep", type=Path, help="file of the figures, for `capacity`")
    grows.choices["payload"].add_argument("--kib", type=_numbers, default=[1, 4, 16, 64, 256, 1024])
    grows.choices["tenants"].add_argument("--tenants", type=_numbers, default=[1, 10, 100, 1000])
    several = grows.choices["replicas"]
    several.add_argument("--replicas", type=_numbers, default=[1, 2, 3])
    several.add_argument("--services", type=_names, default=["executor", "preprocessing"])
    several.add_argument("--pipeline", choices=["flights", "flights_heavy"], default="flights")


def _add_parts(commands: _Commands) -> None:
    """One part, or one cost."""
    calls = commands.add_parser("hop")
    calls.set_defaults(run=hop_calls.run)
    calls.add_argument("--conc", type=_numbers, default=[1, 8, 64])
    calls.add_argument("--runs", type=int, default=5)
    refused = commands.add_parser("refusals")
    refused.set_defaults(run=refusals.run)
    refused.add_argument("--rates", type=_numbers, default=[8000, 20000])
    refused.add_argument("--seconds", type=float, default=3.0)
    refused.add_argument("--clients", type=_cores, help="cores of the client, such as 1")
    needed = commands.add_parser("capacity")
    needed.set_defaults(run=capacity.run)
    needed.add_argument("--rate", type=float, help="requests a second; none: usual ones")
    needed.add_argument("--rows", type=int, default=1, help="of a request")
    needed.add_argument("--shape", choices=["apart", "together"], default="apart")
    needed.add_argument("--headroom", type=float, default=0.5, help="part of the peak to run at")
    needed.add_argument("--price", type=float, default=0.04, help="of a core-hour: an assumption")
    needed.add_argument("--figures", type=Path, default=capacity.FIGURES)
    held = commands.add_parser("memory")
    held.set_defaults(run=memory.run)
    held.add_argument("--home", type=lambda p: Path(p).resolve(), default=ROOT / ".headrace")


def _command(commands: _Commands, name: str, run: object) -> argparse.ArgumentParser:
    command = commands.add_parser(name)
    command.set_defaults(run=run)
    command.add_argument("--home", type=lambda p: Path(p).resolve(), default=HOME)
    command.add_argument("--shape", choices=["apart", "together"], default="apart")
    return command


def _open_loop(
    commands: _Commands,
    name: str,
    run: object,
    model: str = "flights",
) -> argparse.ArgumentParser:
    command = _command(commands, name, run)
    command.add_argument("--model", choices=["flights", "flights_heavy"], default=model)
    command.add_argument("--deadline-ms", type=float, default=250.0)
    command.add_argument("--servers", type=_cores, help="cores of the servers, such as 0")
    command.add_argument("--clients", type=_cores, help="cores of the client, such as 1")
    return command


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


def _cores(text: str) -> frozenset[int]:
    return frozenset(_numbers(text))


if __name__ == "__main__":
    main()
