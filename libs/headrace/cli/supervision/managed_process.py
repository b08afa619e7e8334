"""One instance of a service under supervision: it has one process, and during a restart a second one beside it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.cli.diagnosis import quarantined_models
from headrace.cli.installation import log_files, services
from headrace.cli.installation.layout import LayoutError, service_of
from headrace.cli.installation.settings import Installation
from headrace.cli.supervision import probes, process
from headrace.cli.supervision.process import Process
from headrace.cli.supervision.restart_policy import ProbeResult, RestartPolicy, RestartRules, State
from headrace.hop.config import ConfigError
from headrace.hop.process.lifecycle import EXIT_CONFIG

# Seconds between two probes of a process that starts, and of one that is unready, to see it recover.
_PROBE_STARTING_S = 0.05
_PROBE_UNREADY_S = 0.5
_TIMEOUT_STARTING_S = 1.0
# Seconds between two looks whether a process is stopped (SIGSTOP): a stopped one can't answer, so it is not probed. So often is
# the heartbeat of one read that has not answered a probe yet.
_LOOK_EVERY_S = 1.0
_LINES = 8
Start = Callable[[Installation, str, int, int], Awaitable[Process]]
Moved = Callable[[str, str], None]


class ReplaceError(Exception):
    """The new process did not become ready, and the old one goes on. The text says what to look at."""


class ManagedProcess:
    """Keeps one instance of a service running until `stop`."""

    def __init__(
        self,
        installation: Installation,
        instance: str,
        rules: RestartRules,
        log: Any,
        start: Start = process.start,
        moved: Moved = lambda _instance, _metrics: None,
    ) -> None:
        """`moved` is called for each process that becomes the current one, with the host:port of its metrics."""
        self.instance = instance
        self.policy = RestartPolicy(rules)
        self.current: Process | None = None
        self._installation = installation
        self._rules = rules
        self._log = log.bind(member=instance)
        self._start = start
        self._moved = moved
        self._generation = 0
        self._changing = asyncio.Lock()  # must be held to change `current`
        # One restart at a time: its old process has the other slot until it ends.
        self._replacing = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts the instance and watches it from now on."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Lets the process finish its work and end."""
        async with self._replacing:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            if self.current is not None:
                await self.current.retire()
                self.current = None
            self.policy.stopped(time.monotonic())

    async def replace(self) -> None:
        """Starts a new process, waits until it is ready, then lets the old one finish. Raises ReplaceError."""
        async with self._replacing:
            failed, old = self.policy.failed, self.current
            if service_of(self.instance) in services.ALONE:
                # The next process needs what the one that runs has for itself.
                self._hurry.set()
                if old is not None:
                    await old.retire()
                    failed += 1  # its end
                    while self.current is old:  # noqa: ASYNC110 - as `_until_ready`
                        await asyncio.sleep(_PROBE_STARTING_S)
            else:
                async with self._changing:
                    old = self.current
                    if old is not None and old.alive:
                        await self._hand_over(old)
                if old is not None and self.current is not old:
                    await old.retire(successor=True)
                    self._log.info("replaced", old=old.pid, new=self.current.pid if self.current else None)
                    return
                # Nothing serves, so there is nothing to hand over: the next process starts at once, without the backoff.
                failed = self.policy.failed
                self._hurry.set()
            await self._until_ready(failed)

    async def _hand_over(self, old: Process) -> None:
        """To a new process, once it is ready. Raises ReplaceError."""
        deadline = time.monotonic() + self._rules.start
        try:
            new = await self._spawn(1 - old.slot)
            while await new.look(_TIMEOUT_STARTING_S) is not ProbeResult.READY:
                if await new.ended(_PROBE_STARTING_S) or time.monotonic() > deadline:
                    await self._give_up(new)
                    raise ReplaceError(
                        self._why("the new process did not become ready, so the old one goes on")
                    )
            await self._refuse_worse(old, new)
            try:
                await new.publish()
            except OSError:
                await self._give_up(new)
                raise
        except (OSError, ConfigError, LayoutError) as error:
            raise ReplaceError(
                f"{self.instance}: no new process can be started ({sentence(error)}), so the old one goes on"
            ) from error
        self.current = new
        self._moved(self.instance, new.metrics)
        self.policy.replaced(time.monotonic())

    @staticmethod
    async def _give_up(new: Process) -> None:
        new.kill()
        await new.forget()

    async def _refuse_worse(self, old: Process, new: Process) -> None:
        """Raises ReplaceError if the new process has a model in quarantine that the old one serves: its file may have changed."""
        pages = await asyncio.gather(probes.metrics_page(old.metrics), probes.metrics_page(new.metrics))
        lost = quarantined_models.newly_held(*pages)
        if not lost:
            return
        await self._give_up(new)
        told = await asyncio.to_thread(quarantined_models.forget, self._installation.layout, lost)
        why = "\n".join(told) or f"it has {', '.join(lost)} in quarantine"
        raise ReplaceError(
            f"{self.instance}: the new process can't use a model that the old one serves, so the old one goes on\n{why}"
        )

    async def _until_ready(self, failed: int) -> None:
        """Waits for readiness. Raises ReplaceError. `failed`: `policy.failed` when the wait began."""
        deadline, policy = time.monotonic() + self._rules.start, self.policy
        # Of a process that has just ended the state is known a moment later.
        while self.current is None or policy.state is not State.READY:
            if policy.failed > failed and (policy.trouble or policy.unstartable):
                raise ReplaceError(f"{self.instance}: {policy.reason}; it is tried again and again")
            if time.monotonic() > deadline:
                raise ReplaceError(self._why("it did not become ready"))
            await asyncio.sleep(_PROBE_STARTING_S)

    async def _keep(self) -> None:
        while True:
            try:
                delay = await self._run_one()
            except Exception as error:  # noqa: BLE001 - after any error the service must be tried again
                delay = self._after_error(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay)
            self._hurry.clear()

    async def _run_one(self) -> float:
        """One process, from its start to its end. Returns the seconds to wait before the next one."""
        async with self._changing:
            if self.current is None:
                self.current = await self._spawn(slot=0)
                self._moved(self.instance, self.current.metrics)
                self.policy.started(time.monotonic())
        while True:
            process = self.current
            assert process is not None, "only this method and `stop` take it away"
            killed = await self._watch(process)
            async with self._changing:  # a restart in progress decides first which one is current
                if self.current is process:
                    self.current = None
                    await process.forget()
                    break
        refused = process.exit_code == EXIT_CONFIG
        why = (refused and process.last_words()) or killed or _end_of(process.exit_code)
        delay = self.policy.ended(time.monotonic(), why, refused=refused)
        self._log.warning(
            "ended", pid=process.pid, exit_code=process.exit_code, reason=why, restart_in_s=delay
        )
        return delay

    def _after_error(self, error: Exception) -> float:
        """No process could be started, or supervised. Returns the seconds to wait before the next try."""
        why = sentence(error)
        if self.current is not None:
            self._log.error("the supervision failed and goes on", error=why)
            return _PROBE_UNREADY_S
        delay = self.policy.ended(time.monotonic(), why, refused=isinstance(error, ConfigError), ran=False)
        self._log.error("can't be started", reason=why, again_in_s=delay)
        return delay

    async def _watch(self, process: Process) -> str:
        """Probes a process until it has ended or is no longer the current one. Returns why it was killed; empty: it was not."""
        policy, killed = self.policy, ""
        due, late_by = time.monotonic() + self._pause(), 0.0
        looking: asyncio.Future[ProbeResult] | None = None
        sent, allowed = 0.0, 0.0
        try:
            while self.current is process:
                began, before = time.monotonic(), policy.state
                step = max(due - began, 0.0) if looking is None else max(self._pause(), _PROBE_UNREADY_S)
                step = min(step, _LOOK_EVERY_S)
                if await process.ended(step, looking):
                    break
                now = time.monotonic()
                overrun = now - began - step
                policy.stopped_for(min(now - began, step) if process.stopped else None, now)
                if looking is None:
                    late_by = max(late_by, overrun)
                    if now >= due and process.stopped:
                        due = now + _LOOK_EVERY_S
                    elif now >= due:
                        starting = policy.state is State.STARTING
                        sent, allowed = now, _TIMEOUT_STARTING_S if starting else self._rules.timeout
                        looking = asyncio.ensure_future(process.look(allowed))
                elif looking.done():
                    late_by = max(late_by, now - sent - allowed - probes.HEARTBEAT_TIMEOUT_S)
                    await self._probed(process, looking.result(), late_by)
                    looking, late_by, due = None, 0.0, now + self._pause()
                else:
                    await self._listen(process, overrun)
                if policy.state is not before:
                    self._log.info("state", pid=process.pid, state=str(policy.state))
                if self.current is process and not killed and (killed := policy.must_end(now)):
                    self._log.error("killed", pid=process.pid, reason=killed)
                    process.kill()
        finally:
            if looking is not None:
                looking.cancel()
        return killed

    async def _probed(self, process: Process, seen: ProbeResult, late_by: float) -> None:
        if self.current is process:
            if seen is ProbeResult.READY:
                await process.publish()
            self.policy.probed(seen, time.monotonic(), late_by)

    async def _listen(self, process: Process, late_by: float) -> None:
        """Reads the heartbeat of a process that has not answered a probe yet."""
        began = time.monotonic()
        age = await process.heartbeat_age()
        now = time.monotonic()
        if self.current is process:  # else the policy is for its successor now
            late_by = max(late_by, now - began - probes.HEARTBEAT_TIMEOUT_S)
            self.policy.heartbeat(age, now, late_by)

    def _pause(self) -> float:
        """Seconds until the next probe."""
        if self.policy.state is State.STARTING:
            return _PROBE_STARTING_S
        return _PROBE_UNREADY_S if self.policy.state is State.UNREADY else self._rules.every

    async def _spawn(self, slot: int) -> Process:
        self._generation += 1
        started = await self._start(self._installation, self.instance, slot, self._generation)
        self._log.info("started", pid=started.pid, generation=self._generation)
        return started

    def _why(self, what: str) -> str:
        path = self._installation.layout.log(self.instance)
        lines = "\n".join(log_files.tail(path, _LINES))
        return f"{self.instance}: {what}; the last lines of {path}:\n{lines}"


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"it was ended by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"it ended with exit code {exit_code}"


def sentence(error: Exception) -> str:
    """What went wrong, as text for a person."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror.lower()}{where}"
    if isinstance(error, OSError | ConfigError | LayoutError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}"
