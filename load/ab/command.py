"""`ab`: is this version worse than the last landed one? Ends with exit code 1 and the reasons if it is."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack

from load.ab.verdicts import Counts, worse_counts, worse_figures
from load.ab.versions import Version, versions
from load.generator.closed_loop import Figures, Target, drive
from load.generator.flight_requests import infer_message, rows
from load.generator.verification import verify
from load.systems.processes import children_of

# Counts that have grown are taken again: what ran beside a request in every round may not do so in the next ones.
_COUNTED_AT_MOST = 4
_BASE, _AGAIN, _NEW = "base", "base again", "new"


def run(options: argparse.Namespace) -> None:
    """`ab`. Raises SystemExit naming what is worse."""
    names = {_BASE: True, _NEW: False} if options.counts else {_BASE: True, _AGAIN: True, _NEW: False}
    found = versions(options.home, options.base, names)
    worse = []
    with ExitStack() as stack:
        for version in found:
            stack.enter_context(version.up(options.shape))
        if not options.counts:
            worse += _in_turns(found, options)
    if options.shape == "together":
        worse += _counted(found[0], found[-1])
    if worse:
        raise SystemExit(f"worse than {options.base}:\n" + "\n".join(worse))
    print(f"no worse than {options.base}")


def _in_turns(found: list[Version], options: argparse.Namespace) -> list[str]:
    targets = {version.name: _target(version) for version in found}
    worse = []
    for at_once in options.conc:
        figures: dict[str, list[Figures]] = {name: [] for name in targets}
        for i in range(options.pairs):
            order = list(targets.items())
            for name, target in order if i % 2 == 0 else reversed(order):
                figures[name].append(drive(target, at_once, options.seconds, seed=i))
        worse += worse_figures(at_once, *figures.values())
    return worse


def _target(version: Version) -> Target:
    told = json.loads(version.headrace("status", "--json"))
    asked = rows(version.home)
    return Target(
        told["endpoints"]["grpc"],
        [infer_message("flights", row) for row in asked],
        (version.home / "demo.key").read_text().strip(),
        frozenset(children_of(service["pid"] for service in told["services"].values())),
        lambda replies: verify(version.home, None, "flights", asked, replies),
    )


def _counted(base: Version, new: Version) -> list[str]:
    """The least counts of both, taken again while the new version's are greater."""
    least: dict[str, Counts] = {}
    worse: list[str] = []
    for _ in range(_COUNTED_AT_MOST):
        for version in (base, new):
            told: Counts = json.loads(version.run("-m", "load.ab.calls", str(version.home)))
            before = least.get(version.name, told)
            least[version.name] = {
                kind: [min(pair) for pair in zip(told[kind], before[kind], strict=True)] for kind in told
            }
        worse = worse_counts(least[base.name], least[new.name])
        if not worse:
            break
    for kind, (python, c) in least[new.name].items():
        told_base = " and ".join(map(str, least[base.name][kind]))
        print(f"{kind}: {python} calls of Python and {c} of C; {base.name} {told_base}", flush=True)
    return worse
