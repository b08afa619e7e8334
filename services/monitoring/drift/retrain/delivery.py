"""Starts retrainings: runs the command, tells the webhook. Whoever triggers does not wait for either."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Protocol

from services.monitoring.drift.retrain.metrics import RetrainMetrics
from services.monitoring.drift.retrain.policy import RetrainPolicy, Trigger
from services.monitoring.drift.settings import RetrainSettings
from services.monitoring.ports import Log

# More wait only if a command runs for hours; each pipeline has a few a day.
_MOST_WAITING = 64
_SAID = 2000


class Listener(Protocol):
    """A webhook."""

    async def deliver(self, event: Mapping[str, object]) -> str:
        """What is wrong; empty: it is delivered."""
        ...


class Retraining:
    """Takes causes of all series; each trigger is logged, counted, remembered, and delivered by `run`."""

    def __init__(
        self, settings: RetrainSettings, webhook: Listener | None, metrics: RetrainMetrics, log: Log
    ) -> None:
        self._settings = settings
        self._webhook = webhook
        self._metrics = metrics
        self._log = log
        self._policy = RetrainPolicy(settings.after_s, settings.pause_s, settings.per_day)
        # Pipeline → when it was triggered, the oldest first.
        self.triggered = self._policy.triggered
        self._waiting: asyncio.Queue[Trigger] = asyncio.Queue(_MOST_WAITING)
        # Causes that were held back and logged already: one line for each, not one for each look.
        self._held: dict[str, frozenset[tuple[str, str]]] = {}

    def consider(self, trigger: Trigger) -> None:
        """Triggers if its causes last and the rate limit lets it. Never waits."""
        pipeline = trigger.pipeline
        verdict, causes = self._policy.judge(pipeline, trigger.causes, trigger.at)
        if verdict == "none":
            return
        said = [cause.text for cause in causes]
        if verdict == "held":
            which = frozenset((c.column, c.check) for c in causes)
            if not which <= self._held.get(pipeline, frozenset()):
                self._held[pipeline] = which
                self._metrics.held.labels(pipeline).inc()
                self._log.warning(
                    "a retraining is held back by its rate limit", pipeline=pipeline, causes=said
                )
            return
        self._held.pop(pipeline, None)
        self._metrics.triggers.labels(pipeline, causes[0].check).inc()
        self._log.warning("a retraining is due", pipeline=pipeline, arm=trigger.arm, causes=said)
        self._deliver(Trigger(pipeline, trigger.revision, trigger.arm, trigger.at, causes))

    async def run(self) -> None:
        """Delivers triggers, one after the other, until cancelled."""
        while True:
            trigger = await self._waiting.get()
            works = {"command": self._command(trigger)} if self._settings.command else {}
            if self._webhook is not None:
                works["webhook"] = self._webhook.deliver(trigger.to_json())
            await asyncio.gather(*(self._ended(trigger, what, work) for what, work in works.items()))

    async def _ended(self, trigger: Trigger, what: str, work: Coroutine[None, None, str]) -> None:
        try:
            problem = await work
        except Exception as error:  # noqa: BLE001 - later triggers must be delivered
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self._metrics.failures.labels(trigger.pipeline).inc()
            self._log.error(f"a retraining's {what} failed", pipeline=trigger.pipeline, why=problem)
        else:
            self._log.info(f"a retraining's {what} has ended", pipeline=trigger.pipeline)

    def _deliver(self, trigger: Trigger) -> None:
        if not self._settings.command and self._webhook is None:
            return
        try:
            self._waiting.put_nowait(trigger)
        except asyncio.QueueFull:
            self._metrics.failures.labels(trigger.pipeline).inc()
            self._log.error("a retraining is not started: too many wait", pipeline=trigger.pipeline)

    async def _command(self, trigger: Trigger) -> str:
        """What went wrong; empty once it ended with 0."""
        document = trigger.to_json()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # Its own children end with it.
                start_new_session=True,
            )
        except OSError as error:
            return f"it can't be started ({error.strerror})"
        try:
            async with asyncio.timeout(self._settings.command_timeout_s):
                errors = await _told(process, json.dumps(document).encode() + b"\n")
        except TimeoutError:
            return f"it ran for longer than {self._settings.command_timeout_s:g} s and was killed"
        finally:
            await _end(process)
        if process.returncode:
            said = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            return f"exit code {process.returncode}: {said[0][-_SAID:]}"
        return ""


async def _told(process: asyncio.subprocess.Process, content: bytes) -> bytes:
    """Gives it its standard input, and returns its standard error once it has ended."""
    assert process.stdin is not None, "it was started with a pipe"
    assert process.stderr is not None, "it was started with a pipe"
    _, errors, _ = await asyncio.gather(_fed(process.stdin, content), process.stderr.read(), process.wait())
    return errors


async def _fed(stdin: asyncio.StreamWriter, content: bytes) -> None:
    # Whoever ends without reading is no failure. Where the pipe is closed already, uvloop raises RuntimeError.
    with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
        stdin.write(content)
        await stdin.drain()
    with suppress(RuntimeError):
        stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills it with its children if it still runs: it was too slow, or this service ends."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
