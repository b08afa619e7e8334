"""The backends of one model in order of preference: who runs it, who stands by, and how one takes over."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from services.executor.backends.backend import Backend, BackendLateError, BackendLostError, Tensors
from services.executor.failover.health import GroupHealth
from services.executor.failover.samples import Samples, Tolerance, find_difference
from services.executor.scheduling.run_time import RunTimes

_SELF_TEST_EVERY_S = 1.0
# A self-test may take this long.
_SELF_TEST_S = 5.0


@dataclass(slots=True, eq=False)
class Member:
    """One backend, with what is known of it. `pool`: threads for its runs alone, lest one that hangs takes another's."""

    backend: Backend
    pool: ThreadPoolExecutor
    times: RunTimes = field(default_factory=RunTimes)
    # Whether it was activated and may be run.
    active: bool = False


Switched = Callable[[Member, Member, str], None]
"""Told from any thread: who ran the model, who does now, and why."""


class FailoverGroup:
    """Runs a model on the first of its backends that is not lost. Safe among threads.

    `samples` with `expected` outputs tell whether a backend is well. `patience`: seconds that a backend may take for a
    run as long as another one stands by.
    """

    def __init__(
        self,
        members: Sequence[Member],
        health: GroupHealth,
        samples: Samples,
        tolerance: Tolerance,
        patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = tuple(members)
        self.health = health
        self.samples = samples
        self.tolerance = tolerance
        self.patience = patience
        self.expected: Tensors | None = samples.outputs
        self.on_switch: Switched = lambda _old, _new, _why: None
        self._clock = clock
        self._lock = threading.Lock()
        self._tested = float("-inf")

    @property
    def active(self) -> Member:
        """Who runs the model now."""
        return self.members[self.health.active]

    @property
    def has_standby(self) -> bool:
        """Whether another backend could take over."""
        health = self.health
        return any(i != health.active and not health.is_lost(i) for i in range(len(self.members)))

    @property
    def on_standby(self) -> bool:
        """Whether the model runs on another backend than the first choice."""
        return self.health.active != 0

    def run(self, inputs: Tensors, deadline: float) -> tuple[Tensors, Member]:
        """The outputs, and who made them. If a backend is lost, the next one runs the rows instead.

        Raises BackendLostError, BackendLateError if no other is left; else what the engine raises.
        """
        while True:
            member = self.active
            limit = deadline if not self.has_standby else min(deadline, self._clock() + self.patience)
            try:
                outputs = member.backend.run(inputs, limit)
            except BackendLostError as error:
                if not self.mark_lost(member, str(error)):
                    raise
            except BackendLateError as error:
                # Whoever had all the time we are willing to give is lost; whoever had less may be just slow.
                gone = (
                    self.mark_lost(member, str(error)) if limit < deadline else self._late(member, str(error))
                )
                if not gone or self._clock() >= deadline:
                    raise
            else:
                if not self.health.calm:
                    with self._lock:
                        self.health.ran(self.members.index(member))
                return outputs, member

    def mark_lost(self, member: Member, why: str) -> bool:
        """`member` can't run anything. Returns whether another one runs the model now."""
        with self._lock:
            which = self.members.index(member)
            if self.health.is_lost(which) or self.active is not member:
                return self.active is not member
            switched = self.health.lost(which, self._clock())
            after = self.active
        if switched:
            self.on_switch(member, after, why)
        return switched

    def replace_if_broken(self, member: Member) -> bool:
        """Every row of a run failed there: rows or engine? Tells by its samples, once a second at most.

        Returns whether another backend runs the model now.
        """
        with self._lock:
            if len(self.members) == 1 or self.active is not member:
                return self.active is not member
            now = self._clock()
            if now - self._tested < _SELF_TEST_EVERY_S:
                return False
            self._tested = now
        problem = self.test(member)
        return bool(problem) and self.mark_lost(member, problem)

    def test(self, member: Member) -> str:
        """What is wrong with `member` by its samples; empty if nothing."""
        try:
            found = member.backend.run(self.samples.inputs, self._clock() + _SELF_TEST_S)
            if self.expected is None:
                return ""
            return find_difference(found, self.expected, self.tolerance)
        except Exception as error:  # noqa: BLE001 - engines raise anything; what it says is the finding
            return str(error).partition("\n")[0] or type(error).__name__

    def recover(self, which: int) -> bool:
        """Tries a lost backend, anew activated if need be. Returns whether it is well; twice so, and it runs again."""
        member = self.members[which]
        problem = self.test(member) if member.active else "not active"
        if problem:
            problem = self._reactivated(member)
        with self._lock:
            before = self.active
            switched = self.health.probed(which, good=not problem, now=self._clock())
            after = self.active
        if switched:
            self.on_switch(before, after, "it is well again")
        return not problem

    def deactivate(self) -> None:
        """Gives back what all of them hold."""
        for member in self.members:
            member.pool.shutdown(wait=False, cancel_futures=True)
            if member.active:
                member.active = False
                member.backend.deactivate()

    def _reactivated(self, member: Member) -> str:
        try:
            if member.active:
                member.active = False
                member.backend.deactivate()
            member.backend.activate()
        except Exception as error:  # noqa: BLE001 - a sick engine raises anything; it stays lost
            return str(error) or type(error).__name__
        member.active = True
        return self.test(member)

    def _late(self, member: Member, why: str) -> bool:
        with self._lock:
            if self.active is not member:
                return True
            switched = self.health.late(self.members.index(member), self._clock())
            after = self.active
        if switched:
            self.on_switch(member, after, why)
        return switched


class Recovery:
    """Tries the lost backends of one model, on threads, for as long as any is lost. `tried`: told of each try."""

    def __init__(
        self, group: FailoverGroup, tried: Callable[[Member, bool], None], clock: Callable[[], float]
    ) -> None:
        self._lineup = group
        self._tried = tried
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins if a backend is lost and nobody tries it yet."""
        if self._lineup.health.probe_at() is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._recover())

    def stop(self) -> None:
        """Ends it. A try that is under way goes on by itself, and changes nothing."""
        if self._task is not None:
            self._task.cancel()

    async def _recover(self) -> None:
        health = self._lineup.health
        while (at := health.probe_at()) is not None:
            await asyncio.sleep(max(at - self._clock(), 0.0))
            for which in health.to_probe(self._clock()):
                well = await asyncio.to_thread(self._lineup.recover, which)
                self._tried(self._lineup.members[which], well)
