"""Follows control on a thread, for as long as the process lives. What control does, or that it is away, hurts nobody here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.catalog.access import Position
from headrace.resources.apply import Applier, View
from headrace.resources.disk import Disk
from headrace.resources.follower_state import FollowerState, Next
from headrace.resources.manifest import ManifestError, VerifiedPart

# The longest wait of one question: a control that hangs is noticed so long after, and another one is asked.
WAIT_S = 4.0
GRACE_S = 1.5
# Pauses after failures double from the first to the last, and are drawn from the upper half.
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
# While others go first; and between answers without news, should a control not wait.
_HOLD_S, _LEAST_S = 0.2, 0.1
# While control is not followed.
STORE_EVERY_S = 5.0
# A process that has nothing waits for the store so long before it asks control, which may hang.
_STORE_FIRST_S = 0.4
_log = logging.getLogger(__name__)


class Control(Protocol):
    """The processes of control, one after another. `watch` blocks and raises OSError; `turn` goes on to the next one."""

    def watch(self, request: WatchRequest, timeout_s: float) -> WatchResponse: ...
    def turn(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Status:
    """`position`: of what control last gave; None: nothing yet. `age_s`: seconds since control confirmed that this is the newest.
    `problem`: why it does not follow now; "": it does. `diverged`: whether what control has does not descend from it."""

    position: Position | None
    age_s: float
    problem: str
    diverged: bool


class Follower:
    """`clock`: monotonic seconds; `draw`: a number from 0 to 1. `read_artifacts`: what the artifact store has, read while control
    is not followed (raises OSError, ManifestError). `control` None: the store alone is followed. `age_s`: of the first part."""

    def __init__(
        self,
        control: Control | None,
        state: FollowerState,
        applier: Applier,
        disk: Disk | None,
        clock: Callable[[], float],
        draw: Callable[[], float],
        read_artifacts: Callable[[], VerifiedPart] | None = None,
        age_s: float = 0.0,
    ) -> None:
        # Set once control, or the store if that alone is followed, has answered or could not be reached for the first time.
        self.first = threading.Event()
        self.view: View | None = None
        self._control = control
        self._state = state
        self._applier = applier
        self._disk = disk
        self._clock = clock
        self._draw = draw
        self._artifacts = read_artifacts
        self._reading: threading.Thread | None = None
        self._read: list[VerifiedPart | str] = []
        self._read_at = 0.0
        self._confirmed = clock() - age_s
        self._problem = self._disk_problem = self._store_problem = ""
        self._diverged = False
        self._failures = 0
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._heard: list[Callable[[], object]] = []
        self._thread = threading.Thread(target=self._run, name="headrace-follower", daemon=True)

    def start(self, part: VerifiedPart | None = None, problems: Sequence[str] = ()) -> None:
        """Begins to follow, on a thread of its own. `part`: what the process starts with; `problems`: of its disk."""
        self._disk_problem = "; ".join(problems)
        for problem in problems:
            _log.warning("what was stored is not used: %s", problem)
        self._begin_read()
        if part is not None:
            self._use(part)
        elif self._reading is not None:
            self._reading.join(_STORE_FIRST_S)
        self._thread.start()

    def publish(self, view: View) -> None:
        """What serves from now on."""
        with self._changed:
            self.view = view
            self._changed.notify_all()
        for heard in self._heard:
            heard()

    def on_change(self, heard: Callable[[], object]) -> None:
        """Calls it after each new view, on this follower's thread: it must be quick and raise nothing."""
        self._heard.append(heard)

    def wait(self, seen: str, timeout_s: float) -> View | None:
        """The view as soon as its state differs from `seen`, at the latest after `timeout_s`. Blocks."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing.is_set() or (self.view is not None and self.view.state != seen),
                timeout_s,
            )
            return self.view

    def status(self) -> Status:
        """How it is now."""
        part = self._state.part
        problem = "; ".join(
            filter(None, (self._problem, self._store_problem, self._disk_problem, self._applier.problem))
        )
        age = max(0.0, self._clock() - self._confirmed)
        return Status(part.position if part else None, age, problem, self._diverged)

    def close(self) -> None:
        """Ends the thread and a `wait` in progress."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._control is not None:
            self._control.close()
        if self._thread.is_alive():
            self._thread.join()
        self._applier.close()
        if self._disk is not None:
            self._disk.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                pause = self._round()
            except Exception as error:  # noqa: BLE001 - the thread must go on: the next answer may be better
                pause = self._failed(f"{type(error).__name__}: {error}")
            self._closing.wait(pause)

    def _round(self) -> float:
        """Asks once; returns the seconds to the next question."""
        self._applier.tick()
        due = self._applier.due_s()
        wait = min(WAIT_S, WAIT_S if due is None else due) if self.first.is_set() else 0.0
        self._follow_artifacts()
        if self._control is None:
            if self._reading is None and not self._read:
                self.first.set()
            return min(1.0, wait) if wait else _LEAST_S
        began, view = self._clock(), self.view
        request = self._state.request(wait, view.rejected.values() if view else (), ready=view is not None)
        try:
            response = self._control.watch(request, wait + GRACE_S)
        except OSError as error:
            self._state.failed()
            return self._failed(f"control can't be reached: {error}")
        outcome = self._state.receive(response)
        if response.may_apply:
            self._applier.avoid(response.rejected)
        if outcome.next in (Next.REFUSE, Next.DIVERGED):
            return self._failed(outcome.problem, diverged=outcome.next is Next.DIVERGED)
        if outcome.next is Next.CONTINUE:
            return 0.0
        if outcome.part is not None:
            self._use(outcome.part)
        self._followed()
        if outcome.next is Next.NOTHING:
            return max(0.0, min(wait, _LEAST_S) - (self._clock() - began)) if wait else _LEAST_S
        return _HOLD_S * (0.5 + self._draw()) if outcome.next is Next.HOLD else 0.0

    def _followed(self) -> None:
        if self._problem:
            _log.info("control is followed again")
        self._problem, self._diverged, self._failures = "", False, 0
        self._confirmed = self._clock()
        self.first.set()

    def _failed(self, problem: str, *, diverged: bool = False) -> float:
        if problem != self._problem and not self._closing.is_set():
            _log.warning("control is not followed, what is here serves on: %s", problem)
        self._problem, self._diverged = problem, diverged
        if self._control is not None:
            self._control.turn()
        self.first.set()
        pause = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * float(2 ** min(self._failures, 10)))
        self._failures += 1
        return pause * (0.5 + self._draw() / 2)

    def _begin_read(self) -> None:
        """Reads the artifact store on a thread: a bucket that hangs delays nothing."""
        if self._artifacts is None or self._reading is not None or self._read:
            return
        read = self._artifacts

        def run() -> None:
            try:
                self._read.append(read())
            except (OSError, ManifestError) as error:
                self._read.append(f"the artifact store can't be read: {error}")
            self._reading = None

        self._read_at = self._clock()
        self._reading = threading.Thread(target=run, name="headrace-artifacts", daemon=True)
        self._reading.start()

    def _follow_artifacts(self) -> None:
        """Takes over what was read, and reads again while nobody else is followed."""
        if self._read:
            found = self._read.pop()
            if isinstance(found, str):
                self._store_problem = found
            else:
                self._store_problem = ""
                if self._state.offer(found):
                    self._use(found)
                if self._control is None:
                    self._followed()
        if (self._problem or self._control is None) and self._clock() - self._read_at >= STORE_EVERY_S:
            self._begin_read()

    def _use(self, part: VerifiedPart) -> None:
        """Writes it first: a process that it ends must start with it again, else it would forget what it suspects. A process that
        serves nothing yet does not wait for a thousand files."""
        first = self.view is None
        if not first:
            self._write(part)
        self._applier.apply(part)
        if self._thread.is_alive():
            self.first.set()
        if first:
            self._write(part)

    def _write(self, part: VerifiedPart) -> None:
        if self._disk is None:
            return
        try:
            self._disk.write(part, self._applier.trials.used())
            self._disk_problem = ""
        except OSError as error:
            self._disk_problem = (
                f"what is live can't be written to {self._disk.folder}: {error.strerror or error}"
            )
