"""Coalescer: items that wait while calls are in flight are sent together as one batch call.

Each item gets its own answer, within its own deadline. Each attempt of a `CoalescedCall` writes the remaining times again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar

from headrace.hop.batching.codec import (
    BatchCodec,
    failed_share_of,
    payload_codec_of,
)
from headrace.hop.batching.lane_times import Outlasting, Returning
from headrace.hop.batching.queue import BatchQueue, DeadlineHeap, QueuedItem
from headrace.hop.call import Method
from headrace.hop.client import faults
from headrace.hop.client.outgoing import CoalescedCall, Next, Shared
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Fault
from headrace.hop.limiters import CLIENT_QUEUE

Item = TypeVar("Item")
Result = TypeVar("Result")
Observed = TypeVar("Observed")

_log = logging.getLogger(__name__)
# Timers of uvloop count whole milliseconds and may fire up to one millisecond early.
_TICK_S = 0.001
# A call waits for upcoming items for no longer than this.
_UPCOMING_S = 0.004
# Nor does it wait for others for more than this share of the time that an item has left.
_WAITED_SHARE = 0.25
# Lanes whose callers are observed; there are more only if keys keep changing.
_KNOWN_LANES = 256


class Coalescer(Generic[Item, Result]):
    """The coalescing form of one method: `await coalescer.submit(item)`."""

    def __init__(
        self,
        callee: str,
        method: Method[Any, Any],
        codec: BatchCodec[Item, Result, Any, Any],
        settings: ClientRules,
        call_next: Next,
        upcoming: Callable[[float], bool] | None = None,
    ) -> None:
        """`upcoming`: whether a further item will come in a moment (`now`: monotonic seconds)."""
        self._callee = callee
        self._describe = codec.describe
        self._form = Shared(callee, method, codec, failed_share_of(codec), payload_codec_of(codec))
        self._default_timeout_s = settings.default_timeout_s
        self._call_next = call_next
        self._queue: BatchQueue[Item, asyncio.Future[Result]] = BatchQueue(settings.coalesce)
        self._due: DeadlineHeap[asyncio.Future[Result]] = DeadlineHeap()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._scheduled: set[Hashable] = set()
        # By the task of the call, or by the future of an item whose caller's own task sends it.
        self._calls: dict[asyncio.Future[Any], Sequence[QueuedItem[Item, asyncio.Future[Result]]]] = {}
        self._closed = False
        # The lane whose last call had a single item and left no item in the queue. It probably has a single caller, so that sends
        # its next item at once: waiting for others, a task and a future would cost two iterations of the event loop.
        self._lone: Hashable | None = None
        # If several calls may be in flight, the next one is sent while others run: waiting has no use.
        self._holds = settings.coalesce.window == 1
        self._returning: dict[Hashable, Returning] = {}
        self._most_long, self._max_rows = settings.coalesce.long_calls, settings.coalesce.max_rows
        self._lasting: dict[Hashable, Outlasting] = {}
        # Lanes with items that wait, with the timer for a call that may last too long.
        self._watched: dict[Hashable, asyncio.TimerHandle] = {}
        # Lanes whose next call waits for further items, with the timer that ends the wait.
        self._held: dict[Hashable, asyncio.TimerHandle] = {}
        # Until when the next call of a lane waits for items that are upcoming.
        self._upcoming = upcoming
        self._upcoming_until: dict[Hashable, float] = {}

    @property
    def waiting_rows(self) -> int:
        return self._queue.waiting_rows

    async def submit(self, item: Item, prefer: int | None = None) -> Result:
        """The item's own result. `prefer`: index of the replica that it should go to, if that can take it; such items share
        calls with others of this replica only. Raises Fault; DEADLINE_EXCEEDED as soon as the item's own deadline has passed.
        """
        if self._closed:
            raise faults.closed(self._callee)
        key, tenant, rows, size, deadline, priority = self._describe(item)
        now = time.monotonic()
        if deadline == math.inf:
            deadline = now + self._default_timeout_s
        elif deadline <= now:
            raise faults.deadline_passed(self._callee)
        if prefer is not None:
            key = prefer, key
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        # An item without rows still needs a call.
        entry = QueuedItem(item, tenant, rows or 1, size, deadline, priority, answer, prefer)
        out = self._alone(key, entry, now) if self._lone is not None and self._lone == key else None
        if out is None:
            self._enqueue(key, entry, now)
            try:
                return await answer
            except asyncio.CancelledError:
                if not self._queue.withdraw(entry):
                    self._abandon(entry)
                raise
        try:
            # Its deadline is kept by all that it may wait for.
            await self._call_next(out)
            result: Result = out.results[0]
            return result
        except Fault:
            raise
        except Exception as error:
            raise self._unexpected() from error
        finally:
            answer.cancel()
            self._sent(key, out, answer)

    def _alone(
        self, key: Hashable, entry: QueuedItem[Item, asyncio.Future[Result]], now: float
    ) -> CoalescedCall | None:
        """The call of one item that its caller's own task sends; None: it must wait. Others of the lane wait meanwhile, as during
        any call."""
        if (self._upcoming is not None and self._upcoming(now)) or not self._queue.start(key):
            return None
        self._lone = None
        returning = self._returning.get(key)
        if returning is not None:
            returning.came(now, entry.rows)
        self._calls[entry.handle] = batch = [entry]
        lasting = self._lasting.get(key) or self._new_lane(key)
        return CoalescedCall(self._form, batch, lasting.began(now))

    def _enqueue(self, key: Hashable, entry: QueuedItem[Item, asyncio.Future[Result]], now: float) -> None:
        self._due.add(entry.deadline, entry.handle)
        if entry.deadline < self._timer_at:
            self._arm(entry.deadline, now)
        queue = self._queue
        for refused in queue.offer(key, entry):
            _fail(refused.handle, faults.overloaded(self._callee, CLIENT_QUEUE))
        self._lone = None
        returning = self._returning.get(key)
        if returning is not None:
            returning.came(now, entry.rows)
        if queue.waiting_rows >= self._max_rows and queue.full(key):
            self._flush(key)
        elif key not in self._scheduled:
            # At the end of this iteration of the event loop: items submitted in the same iteration are sent together.
            self._scheduled.add(key)
            asyncio.get_running_loop().call_soon(self._flush, key)

    def _flush(self, key: Hashable) -> None:
        self._scheduled.discard(key)
        if self._holds and not self._closed and self._hold(key):
            return
        while True:
            while (cut := self._queue.cut(key, time.monotonic())) is not None:
                batch, late = cut
                for entry in late:
                    _fail(entry.handle, faults.deadline_passed(self._callee))
                if batch:
                    self._start(key, batch)
            if not (self._queue.waits(key) and self._passes_over(key)):
                return

    def _passes_over(self, key: Hashable) -> bool:
        """Whether a call of a lane has lasted for so long that another may leave; if not yet, looks again when it has."""
        lasting = self._lasting.get(key)
        if lasting is None:
            return False
        now = time.monotonic()
        if passed := lasting.pass_over(now):
            self._queue.pass_over(key, passed)
            return True
        due = lasting.due()
        if due is not None and key not in self._watched:
            loop = asyncio.get_running_loop()
            self._watched[key] = loop.call_later(
                max(due - now, _TICK_S), self._look_again, key, context=Context()
            )
        return False

    def _look_again(self, key: Hashable) -> None:
        del self._watched[key]
        self._flush(key)

    def _hold(self, key: Hashable) -> bool:
        """Whether the lane's next call must wait for further items."""
        seconds = self._worth_waiting(key)
        if seconds >= _TICK_S:
            loop, timer = asyncio.get_running_loop(), self._held.get(key)
            # An item that came later may have less time.
            if timer is None or loop.time() + seconds < timer.when() - _TICK_S:
                if timer is not None:
                    timer.cancel()
                self._held[key] = loop.call_later(seconds, self._release, key, context=Context())
            return True
        if key in self._held:
            self._held.pop(key).cancel()
        return False

    def _worth_waiting(self, key: Hashable) -> float:
        """Seconds for which the next call should wait for further items."""
        if self._queue.full(key) or self._queue.closed(key):
            return 0.0
        now = time.monotonic()
        earliest = self._due.earliest()
        most = math.inf if earliest is None else (earliest - now) * _WAITED_SHARE
        if self._upcoming is not None and self._upcoming(now):
            until = self._upcoming_until.setdefault(key, now + _UPCOMING_S)
            if now < until:
                # Asked again soon: an item that was upcoming may have gone another way.
                return min(_TICK_S, most)
        returning = self._returning.get(key)
        return 0.0 if returning is None else min(returning.awaited(now), most)

    def _release(self, key: Hashable) -> None:
        """Ends the wait of a lane and sends its next call."""
        self._held.pop(key).cancel()
        self._flush(key)

    def _start(self, key: Hashable, batch: Sequence[QueuedItem[Item, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        self._upcoming_until.pop(key, None)
        # An empty context: the call belongs to several items, so it must not run in the span of one.
        lasting = self._lasting.get(key) or self._new_lane(key)
        out = CoalescedCall(self._form, batch, lasting.began(time.monotonic()))
        task = loop.create_task(self._send(out), context=Context())
        self._calls[task] = batch
        task.add_done_callback(partial(self._sent, key, out))

    def _new_lane(self, key: Hashable) -> Outlasting:
        lasting = _known(self._lasting)[key] = Outlasting(self._most_long)
        return lasting

    def _sent(self, key: Hashable, out: CoalescedCall, task: asyncio.Future[Any]) -> None:
        # A done callback, not the end of `_send`: a task that is cancelled before its first step runs no code.
        batch, call = self._calls.pop(task), out.call
        now = time.monotonic()
        call.lane.ended(call, now)
        self._lone = key if len(batch) == 1 and not self._calls else None
        waits = self._queue.finished(key, call.outlasts)
        if self._holds:
            self._note(key, now, now - call.began, out.rows)
        if not waits:
            return
        if self._upcoming is None:
            self._flush(key)
        elif key not in self._scheduled:
            # Items that came while the call kept the loop busy need two iterations to show that they are upcoming.
            self._scheduled.add(key)
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush, key)

    def _note(self, key: Hashable, now: float, took: float, rows: int) -> None:
        returning = self._returning.get(key)
        if returning is None:
            returning = _known(self._returning)[key] = Returning()
        returning.ended(now, took, rows)

    async def _send(self, out: CoalescedCall) -> None:
        try:
            await self._call_next(out)
            out.answer()
        except Fault as fault:
            out.fail(fault)
        except asyncio.CancelledError:
            out.fail(faults.closed(self._callee))
            raise
        except Exception:  # noqa: BLE001 - waiting callers must get an answer, and only a Fault
            out.fail(self._unexpected())

    def _unexpected(self) -> Fault:
        """Logs the exception that is being handled."""
        _log.exception("coalesced call to %s failed unexpectedly: %s", self._callee, self._form.method.path)
        return faults.unexpected(self._callee)

    def _abandon(self, entry: QueuedItem[Item, asyncio.Future[Result]]) -> None:
        """The entry's caller was cancelled: cancels the batch call if no other caller waits for it."""
        for task, batch in self._calls.items():
            if any(e is entry for e in batch):
                if all(e.handle.done() for e in batch):
                    task.cancel()
                return

    def _arm(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(_TICK_S, at - now), self._expire, context=Context())

    def _expire(self) -> None:
        """Answers the items whose deadline has passed, queued or in flight; their batch call goes on."""
        now = time.monotonic()
        for answer in self._due.take(now):
            _fail(answer, faults.deadline_passed(self._callee))
        self._timer, self._timer_at = None, math.inf
        following = self._due.earliest()
        if following is not None:
            self._arm(following, now)

    async def close(self) -> None:
        """Accepts no more items and waits for queued items and calls in flight (each has a deadline)."""
        self._closed = True
        for key in list(self._held):
            self._release(key)
        while self._calls or self._scheduled:
            await (asyncio.wait(self._calls) if self._calls else asyncio.sleep(0))
        for timer in [self._timer, *self._watched.values()]:
            if timer is not None:
                timer.cancel()
        self._timer = None
        self._watched.clear()


def _known(lanes: dict[Hashable, Observed]) -> dict[Hashable, Observed]:
    """Room for one more lane. What is known of lanes may be lost: it is learned again."""
    if len(lanes) >= _KNOWN_LANES:
        lanes.clear()
    return lanes


def _fail(answer: asyncio.Future[Any], fault: Fault) -> None:
    if not answer.done():
        answer.set_exception(fault)
