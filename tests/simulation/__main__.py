"""`python -m tests.simulation --cases 10000 --first 0`: prints each seed that fails, and how far it is."""

import argparse
import sys
import time

from tests.simulation.cases import case_of
from tests.simulation.world import failures

_EVERY = 100


def main() -> int:
    """1 if a case fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    failed = 0
    for done, seed in enumerate(range(options.first, options.first + options.cases), 1):
        if found := failures(seed):
            failed += 1
            print(f"seed {seed}: {case_of(seed)}", *found[:5], sep="\n  ", flush=True)
        if done % _EVERY == 0 or done == options.cases:
            cpu = time.process_time()
            print(f"{done} cases, {failed} failed, {cpu:.0f} s of CPU", file=sys.stderr, flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
