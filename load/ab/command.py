"""`ab`: is this version worse than the last landed one? Ends with exit code 1 and the reasons if it is."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from load.ab.calls import GROUPS
from load.ab.verdicts import Counts, sure, worse_counts, worse_median, worse_pairs
from load.ab.versions import Version, versions
from load.generator.closed_loop import Figures, Target, drive
from load.generator.flight_requests import rows, rows_message
from load.systems.processes import children_of

# Counts that have grown are taken again: what ran beside a request in every round may not do so in the next ones.
_COUNTED_AT_MOST = 4
_MORE_CPU = 1.05
# Pairs in one process: a turn takes 0.2 s. No more are begun after so many seconds.
_TIMED, _TIMED_AT_MOST, _TIMED_S = 30, 600, 400.0
_CPU = "CPU µs/request"
_FIGURES: dict[str, Callable[[Figures], float]] = {
    _CPU: lambda f: f.server_us,
    "p50 µs": lambda f: f.p50_us,
    "p99 µs": lambda f: f.p99_us,
}
Ask = Callable[[str], Any]


def run(options: argparse.Namespace) -> None:
    """`ab`. Raises SystemExit naming what is worse."""
    wanted = {"base": True, "new": False} if options.counts else {"base": True, "again": True, "new": False}
    found = versions(options.home, options.base, wanted)
    worse = []
    with ExitStack() as stack:
        for version in found:
            stack.enter_context(version.up(options.shape))
        if not options.counts:
            worse += _in_turns(found, options)
    if options.shape == "together":
        worse += _in_process(found)
    if worse:
        raise SystemExit(f"worse than {options.base}, or not told:\n" + "\n".join(worse))
    print(f"no worse than {options.base}")


def counted(options: argparse.Namespace) -> None:
    """`calls`: by requests at once, calls of Python and of C of one of them; ms of the loop's CPU within one request."""
    [new] = versions(options.home, "", {"new": False})
    with new.up("together"), new.conversation("load.ab.calls") as ask:
        counts, loop = ask("calls"), ask("loop")
    figures: dict[str, float] = {}
    for kind, both in counts.items():
        figures |= {
            f"{kind} {what}": n / GROUPS[kind][0] for what, n in zip(("Python", "C"), both, strict=True)
        }
    figures |= {f"loop {what}": value for what, value in loop.items()}
    print("\n".join(f"{name}: {value:.4g}" for name, value in figures.items()))


def _in_turns(found: Sequence[Version], options: argparse.Namespace) -> list[str]:
    """Whole systems under a closed loop."""
    targets = {version.name: _target(version) for version in found}
    worse = []
    for at_once in options.conc:
        measure = partial(_driven, at_once=at_once, seconds=options.seconds)
        taken = _pairs(targets, options.pairs, measure)
        for name, of in _FIGURES.items():
            figures = {version: [of(each) for each in runs] for version, runs in taken.items()}
            worse += worse_pairs(f"c={at_once} {name}", figures, _MORE_CPU if name == _CPU else 1.0)
        if failed := sum(each.failed for each in taken["new"]):
            worse.append(f"c={at_once}: {failed} requests failed")
    return worse


def _driven(target: Target, i: int, *, at_once: int, seconds: float) -> Figures:
    return drive(target, at_once, seconds, seed=i)


def _target(version: Version) -> Target:
    told = json.loads(version.headrace("status", "--json"))
    return Target(
        told["endpoints"]["grpc"],
        [rows_message("flights", [row]) for row in rows(version.home)],
        (version.home / "demo.key").read_text().strip(),
        frozenset(children_of(service["pid"] for service in told["services"].values())),
        lambda _: (
            ""
        ),  # whether answers are right is what tests ask, on machines that are too busy for each deadline too
    )


def _in_process(found: Sequence[Version]) -> list[str]:
    """Requests within one process, without Envoy: calls, and CPU unless there is no second system of the base."""
    with ExitStack() as stack:
        ask = {version.name: stack.enter_context(version.conversation("load.ab.calls")) for version in found}
        worse = _counted(ask["base"], ask["new"])
        if "again" in ask:
            for kind, measured in _timed(ask).items():
                worse += worse_median(f"{kind} in one process, CPU µs", measured, _MORE_CPU)
    return worse


def _timed(ask: Mapping[str, Ask]) -> dict[str, dict[str, list[float]]]:
    """CPU by kind of request and version, in short turns: other users of the machine slow down all three or none."""
    taken: dict[str, dict[str, list[float]]] = {}
    ends = time.monotonic() + _TIMED_S
    for _ in range(_TIMED_AT_MOST // _TIMED):
        for version, rounds in _pairs(ask, _TIMED, lambda each, _: each("cpu")).items():
            for kind in rounds[0]:
                taken.setdefault(kind, {}).setdefault(version, []).extend(each[kind] for each in rounds)
        if all(map(sure, taken.values())) or time.monotonic() > ends:
            break
    return taken


def _counted(base: Ask, new: Ask) -> list[str]:
    """The least counts of both, taken again while the new version's are greater."""
    least: list[Counts] = []
    for _ in range(_COUNTED_AT_MOST):
        told: list[Counts] = [base("calls"), new("calls")]
        least = [_least(*both) for both in zip(told, least or told, strict=True)]
        if not (worse := worse_counts(*least)):
            break
    for kind, (python, c) in least[1].items():
        print(
            f"{kind}: {python} calls of Python and {c} of C; base {least[0][kind][0]} and {least[0][kind][1]}"
        )
    return worse


def _least(one: Counts, other: Counts) -> Counts:
    return {kind: [min(both) for both in zip(one[kind], other[kind], strict=True)] for kind in one}


def _pairs(
    systems: Mapping[str, Any], pairs: int, measure: Callable[[Any, int], Any]
) -> dict[str, list[Any]]:
    """What `measure` finds of each system, in turns whose order changes each time."""
    taken = defaultdict(list)
    names = list(systems)
    for i in range(pairs):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            taken[name].append(measure(systems[name], i))
    return taken
