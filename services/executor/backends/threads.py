"""How many threads a run should have. It is measured, because it depends on the model and the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

# Shorter runs gain little, and threads take cores from the rest of the service.
_WORTH_S = 0.002
# Twice the threads must save at least this share of the time.
_GAIN = 0.3
_RUNS = 3


def fewest(
    runner: Callable[[int], Callable[[], object]],
    cores: int,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> int:
    """The fewest threads (1, 2, 4 … `cores`) after which more do not help. `runner(n)` gives a run with n threads."""
    threads, took = 1, _best(runner(1), clock, rest)
    while threads * 2 <= cores and took >= _WORTH_S:
        doubled = _best(runner(threads * 2), clock, rest)
        if doubled > took * (1 - _GAIN):
            break
        threads, took = threads * 2, doubled
    return threads


def _best(run: Callable[[], object], clock: Callable[[], float], rest: Callable[[float], None]) -> float:
    run()
    times = []
    for _ in range(_RUNS):
        began = clock()
        run()
        times.append(clock() - began)
        # Other models may serve at the same time.
        rest(2 * times[-1])
    return min(times)
