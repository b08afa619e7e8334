"""`python -m load autoscaling`: tables of what the shipped autoscaling would do. A simulation: nothing is measured."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from headrace.cli.deployment.description import Scale
from load.autoscaling.service import Costs
from load.autoscaling.simulation import LOADS, SIGNALS, Outcome, bursts, run, step

# From a container's start until it is ready, as `pytest -m slow tests/images` prints it on two shared cores (deploy/images).
STARTS_S = {"leaf": 0.6, "door": 1.4, "executor": 2.9, "features": 3.9}
_HEAD = f"{'':34}{'changes':>12}{'peak':>6}{'turned away %':>16}{'replica-hours':>15}{'cold starts %':>16}"


def run_command(options: argparse.Namespace) -> None:
    """Prints the mean and the worst of `options.runs` runs each."""
    seeds = range(options.runs)
    print(f"simulated, {options.runs} runs each: mean / worst\n{_HEAD}")
    for name, load in LOADS.items():
        for signal in SIGNALS:
            _print(f"{name}, {signal}", [run(load, seed=seed, signal=signal) for seed in seeds])
    for window in (0.0, 300.0):
        found = [run(step, seed=seed, down_window_s=window) for seed in seeds]
        _print(f"step ×8, window {window:.0f} s", found)
    for start_s in (3.0, 8.0, 60.0):
        found = [run(step, seed=seed, costs=Costs(start_s=start_s)) for seed in seeds]
        _print(f"step ×8, pods start in {start_s:.0f} s", found)
    for least in (2, 8, 12, 16, 17, 18):
        found = [run(bursts, seed=seed, scale=Scale(least=least)) for seed in seeds]
        _print(f"bursts, at least {least} pods", found)
    for name, start_s in STARTS_S.items():
        found = [
            run(bursts, seed=seed, scale=Scale(least=17), costs=Costs(start_s=start_s)) for seed in seeds
        ]
        _print(f"the same, 17 pods, {name}: {start_s} s", found)


def _print(name: str, found: Iterable[Outcome]) -> None:
    runs = list(found)

    def told(values: list[float], form: str) -> str:
        return f"{sum(values) / len(values):{form}} / {max(values):{form}}"

    print(
        f"{name:34}{told([each.changes for each in runs], '.0f'):>12}{max(each.peak for each in runs):>6}"
        f"{told([each.turned_away * 100 for each in runs], '.2f'):>16}"
        f"{told([each.hours for each in runs], '.2f'):>15}"
        f"{told([each.cold * 100 for each in runs], '.2f'):>16}"
    )
