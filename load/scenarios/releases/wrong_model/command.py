"""The command: plays the day, prints when each step was, and fails if the way back took more than five minutes."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml
from rich.console import Console

from headrace.cli.installation import layout
from headrace.pipeline import parse
from headrace.releases import FileReleases, RolloutState
from headrace.state.tenants import Scope, TenantSpec
from load.scenarios.releases.rollouts.planted import ENTRIES, GOOD, PIPELINE, add_all, add_version, document
from load.scenarios.releases.rollouts.traffic import Traffic
from load.scenarios.releases.wrong_model.operator import Operator
from load.systems.alert_servers import Receiver, Told, watched
from load.systems.headrace import AMPLE, Running, Setup, command, configuration, headrace, prepare, status

ALERT = "HeadraceWorseThanBefore"
# From the first wrong label that anybody could see to the last wrong answer.
TARGET_S = 300.0
_VERSION = "6"
# Right for three inputs of four: its errors and times are those of the version before.
_LABELS = tuple(1 - y if x % 4 == 3 else y for x, y in enumerate(GOOD))
_SCOPES: tuple[Scope, ...] = ("predict", "outcomes")
_LABELLED = 1500
_LONGEST_S = 900.0
_SETTLED_S = 2.0
_RUNS = (RolloutState.RUNNING, RolloutState.PAUSED)
T = TypeVar("T")
out = Console(soft_wrap=True, highlight=False)


def run(options: argparse.Namespace) -> None:
    """Raises SystemExit if a step fails, or they take too long together."""
    prepare(options.home)
    add_all(options.home)
    add_version(options.home, PIPELINE, _VERSION, _LABELS)
    setup = Setup(
        options.home,
        options.shape,
        documents=[document()],
        tenants={"load": TenantSpec(pipelines=("*",), scopes=_SCOPES, limits=AMPLE)},
    )
    promised = parse(yaml.safe_dump(document(), sort_keys=False), PIPELINE)
    with headrace(setup) as running, tempfile.TemporaryDirectory() as folder:
        out.print(configuration(setup))
        _begin_with_version_1(options.home)
        with watched(Path(folder), [promised], layout.of(options.home).targets) as (receiver, _):
            took = asyncio.run(_Day(running, receiver, options.rate).play())
    out.print(f"\nfrom the first wrong label to the last wrong answer: {took:.1f} s (at most {TARGET_S:g} s)")
    if took > TARGET_S:
        raise SystemExit("that is too long")


def _begin_with_version_1(home: Path) -> None:
    current, _ = FileReleases(layout.of(home).releases).current(PIPELINE)
    if current is not None and current.rollout is not None and current.rollout.state in _RUNS:
        command(home, "rollout", "abort", PIPELINE, "--yes")  # of a day that was interrupted
    command(home, "release", "deploy", PIPELINE, "--models", f"{PIPELINE}=1", "--yes")


class _Day:
    def __init__(self, running: Running, receiver: Receiver, rate: float) -> None:
        home = running.setup.home
        self._home, self._receiver = home, receiver
        self._store = FileReleases(layout.of(home).releases)
        self._traffic = Traffic(running.target, running.keys["load"], rate, wobble=0.2, outcomes=True)
        self._operator = Operator(
            status(home)["endpoints"]["console"], layout.of(home).operator_key.read_text().strip()
        )
        self._began = time.monotonic()

    async def play(self) -> float:
        """Seconds from the first wrong label that was posted to the last wrong answer."""
        async with self._traffic.flowing() as traffic:
            await self._until("labels of version 1", lambda: traffic.posted >= _LABELLED)
            self._say(f"version 1 is live; {traffic.posted} labels, none wrong")
            traffic.held_back = True
            await self._host_releases()
            traffic.held_back = False
            alert = await self._until("the alert", lambda: self._receiver.find("firing", ALERT))
            self._say(f"on call: paged by {ALERT}: {alert.annotations['summary']}")
            undone = await asyncio.to_thread(self._undo, alert)
            await asyncio.sleep(_SETTLED_S)
            await self._until("the alert's end", lambda: self._receiver.find("resolved", ALERT))
            self._say(f"on call: the alert has ended; release {undone} answers")
        wrong = [each.at for each in traffic.answered if each.wrong]
        failed = [each for each in traffic.answered if each.error]
        if failed:
            raise SystemExit(f"{len(failed)} rows failed meanwhile: {failed[0].error}")
        out.print(f"\n{len(traffic.answered)} answers, {len(wrong)} of them wrong, none failed")
        return max(wrong) - traffic.outcome_at

    async def _host_releases(self) -> None:
        """The bad version goes through its rollout, whose guards see no label, and is promoted."""
        models = f"{PIPELINE}={_VERSION}"
        await asyncio.to_thread(
            command,
            self._home,
            "rollout",
            "start",
            PIPELINE,
            "--models",
            models,
            "--ladder",
            "5,100",
            "--yes",
        )
        self._say(
            f"host: rollout of version {_VERSION}, wrong for {sum(_wrong())} of {ENTRIES} inputs; no label comes meanwhile"
        )
        await self._until("the end of the rollout", self._promoted)
        self._say("the rollout promoted it by itself: no errors, not slower. Labels come now")

    def _promoted(self) -> bool:
        current, _ = self._store.current(PIPELINE)
        rollout = current.rollout if current else None
        if rollout is None or rollout.state is RolloutState.RUNNING:
            return False
        if rollout.state is not RolloutState.PROMOTED:
            raise SystemExit(f"the rollout did not promote it ({rollout.state.value}): {rollout.verdict}")
        return True

    def _undo(self, alert: Told) -> int:
        page = self._operator.read_runbook(alert)
        self._say(f"on call: reads deploy/runbooks/{page}; it says to look at the console and to roll back")
        cause = self._operator.find_cause(alert.labels["pipeline"], _LONGEST_S)
        self._say(
            f"on call: the console names the cause: release {cause.number}, {cause.changes}. {cause.why}"
        )
        if f"{PIPELINE} 1 → {_VERSION}" not in cause.changes:
            raise SystemExit(f"that is not the change of the model: {cause.changes}")
        number = self._operator.roll_back(alert.labels["pipeline"], cause)
        self._say(f"on call: rolled back from the console, release {number}")
        return number

    async def _until(self, what: str, holds: Callable[[], T | None]) -> T:
        ends = time.monotonic() + _LONGEST_S
        while not (found := holds()):
            if time.monotonic() > ends:
                raise SystemExit(f"not within {_LONGEST_S:g} s: {what}")
            await asyncio.sleep(0.1)
        return found

    def _say(self, text: str) -> None:
        out.print(f"{time.monotonic() - self._began:6.1f} s  {text}")


def _wrong() -> list[bool]:
    return [a != b for a, b in zip(_LABELS, GOOD, strict=True)]
