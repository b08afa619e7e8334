"""The failover group of a model: its backends in order of preference. One is active and runs it, the others stand by."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headrace.repository import Tolerance
from headrace.repository.records import Measured
from services.executor.backends.backend import Backend, BackendLateError, BackendLostError, Tensors
from services.executor.failover.health import GroupHealth
from services.executor.failover.samples import Samples, find_difference
from services.executor.scheduling.run_time import RunTimes

_SELF_TEST_EVERY_S = 1.0
# A self-test may take this long (seconds).
_SELF_TEST_S = 5.0


@dataclass(slots=True, eq=False)
class Member:
    """One backend of a group. `pool`: threads for its runs only, so that a backend that hangs blocks no other one."""

    backend: Backend
    pool: ThreadPoolExecutor
    times: RunTimes = field(default_factory=RunTimes)
    # Without run times they are measured at its warm-up.
    measured: Measured = field(default_factory=Measured)
    # Whether it is activated and may run.
    active: bool = False


OnSwitch = Callable[[Member, Member, str], None]
"""Is called, from any thread, with the member that was active, the one that is now, and why."""


class FailoverGroup:
    """Runs a model on the first of its backends that is not lost. Thread-safe.

    A backend is healthy if it answers `samples` with the `expected` outputs. `patience`: seconds that a backend may take
    for a run while another one stands by.
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
        self.on_switch: OnSwitch = lambda _old, _new, _why: None
        self._clock = clock
        self._lock = threading.Lock()
        self._tested = float("-inf")

    @property
    def active(self) -> Member:
        """The member that runs the model now."""
        return self.members[self.health.active]

    @property
    def has_standby(self) -> bool:
        health = self.health
        return len(self.members) > 1 and any(
            i != health.active and not health.is_lost(i) for i in range(len(self.members))
        )

    @property
    def on_standby(self) -> bool:
        """Whether the model runs on a backend that is not the first choice."""
        return self.health.active != 0

    def run(self, inputs: Tensors, deadline: float) -> tuple[Tensors, Member]:
        """The outputs, and the member that made them. If a backend is lost, the next one runs the rows.

        `deadline`: monotonic seconds. Raises BackendLostError or BackendLateError if no backend is left, and whatever
        the engine raises.
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
                # A backend that had its full patience is lost; with less time it may only be slow.
                note = self.mark_lost if limit < deadline else self._note_late
                if not note(member, str(error)) or self._clock() >= deadline:
                    raise
            else:
                if not self.health.all_healthy:
                    with self._lock:
                        self.health.ran(self.members.index(member))
                return outputs, member

    def mark_lost(self, member: Member, why: str) -> bool:
        """Notes that `member` can't run anything. Returns whether another one runs the model now."""
        with self._lock:
            which = self.members.index(member)
            if self.health.is_lost(which) or self.active is not member:
                return self.active is not member
            changed = self.health.lost(which, self._clock())
            after = self.active
        if changed:
            self.on_switch(member, after, why)
        return changed

    def replace_if_broken(self, member: Member) -> bool:
        """Tests `member` with the samples after every row of a run failed there: are the rows bad, or is the engine?

        At most once a second. Returns whether another backend runs the model now.
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
        """What is wrong with the answers of `member` to the samples; empty if nothing."""
        try:
            found = member.backend.run(self.samples.inputs, self._clock() + _SELF_TEST_S)
            if self.expected is None:
                return ""
            return find_difference(found, self.expected, self.tolerance)
        except Exception as error:  # noqa: BLE001 - engines raise anything; the text is the result
            return str(error).partition("\n")[0] or type(error).__name__

    def recover(self, which: int) -> bool:
        """Probes a lost backend; activates it again if necessary. Returns whether the probe was good.

        After two good probes it runs again.
        """
        member = self.members[which]
        problem = self.test(member) if member.active else "not active"
        if problem:
            problem = self._reactivate(member)
        with self._lock:
            before = self.active
            changed = self.health.probed(which, good=not problem, now=self._clock())
            after = self.active
        if changed:
            self.on_switch(before, after, "it is well again")
        return not problem

    def deactivate(self) -> None:
        """Deactivates all members: gives their memory back."""
        for member in self.members:
            member.pool.shutdown(wait=False, cancel_futures=True)
            if member.active:
                member.active = False
                member.backend.deactivate()

    def _reactivate(self, member: Member) -> str:
        try:
            if member.active:
                member.active = False
                member.backend.deactivate()
            member.backend.activate()
        except Exception as error:  # noqa: BLE001 - a broken engine raises anything; it stays lost
            return str(error) or type(error).__name__
        member.active = True
        return self.test(member)

    def _note_late(self, member: Member, why: str) -> bool:
        with self._lock:
            if self.active is not member:
                return True
            changed = self.health.late(self.members.index(member), self._clock())
            after = self.active
        if changed:
            self.on_switch(member, after, why)
        return changed


class Recovery:
    """Probes the lost backends of a group, on threads, while any is lost. `on_probe(member, good)` hears of each."""

    def __init__(
        self, group: FailoverGroup, on_probe: Callable[[Member, bool], None], clock: Callable[[], float]
    ) -> None:
        self._group = group
        self._on_probe = on_probe
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts if a backend is lost and it does not run yet."""
        if self._group.health.probe_at() is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._recover())

    def stop(self) -> None:
        """Stops. A probe in progress continues on its thread, but its result is not used."""
        if self._task is not None:
            self._task.cancel()

    async def _recover(self) -> None:
        health = self._group.health
        while (at := health.probe_at()) is not None:
            await asyncio.sleep(max(at - self._clock(), 0.0))
            for which in health.to_probe(self._clock()):
                good = await asyncio.to_thread(self._group.recover, which)
                self._on_probe(self._group.members[which], good)
