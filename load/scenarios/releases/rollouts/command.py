"""The command: `--runs` rollouts of each planted version, one after the other, and their table."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence

from rich.console import Console

from headrace.access.specs import Scope, TenantSpec
from load.scenarios.releases.rollouts.planted import EXECUTOR, PLANTED, Planted, add_all, document
from load.scenarios.releases.rollouts.trial import Trial, TrialResult
from load.systems.headrace import AMPLE, Setup, configuration, headrace, prepare

_HEAD = (
    "| version | runs | rolled back, promoted, neither | first bad row to last row, s: median (least to most) | target "
    "| its rows: of them bad | others failed |\n|---|--:|---|---|--:|--:|--:|"
)
_SCOPES: tuple[Scope, ...] = ("predict", "outcomes")
out = Console(soft_wrap=True, highlight=False)


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if a planted version was missed, or a good one rolled back."""
    unknown = set(options.versions) - set(PLANTED)
    if unknown:
        raise SystemExit(f"--versions {sorted(unknown)[0]!r}: there are {', '.join(PLANTED)}")
    prepare(options.home)
    add_all(options.home)
    setup = Setup(
        options.home,
        options.shape,
        documents=[document()],
        executor=EXECUTOR,
        tenants={"load": TenantSpec(pipelines=("*",), scopes=_SCOPES, limits=AMPLE)},
    )
    with headrace(setup) as running:
        out.print(configuration(setup))
        found: dict[str, list[TrialResult]] = {}
        try:
            for name in options.versions:
                planted = PLANTED[name]
                count = options.runs if planted.target_s else options.identical_runs
                for number in range(count):
                    trial = Trial(running, planted, options.rate, seed=number, disturbed=options.disturb)
                    result = asyncio.run(trial.run())
                    found.setdefault(name, []).append(result)
                    out.print(f"{name} {number + 1} of {count}: {result.told()}")
        finally:
            out.print("\n" + _table(found))
    if missed := [name for name, results in found.items() if not _passed(PLANTED[name], results)]:
        raise SystemExit(f"missed: {', '.join(missed)}")


def _passed(planted: Planted, results: Sequence[TrialResult]) -> bool:
    """Every bad one was rolled back in time (median), no good one was, and nobody else's rows failed."""
    if any(result.others_failed for result in results):
        return False
    if planted.target_s is None:
        return all(result.state == "promoted" for result in results)
    times = [result.seconds for result in results]
    return all(r.state == "rolled_back" for r in results) and statistics.median(times) <= planted.target_s


def _table(found: dict[str, list[TrialResult]]) -> str:
    lines = [_HEAD]
    for name, results in found.items():
        states = [result.state for result in results]
        back, up = states.count("rolled_back"), states.count("promoted")
        times = [r.seconds for r in results]
        target = PLANTED[name].target_s
        took = f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
        rows, bad = sum(r.rows for r in results), sum(r.bad for r in results)
        failed = sum(r.others_failed for r in results)
        lines.append(
            f"| {name} | {len(results)} | {back}, {up}, {len(results) - back - up} | {took} | "
            f"{f'{target:g}' if target else 'promoted'} | {rows}: {bad} | {failed} |"
        )
    return "\n".join(lines)
