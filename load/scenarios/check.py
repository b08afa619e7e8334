"""`check`: whether natural batching still saves as much CPU as it should. In a minute, on any machine, for each run of CI.

A closed loop of a few callers against this build, and against the same with coalescing off. Compared is the CPU that the
servers use per answer, not how fast they are: what else a machine does, or how many cores it has, changes speed by
factors and CPU per answer by little.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

from load.generator.closed_loop import Target, drive
from load.scenarios.closed import pipeline_target
from load.systems.headrace import Setup, configuration, headrace

_AT_LEAST = 2.0
# Few enough that a machine of a quarter of the speed answers them, uncoalesced, within the pipeline's second.
_AT_ONCE = 24
_ROUNDS, _SECONDS = 3, 1.0
_ANSWERED = 0.9


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one build: server CPU per answer in µs, the median of some rounds, and the part of requests that was answered."""

    us: float
    answered: float


def run(options: argparse.Namespace) -> None:
    """`check`. Raises SystemExit with what is wrong."""
    costs = {}
    for coalescing in (False, True):
        setup = Setup(options.home, options.shape, coalescing=coalescing)
        print(configuration(setup), flush=True)
        with headrace(setup) as running:
            costs[coalescing] = cost(pipeline_target(running))
        print(
            f"  {costs[coalescing].us:.0f} µs of CPU per answer, {costs[coalescing].answered:.0%} answered",
            flush=True,
        )
    verdict = judge(off=costs[False], on=costs[True])
    print(verdict)


def judge(off: Cost, on: Cost) -> str:
    """What was found, in words. Raises SystemExit if it is not good enough."""
    ratio = off.us / on.us
    if on.answered < _ANSWERED:
        raise SystemExit(
            f"only {on.answered:.0%} of the requests were answered, though few were asked at once"
        )
    if ratio < _AT_LEAST:
        raise SystemExit(
            f"batching saves too little: without it an answer costs {ratio:.2f} times the CPU, at least {_AT_LEAST:g} "
            "is expected; look at hop's coalescer and at what each service does per row"
        )
    return f"without batching an answer costs {ratio:.2f} times the CPU (at least {_AT_LEAST:g} is expected)"


def cost(target: Target) -> Cost:
    """The median of some rounds, so that the first may be slow."""
    runs = [drive(target, _AT_ONCE, _SECONDS, seed=i) for i in range(_ROUNDS)]
    answered = [f.rate * _SECONDS / (f.rate * _SECONDS + f.failed) if f.rate else 0.0 for f in runs]
    return Cost(statistics.median(f.server_us for f in runs), statistics.median(answered))
