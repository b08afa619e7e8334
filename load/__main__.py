"""python -m load COMMAND: the figures of load/RESULTS.md come from these, or from studies that are no more.

open       open loop at given rates (Poisson arrivals; latency counted from when a request was due)
soak       open loop for minutes: memory flat, no error
race       this build in both shapes beside Triton, KServe, MLServer, a naive chain and a hand-written server
overload   three times the capacity: goodput, priorities, a greedy tenant
scaling    what a request costs as its rows grow
capacity   the processes and cores that usual loads need, and their price, from what `scaling` found
check      a minute, for CI: does natural batching still save CPU as it should?
ab         this version and the last landed one in turns: red if a request costs more; `--counts`: calls alone, for CI
calls      calls of Python and C that a request needs in one process, and the loop's CPU within it
memory     what each process of a running headrace holds

Several on one machine take turns if LOAD_LOCK names a file. `--clients 1 --servers 0` pins the client to a core of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from load.scenarios import commands as scenarios


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and runs the command."""
    parser = argparse.ArgumentParser(
        "python -m load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    scenarios.add(commands)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
