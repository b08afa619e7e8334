"""One instance of a service under supervision: always a process, and during a restart the next one beside it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.cli import logs, process
from headrace.cli.process import Process
from headrace.cli.settings import Installation
from headrace.cli.supervising import Rules, State, Watch
from headrace.hop.lifecycle import EXIT_CONFIG

_LOOK_STARTING_S = 0.05
_LOOK_S = 0.5
_LINES = 8
# Between the look for a free port and the bind of a process, another program may take the port. A look now sees it, so
# the next try has fresh ones; more tries than two only for homes that restart side by side.
_PORT_TRIES = 4
# After so many processes that ended before they were ready, another one hardly fares better.
_IN_VAIN = 4
Start = Callable[[Installation, str, int, int], Awaitable[Process]]
Moved = Callable[[str, str], None]


class ReplaceError(Exception):
    """The new process did not become ready; the old one goes on. The text says what to look at."""


class Member:
    """Keeps one instance of a service running until `stop`."""

    def __init__(
        self,
        installation: Installation,
        instance: str,
        rules: Rules,
        log: Any,
        start: Start = process.start,
        moved: Moved = lambda _instance, _metrics: None,
    ) -> None:
        """`moved` is told of each process that takes the instance over, and the host:port of its metrics."""
        self.instance = instance
        self.watch = Watch(rules)
        self.current: Process | None = None
        self._refused = False  # the last process could not use its settings
        self._installation = installation
        self._rules = rules
        self._log = log.bind(member=instance)
        self._start = start
        self._moved = moved
        self._generation = 0
        self._changing = asyncio.Lock()  # held by who changes `current`
        self._replacing = (
            asyncio.Lock()
        )  # one restart at a time: its old process has the other slot until it ends
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """Why it will not be ready by itself; empty while there is hope."""
        if self.watch.state is State.READY:
            return ""
        if self._refused:
            return "it can't use its settings"
        if self.watch.in_vain >= _IN_VAIN:
            return f"it ended {self.watch.in_vain} times before it was ready"
        return ""

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
            self.watch.stopped(time.monotonic())

    async def replace(self) -> None:
        """Starts a new process, waits until it is ready, then lets the old one finish. Raises ReplaceError."""
        async with self._replacing:
            async with self._changing:
                old = self.current
                if old is not None and old.alive:
                    await self._hand_over(old)
            if old is not None and self.current is not old:
                await old.retire(successor=True)
                self._log.info("replaced", old=old.pid, new=self.current.pid if self.current else None)
                return
            # Nothing serves, so there is nothing to hand over: no more waiting for the backoff.
            self._hurry.set()
            await self._until_ready()

    async def _hand_over(self, old: Process) -> None:
        deadline = time.monotonic() + self._rules.start
        new = await self._successor(1 - old.slot, deadline)
        for _ in range(_PORT_TRIES - 1):
            if not new.crowded_out:
                break
            self._log.warning("its ports were taken meanwhile; trying others", pid=new.pid)
            new = await self._successor(1 - old.slot, deadline)
        if not new.alive:
            raise ReplaceError(self._why("the new process did not become ready, so the old one goes on"))
        await new.publish()
        self.current = new
        self._moved(self.instance, new.metrics)
        self.watch.replaced(time.monotonic())

    async def _successor(self, slot: int, deadline: float) -> Process:
        """A new process that is ready, or one that has ended and is tidied away."""
        new = await self._spawn(slot)
        while not await new.ready():
            if await new.ended(_LOOK_STARTING_S) or time.monotonic() > deadline:
                new.kill()
                await new.forget()
                break
        return new

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + self._rules.start
        while self.watch.state is not State.READY:
            if time.monotonic() > deadline:
                raise ReplaceError(self._why("it did not become ready"))
            await asyncio.sleep(_LOOK_STARTING_S)

    async def _keep(self) -> None:
        while True:
            async with self._changing:
                if self.current is None:
                    self.current = await self._spawn(slot=0)
                    self._moved(self.instance, self.current.metrics)
                    self.watch.started(time.monotonic())
            lost = await self._attend()
            delay = self.watch.exited(time.monotonic())
            # One whose ports somebody else took may say so with the same exit code, and has others next time.
            self._refused = lost.exit_code == EXIT_CONFIG and not lost.crowded_out
            self._log.warning("ended", pid=lost.pid, exit_code=lost.exit_code, restart_in_s=delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay)
            self._hurry.clear()

    async def _attend(self) -> Process:
        """Looks after the current process until it has ended, and returns it."""
        while True:
            process = self.current
            assert process is not None, "only `_attend` and `stop` take it away"
            if await process.ended(_LOOK_STARTING_S if self.watch.state is State.STARTING else _LOOK_S):
                async with self._changing:  # a restart that is under way decides first who is the current one
                    if self.current is process:
                        self.current = None
                        await process.forget()
                        return process
                continue
            healthy = await process.ready()
            if self.current is process:
                if healthy:
                    await process.publish()
                before = self.watch.state
                self.watch.probed(healthy, time.monotonic())
                if self.watch.state is not before:
                    self._log.info("state", pid=process.pid, state=str(self.watch.state))
                if self.watch.overdue(time.monotonic()):
                    self._log.warning("not ready in time", pid=process.pid, after_s=self._rules.start)
                    process.kill()

    async def _spawn(self, slot: int) -> Process:
        self._generation += 1
        started = await self._start(self._installation, self.instance, slot, self._generation)
        self._log.info("started", pid=started.pid, generation=self._generation)
        return started

    def _why(self, what: str) -> str:
        path = self._installation.layout.log(self.instance)
        lines = "\n".join(logs.tail(path, _LINES))
        return f"{self.instance}: {what}; the last lines of {path}:\n{lines}"
