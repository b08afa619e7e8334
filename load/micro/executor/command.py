"""The executor within one process: what it costs over a bare session, what batching brings, what a swap disturbs.

usage: python -m load.executor [--models FOLDER] [--seconds 3] [--only overhead,latency,batching,swap]

`--models`: a repository with flights_light and flights_heavy (`make up` prepares one). No sockets: the other services
and gRPC have their own figures. Prints Markdown tables; each figure is the median of three runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from load.micro.executor.latency import latency
from load.micro.executor.serving import ROOT
from load.micro.executor.throughput import batching, overhead
from load.micro.executor.version_swap import swap

PARTS = {"overhead": overhead, "latency": latency, "batching": batching, "swap": swap}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=ROOT / ".headrace" / "models")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    import uvloop

    for name in options.only.split(","):
        print(f"\n**{name}**\n")
        uvloop.run(PARTS[name](options.models, options.seconds))


if __name__ == "__main__":
    main()
