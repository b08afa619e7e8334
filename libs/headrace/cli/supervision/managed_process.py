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
# A probe without an answer is waited for, but the process's heartbeat is read meanwhile, so often (seconds).
_HEARTBEAT_EVERY_S = 1.0
# Seconds between two looks whether a process is stopped (SIGSTOP): a stopped one can't answer, so it is not probed.
_LOOK_EVERY_S = 1.0
_LINES = 8
# After so many processes that ended before they were ready, the next one will hardly become ready.
_HOPELESS_AFTER = 4
Start = Callable[[Installation, str, int, int], Awaitable[Process]]
Moved = Callable[[str, str], None]

_SEEN = {
    ProbeResult.REFUSING: "it says that it takes no calls now",
    ProbeResult.BUSY: "it does not answer, though its event loop takes turns",
    ProbeResult.SILENT: "it does not answer, and its event loop stands still",
}


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
        self._refused = False  # the last process could not use its settings
        self._reason = ""
        self._unstartable = False  # the last try to start one failed
        self._failures = 0  # processes that ended by themselves, and failed tries to start one
        self._installation = installation
        self._rules = rules
        self._log = log.bind(member=instance)
        self._start = start
        self._moved = moved
        self._generation = 0
        self._changing = asyncio.Lock()  # must be held to change `current`
        self._replacing = (
            asyncio.Lock()
        )  # one restart at a time: its old process has the other slot until it ends
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """Why it will not become ready by itself; empty while it still may."""
        if self.policy.state is State.READY:
            return ""
        if self._refused:
            return (
                f"it can't use its settings: {self._reason}" if self._reason else "it can't use its settings"
            )
        if self.policy.in_vain >= _HOPELESS_AFTER:
            return f"it ended {self.policy.in_vain} times before it was ready: {self._reason}"
        return ""

    @property
    def reason(self) -> str:
        """Why its last process, or the last try to start one, failed; empty once another one is ready."""
        return "" if self.policy.state is State.READY else self._reason

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
            if service_of(self.instance) in services.ALONE:
                await self._begin_anew()
                return
            async with self._changing:
                old = self.current
                if old is not None and old.alive:
                    await self._hand_over(old)
            if old is not None and self.current is not old:
                await old.retire(successor=True)
                self._log.info("replaced", old=old.pid, new=self.current.pid if self.current else None)
                return
            # Nothing serves, so there is nothing to hand over: the next process starts at once, without the backoff.
            failures = self._failures
            self._hurry.set()
            await self._until_ready(failures)

    async def _begin_anew(self) -> None:
        """Its next process needs what the one that runs has for itself. Raises ReplaceError."""
        failures, old = self._failures, self.current
        self._hurry.set()
        if old is not None:
            await old.retire()
            failures += 1  # its end
            while self.current is old:  # noqa: ASYNC110 - as `_until_ready`
                await asyncio.sleep(_PROBE_STARTING_S)
        await self._until_ready(failures)

    async def _hand_over(self, old: Process) -> None:
        try:
            await self._take_over(old)
        except (OSError, ConfigError, LayoutError) as error:
            raise ReplaceError(
                f"{self.instance}: no new process can be started ({sentence(error)}), so the old one goes on"
            ) from error

    async def _take_over(self, old: Process) -> None:
        deadline = time.monotonic() + self._rules.start
        new = await self._successor(1 - old.slot, deadline)
        if not new.alive:
            raise ReplaceError(self._why("the new process did not become ready, so the old one goes on"))
        await self._refuse_worse(old, new)
        try:
            await new.publish()
        except OSError:
            new.kill()
            await new.forget()
            raise
        self.current = new
        self._moved(self.instance, new.metrics)
        self.policy.replaced(time.monotonic())

    async def _refuse_worse(self, old: Process, new: Process) -> None:
        """Raises ReplaceError if the new process has a model in quarantine that the old one serves: its file may have changed."""
        pages = await asyncio.gather(probes.metrics_page(old.metrics), probes.metrics_page(new.metrics))
        lost = quarantined_models.newly_held(*pages)
        if not lost:
            return
        new.kill()
        await new.forget()
        told = await asyncio.to_thread(quarantined_models.forget, self._installation.layout, lost)
        why = "\n".join(told) or f"it has {', '.join(lost)} in quarantine"
        raise ReplaceError(
            f"{self.instance}: the new process can't use a model that the old one serves, so the old one goes on\n{why}"
        )

    async def _successor(self, slot: int, deadline: float) -> Process:
        """A new process that is ready, or one that has ended and whose files are removed."""
        new = await self._spawn(slot)
        while await new.look(_TIMEOUT_STARTING_S) is not ProbeResult.READY:
            if await new.ended(_PROBE_STARTING_S) or time.monotonic() > deadline:
                new.kill()
                await new.forget()
                break
        return new

    async def _until_ready(self, failures: int) -> None:
        """Waits for readiness. Raises ReplaceError. `failures`: how many there were when the wait began."""
        deadline = time.monotonic() + self._rules.start
        # Of a process that has just ended the state is known a moment later.
        while self.current is None or self.policy.state is not State.READY:
            if self._failures > failures and (self.trouble or self._unstartable):
                raise ReplaceError(f"{self.instance}: {self._reason}; it is tried again and again")
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
        lost, killed = await self._supervise_current()
        delay = self.policy.exited(time.monotonic())
        self._refused = lost.exit_code == EXIT_CONFIG
        self._unstartable = False
        self._reason = killed or _end_of(lost.exit_code)
        if self._refused:
            self._reason = lost.last_words() or self._reason
        self._failures += 1
        self._log.warning(
            "ended", pid=lost.pid, exit_code=lost.exit_code, reason=self._reason, restart_in_s=delay
        )
        return delay

    def _after_error(self, error: Exception) -> float:
        """No process could be started, or supervised. Returns the seconds to wait before the next try."""
        if self.current is not None:
            self._log.error("the supervision failed and goes on", error=sentence(error))
            return _PROBE_UNREADY_S
        delay = self.policy.unstartable(time.monotonic())
        self._refused = isinstance(error, ConfigError)
        self._unstartable = True
        self._reason = sentence(error)
        self._failures += 1
        self._log.error("can't be started", reason=self._reason, again_in_s=delay)
        return delay

    async def _supervise_current(self) -> tuple[Process, str]:
        """Probes the current process until it has ended. Returns it, and why it was killed (empty if it was not)."""
        killed, why = None, ""
        while True:
            process = self.current
            assert process is not None, "only `_supervise_current` and `stop` take it away"
            planned = self._pause()
            began = time.monotonic()
            if await self._ended(process, planned):
                async with self._changing:  # a restart in progress decides first which one is current
                    if self.current is process:
                        self.current = None
                        await process.forget()
                        return process, why if killed is process else ""
                continue
            late_by = time.monotonic() - began - planned
            found = self.policy.hung() or await self._probe(process, late_by)
            if found and self.current is process:
                killed, why = process, found
                self._log.error("killed", pid=process.pid, reason=why)
                process.kill()

    async def _ended(self, process: Process, within: float) -> bool:
        """Waits for the next probe, or until a process that is stopped (SIGSTOP) must be killed. Returns whether it ended."""
        left = within
        while True:
            step = min(left, _LOOK_EVERY_S)
            if await process.ended(step):
                return True
            stopped, left = process.stopped, left - step
            self.policy.stopped_for(step if stopped else None, time.monotonic())
            if self.policy.hung() or (left <= 0 and not stopped):
                return False
            left = left if left > 0 else _LOOK_EVERY_S

    async def _probe(self, process: Process, late_by: float) -> str:
        """One probe of the current process. Returns why it must be killed, or an empty text."""
        starting = self.policy.state is State.STARTING
        allowed = _TIMEOUT_STARTING_S if starting else self._rules.timeout
        began = time.monotonic()
        looking = asyncio.ensure_future(process.look(allowed))
        listening = asyncio.ensure_future(self._listen(process, late_by))
        try:
            await asyncio.wait({looking, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                return await listening
            seen = looking.result()
        finally:
            looking.cancel()
            listening.cancel()
        late_by = max(late_by, time.monotonic() - began - allowed - probes.HEARTBEAT_TIMEOUT_S)
        if self.current is not process:
            return ""
        if seen is ProbeResult.READY:
            await process.publish()
        before, now = self.policy.state, time.monotonic()
        self.policy.probed(seen, now, late_by)
        if process.stopped:
            self.policy.stopped_for(min(now - began, allowed), now)
        if self.policy.state is not before:
            self._log.info("state", pid=process.pid, state=str(self.policy.state))
        self._note(seen)
        if self.policy.overdue(now):
            return f"it was not ready after {self._rules.start:g} s"
        return self.policy.hung()

    async def _listen(self, process: Process, late_by: float) -> str:
        """Reads the process's heartbeat as long as a probe is not answered. Returns why it must be killed, if so."""
        while not (why := self.policy.hung()):
            began = time.monotonic()
            pause = _PROBE_UNREADY_S if self.policy.state is State.UNREADY else _HEARTBEAT_EVERY_S
            await asyncio.sleep(pause)
            age = await process.heartbeat_age()
            if self.current is not process:
                return ""  # the policy is for its successor now
            now = time.monotonic()
            late_by = max(late_by, now - began - pause - probes.HEARTBEAT_TIMEOUT_S)
            self.policy.heartbeat(age, now, late_by)
            late_by = 0.0
        return why

    def _note(self, seen: ProbeResult) -> None:
        """Records why a process that runs is not ready."""
        if self.policy.state is State.READY:
            self._reason, self._refused, self._unstartable = "", False, False
        elif self.policy.state is State.UNREADY:
            self._reason = _SEEN[seen]

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
