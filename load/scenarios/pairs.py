"""Throughput and CPU with something and without it, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from load.generator.closed_loop import Figures

_HEAD = "| pair | req/s without, with | ratio | CPU µs without, with | failed | others' cores |\n|--:|---|--:|---|--:|--:|"


def compare(pairs: int, drive: Callable[[bool, int], Figures], what: str, at_least: float) -> None:
    """Prints a line a pair. `drive`: figures with it (True) or without, by a seed. Raises SystemExit if the throughput with it is
    below `at_least` of that without, by the median."""
    print(_HEAD, flush=True)
    ratios, cpu, failed = [], [], 0
    for number in range(pairs):
        found = {on: drive(on, number) for on in ((False, True) if number % 2 else (True, False))}
        off, on = found[False], found[True]
        ratios.append(on.rate / off.rate)
        cpu.append(on.server_us / off.server_us)
        failed += off.failed + on.failed
        print(
            f"| {number + 1} | {off.rate:.0f}, {on.rate:.0f} | {ratios[-1]:.3f} | {off.server_us:.0f}, {on.server_us:.0f} "
            f"| {off.failed + on.failed} | {max(off.other_cores, on.other_cores):.2f} |",
            flush=True,
        )
    ratio = statistics.median(ratios)
    said = (
        f"with {what}: {ratio:.3f} of the throughput without ({min(ratios):.3f} to {max(ratios):.3f}; at least {at_least:g} is"
        f" expected), {statistics.median(cpu):.3f} of the CPU per answer, {failed} failed"
    )
    if ratio < at_least:
        raise SystemExit(said)
    print(said)
