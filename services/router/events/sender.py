"""Sends what waits in the ring to the monitoring service, for as long as the router lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.events import EventGroup
from headrace.hop.errors import Code, Fault, Reason
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.ring import AnsweredBatch, Ring
from services.router.events.settings import EventsSettings

# How long a message may take; and the pause before it is sent again.
_CALL_S = 5.0
_AGAIN_S = 0.5
_LAST_S = 0.5
# Events are made in slices, with pauses in which live batches go on. (In a thread, that work had each of their steps wait for the
# interpreter's lock: 5 to 9 ms instead of 1, for 40 ms twice a second.)
_SLICE_S, _PAUSE_S = 0.0005, 0.004
# The receiver can't read it: it would refuse it for ever.
_FINAL = frozenset({Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.PERMISSION_DENIED})


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """Events that leave together. `noted`: events of the epoch so far. `durable`: they are kept here until they are stored."""

    epoch: int
    noted: int
    groups: Sequence[EventGroup]
    durable: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.groups))


def is_final(fault: Fault) -> bool:
    """Whether sending the same message again is of no use."""
    return fault.code in _FINAL or fault.reason == Reason.REASON_TOO_LARGE


class Receiver(Protocol):
    """Takes events."""

    async def record(self, message: Message, deadline: float) -> int:
        """Hands them over; returns how many were dropped there. `deadline`: monotonic seconds. Raises Fault."""
        ...


class Sender:
    """`clock`: monotonic seconds. A message that fails is sent again until it arrives, as the receiver stores each number once.
    What comes meanwhile waits in the ring, which is bounded."""

    def __init__(
        self,
        ring: Ring,
        builder: GroupBuilder,
        receiver: Receiver,
        metrics: EventMetrics,
        settings: EventsSettings,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._ring = ring
        self._builder = builder
        self._receiver = receiver
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._log = log
        self._failing = False
        # Left the ring, and are no message yet.
        self._taken: Sequence[AnsweredBatch] = ()
        self._unsent: Message | None = None

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self._wait()
                await self.send_next()
            except Exception as error:  # noqa: BLE001 - the loop must go on with what comes next
                self._lose("error", f"{type(error).__name__}: {error}")
            if self._unsent is not None:
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Sends what waits, if it can be done quickly. `run` must have ended."""
        try:
            async with asyncio.timeout(_LAST_S):
                while self._unsent is not None or self._taken or self._ring.rows:
                    await self.send_next()
                    if self._unsent is not None:
                        return
        except Exception as error:  # noqa: BLE001 - the router must stop, whatever happens
            self._fails(f"{type(error).__name__}: {error}")

    async def send_next(self) -> None:
        """Sends one message: the one that failed before, or the next."""
        if self._unsent is None:
            # What a stop interrupted is made again.
            self._taken = taken = self._taken or self._ring.take(self._settings.message_rows)
            if not taken:
                return
            notes = self._ring.notes
            try:
                groups = await self._groups(taken)
            except Exception:
                self._taken = ()
                self._metrics.dropped("error", sum(map(len, taken)))
                raise
            self._taken, self._unsent = (), Message(notes.epoch, notes.noted, groups)
        self._metrics.waiting.set(self._ring.rows + len(self._unsent))
        await self._send(self._unsent)

    async def _groups(self, taken: Sequence[AnsweredBatch]) -> list[EventGroup]:
        """Joined and masked in slices, between which live batches go on."""
        groups, begun = [], time.perf_counter()
        for group in self._builder.steps(taken):
            if group is not None:
                groups.append(group)
            elif time.perf_counter() - begun > _SLICE_S:
                await asyncio.sleep(_PAUSE_S)
                begun = time.perf_counter()
        return groups

    async def _send(self, message: Message) -> None:
        try:
            dropped = await self._receiver.record(message, self._clock() + _CALL_S)
        except Fault as fault:
            if is_final(fault):
                self._lose("refused", fault.message)
            else:
                self._fails(fault.message)
            return
        self._unsent = None
        self._metrics.sent.inc(len(message) - dropped)
        if dropped:
            self._metrics.dropped("refused", dropped)
        self._metrics.waiting.set(self._ring.rows)
        if self._failing:
            self._failing = False
            self._log.info("events are sent again")

    async def _wait(self) -> None:
        """Returns when there is a message to send: enough rows, or some that have waited long enough."""
        if self._unsent is not None:
            return
        await self._ring.came.wait()
        try:
            async with asyncio.timeout(self._settings.wait_s):
                await self._ring.full.wait()
        except TimeoutError:
            return

    def _lose(self, reason: str, why: str) -> None:
        lost, self._unsent = self._unsent, None
        if lost is not None:
            self._metrics.dropped(reason, len(lost))
        self._log.error("events were dropped", reason=reason, error=why)

    def _fails(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning(
                "events can't be sent; they wait, and beyond a bound they are dropped", error=why
            )
