"""`python -m tests.simulation --cases 100000`: searches on all cores, prints each seed that fails and how far it is.

Stopped and started again, it goes on: `--state` is a file that says how far it was. `--control`: control and those who follow it,
else the path of requests.
"""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.simulation import control, world
from tests.simulation.cases import case_of

_BLOCK = 100


def block(failures: Callable[[int], list[str]], first: int) -> dict[int, list[str]]:
    """What is wrong, by seed."""
    logging.disable()
    return {seed: found for seed in range(first, first + _BLOCK) if (found := failures(seed))}


def main() -> int:
    """1 if a case fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--state", type=Path, default=Path(".headrace/simulation.json"))
    options = parser.parse_args()
    wanted = [options.first, options.cases]
    state = json.loads(options.state.read_text()) if options.state.exists() else {}
    if state.get("wanted") != wanted or state["done"] >= options.cases:
        state = {"wanted": wanted, "done": 0, "failed": []}
    gc.set_threshold(50_000, 50, 100)  # a tenth of the time went into looking for garbage
    began, before = time.monotonic(), state["done"]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        failures = control.failures if options.control else world.failures
        for found in pool.map(
            partial(block, failures), range(options.first + before, options.first + options.cases, _BLOCK)
        ):
            for seed, wrong in found.items():
                print(
                    f"seed {seed}: {'' if options.control else case_of(seed)}",
                    *wrong[:5],
                    sep="\n  ",
                    flush=True,
                )
            state["done"] += _BLOCK
            state["failed"] += found
            options.state.parent.mkdir(exist_ok=True)
            options.state.write_text(json.dumps(state))
            left_s = (time.monotonic() - began) / (state["done"] - before) * (options.cases - state["done"])
            told = f"{state['done']} of {options.cases} cases, {len(state['failed'])} failed"
            print(f"{told}, {left_s / 60:.0f} min left", file=sys.stderr, flush=True)
    return bool(state["failed"])


if __name__ == "__main__":
    sys.exit(main())
