"""The executor within one process: what it costs over a bare session, and what a swap disturbs.

Needs a model repository with flights_light and flights_heavy (`make up` prepares one). No sockets: the other services
and gRPC have their own figures. Prints Markdown tables; each figure is the median of three runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop

from load.micro.executor.throughput import overhead
from load.micro.executor.version_swap import swap
from load.systems.processes import OtherWork

Part = Callable[[Path, float], Coroutine[None, None, dict[str, float]]]
_PARTS: dict[str, Part] = {"overhead": overhead, "swap": swap}


def run(options: argparse.Namespace) -> dict[str, float]:
    """`executor`. Returns ratios by model and rows a call, and calls that a swap lost."""
    others, figures = OtherWork([]), dict[str, float]()
    for name in options.only or _PARTS:
        print(f"\n**{name}**\n")
        figures |= uvloop.run(_PARTS[name](options.models, options.seconds))
    return figures | {"others": others.cores()}
