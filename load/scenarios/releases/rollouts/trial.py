"""One rollout of a planted version under load, from its start to its end."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from headrace.cli.installation import layout, release_place
from headrace.releases import RolloutState
from load.scenarios.releases.rollouts.planted import PIPELINE, WAITING, Planted, document
from load.scenarios.releases.rollouts.traffic import Answered, Traffic
from load.systems.headrace import HEADRACE, Running, status

_ARM = "candidate"
_SETTLED_S = 3.0
_LONGEST_S = 900.0
_SLOW_S = 0.15
_ENDED = {RolloutState.ROLLED_BACK, RolloutState.PROMOTED, RolloutState.ABORTED}
# What is done to the system while a rollout runs, in order, so many seconds apart.
_APART_S = 15.0


@dataclass(frozen=True, slots=True)
class TrialResult:
    """`seconds`: rolled back: from its first bad row (or its first outcome that was posted) to its last row; promoted: from
    the start to all rows at it. `rows`, `bad`: of its arm; `others_failed`: rows and requests outside of it that failed."""

    state: str
    seconds: float
    rows: int
    bad: int
    others_failed: int
    why: str = ""
    first_failure: str = ""

    def told(self) -> str:
        """In a line."""
        return (
            f"{self.state} in {self.seconds:.1f} s; {self.rows} rows of it, {self.bad} bad; others failed: {self.others_failed}"
            + (f" ({self.first_failure})" if self.first_failure else "")
            + (f"; {self.why}" if self.why else "")
        )


class Trial:
    """`rate`: requests a second. `disturbed`: services are restarted and killed meanwhile."""

    def __init__(self, running: Running, planted: Planted, rate: float, seed: int, disturbed: bool) -> None:
        self._running, self._planted, self._disturbed = running, planted, disturbed
        self._home = running.setup.home
        self._store = release_place.opened(layout.of(self._home))
        good = planted.target_s is None
        self._traffic = Traffic(
            running.target,
            running.keys["load"],
            rate,
            wobble=0.5 if good else 0.0,
            outcomes=planted.outcomes,
            failing=good and not disturbed,
            seed=seed,
        )
        self._began = 0.0
        self._done: list[tuple[str, float]] = []

    async def run(self) -> TrialResult:
        """The rollout from its start to its end. Raises SystemExit if it does not end, or the headrace command fails."""
        await self._fresh()
        async with self._traffic.flowing() as traffic:
            await asyncio.sleep(_SETTLED_S)
            began = self._began = time.monotonic()
            await self._start()
            disturbing = asyncio.create_task(self._disturb()) if self._disturbed else None
            state = await self._ended(began)
            ended = time.monotonic()
            if disturbing:
                await disturbing
            await asyncio.sleep(_SETTLED_S)
        return self._result(traffic, state, ended - began)

    async def _fresh(self) -> None:
        """Version 1 is live again, with all rows."""
        current, _ = self._store.current(PIPELINE)
        if current is not None and current.rollout is not None and current.rollout.state not in _ENDED:
            # Of a measurement that was interrupted.
            await self._headrace("rollout", "abort", PIPELINE)
        live = current is not None and current.live.models.get(PIPELINE) == "1" and current.rollout is None
        if not live:
            await self._headrace("release", "deploy", PIPELINE, "--models", f"{PIPELINE}=1")

    async def _start(self) -> None:
        planted = self._planted
        guards = [option for guard in planted.guards for option in ("--guard", guard)]
        good = planted.target_s is None
        ladder = [] if good else ["--ladder", "5,100"]
        sticky = ["--by", "client"] if good else []
        if not planted.waiting:
            models = f"{PIPELINE}={planted.version}"
            await self._headrace("rollout", "start", PIPELINE, "--models", models, *ladder, *guards, *sticky)
            return
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(document(WAITING), file, sort_keys=False)
            file.flush()
            await self._headrace("rollout", "start", PIPELINE, "--document", file.name, *ladder, *guards)

    async def _ended(self, began: float) -> str:
        while time.monotonic() - began < _LONGEST_S:
            current, _ = self._store.current(PIPELINE)
            rollout = current.rollout if current else None
            if rollout and rollout.state in (*_ENDED, RolloutState.PAUSED):
                self._why = rollout.verdict
                return rollout.state.value
            await asyncio.sleep(0.1)
        raise SystemExit(
            f"the rollout of {self._planted.name} did not end; see: headrace rollout status {PIPELINE}"
        )

    _why = ""

    def _result(self, traffic: Traffic, state: str, whole: float) -> TrialResult:
        bad = self._bad(traffic.answered)
        own = [each for each in traffic.answered if each.arm == _ARM]
        failed = [
            each
            for each in traffic.answered
            if each.error and not each.hopeless and (each.arm != _ARM or self._planted.target_s is None)
        ]
        first = min((each.at for each in bad), default=math.nan)
        if traffic.outcomes:
            first = traffic.outcome_at
        last = max((each.at for each in own), default=math.nan)
        return TrialResult(
            state,
            whole if state == "promoted" else last - first,
            len(own),
            len(bad),
            len(failed) + traffic.outcomes_failed,
            self._why if self._unexpected(state) else "",
            self._when(failed) if failed else "",
        )

    def _when(self, failed: Sequence[Answered]) -> str:
        """The first failure's error, when they were, and what was done meanwhile; seconds from the rollout's start."""
        times = [each.at - self._began for each in failed]
        done = "".join(f"; {what} at {at - self._began:.1f} s" for what, at in self._done)
        return f"{failed[0].error}, from {min(times):.1f} to {max(times):.1f} s{done}"

    def _unexpected(self, state: str) -> bool:
        return state != ("promoted" if self._planted.target_s is None else "rolled_back")

    def _bad(self, answered: Sequence[Answered]) -> list[Answered]:
        own = [each for each in answered if each.arm == _ARM]
        slow = self._planted.waiting
        return [
            each
            for each in own
            if (each.error and not each.hopeless) or each.wrong or (slow and each.seconds > _SLOW_S)
        ]

    async def _disturb(self) -> None:
        """Restarts router and executor, kills the analyser, and freezes for a while."""
        for arguments in (("restart", "router"), ("restart", "executor")):
            await self._after_a_while(" ".join(arguments))
            await self._headrace(*arguments)
        found = await asyncio.to_thread(status, self._home)
        await self._after_a_while("kill -9 monitoring")
        os.kill(found["services"]["monitoring"]["pid"], signal.SIGKILL)
        await self._after_a_while("freeze")
        await self._headrace("release", "freeze", "--reason", "measured")
        await self._after_a_while("freeze --off")
        await self._headrace("release", "freeze", "--off")

    async def _after_a_while(self, what: str) -> None:
        await asyncio.sleep(_APART_S)
        self._done.append((what, time.monotonic()))

    async def _headrace(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            HEADRACE,
            *arguments,
            "--yes",
            "--home",
            str(self._home),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"headrace {' '.join(arguments)} failed:\n{said.decode()}")
