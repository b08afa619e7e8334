"""One call as it passes through the client: of one request, or of several items that share it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import Message

from headrace.hop.call import InProcessPayload, Method
from headrace.hop.client import faults
from headrace.hop.errors import Fault

if TYPE_CHECKING:
    import asyncio

    from headrace.hop.batching.codec import BatchCodec, FailedShare, UsesPayload
    from headrace.hop.batching.lane_times import CallInFlight
    from headrace.hop.batching.queue import QueuedItem
    from headrace.hop.resilience.replicas import Guard, Replica


class Outgoing:
    """A unary call: what to send, until when, and what the client has found out about it.

    `deadline` in monotonic seconds. `kind` names calls of the method that cost alike: the magnitude of their rows, and what else
    is known. What few calls have is a default of the class: one is made for each call.
    """

    request: Message | None = None
    metadata: Sequence[tuple[str, str]] = ()
    patient = False  # may wait for a slot at the limiter; otherwise it is refused at once
    attempt = 1
    # Whether this attempt reached the transport. If not, or if its caller gave it little time, it says nothing of the callee.
    sent = False
    only: Replica | None = None  # the replica that it must go to; None: the balancer chooses
    prefer: int | None = None  # index of the replica that it should go to, if that can take it now
    replica: Replica | None = None
    guard: Guard | None = None  # of the method at this replica
    tried: Sequence[Replica] = ()

    def __init__(self, method: Method[Any, Any], request: Message, deadline: float, rows: int) -> None:
        self.method = method
        self.request = request
        self.deadline = deadline
        self.rows = rows
        self.kind: Hashable = rows.bit_length()

    def prepare(self, now: float) -> Message:  # noqa: ARG002 - a batch call drops late items
        """The request to send at time `now`. Raises Fault if no caller waits for it any more."""
        assert self.request is not None
        return self.request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        """As `prepare`, for a callee in this process: large data may go by reference as the payload."""
        return self.prepare(now), None

    def accept(self, reply: Any) -> float:  # noqa: ARG002 - a batch call reads it
        """Checks the reply. Returns the share of its rows (0 to 1) that failed by the callee's fault.

        Raises Fault INTERNAL if it does not fit the request.
        """
        return 0.0

    def copy(self) -> Outgoing:
        """The same call for another replica, in flight at the same time."""
        other = copy(self)
        other.tried = self.tried if self.replica is None else (*self.tried, self.replica)
        other.replica, other.sent = None, False
        return other

    def adopt(self, other: Outgoing) -> None:
        """What its copy has found out counts: the copy was answered."""
        self.replica = other.replica


class Shared(NamedTuple):
    """What all coalesced calls of a method have in common."""

    callee: str
    method: Method[Any, Any]
    codec: BatchCodec[Any, Any, Any, Any]
    failed_share: FailedShare
    payload_codec: UsesPayload | None


class CoalescedCall(Outgoing):
    """A call of several items that share it, each with the future that answers it."""

    patient = True
    _payload: InProcessPayload | None = None
    _items: Sequence[Any] = ()  # of the entries, as they were sent
    results: Sequence[Any] = ()  # one for each item, when the call was answered

    def __init__(
        self, form: Shared, entries: Sequence[QueuedItem[Any, asyncio.Future[Any]]], call: CallInFlight
    ) -> None:
        one = entries[0]
        self.deadline, self.rows = one.deadline, one.rows
        if len(entries) > 1:
            self.deadline, self.rows = max([e.deadline for e in entries]), sum([e.rows for e in entries])
        self.method = form.method
        # What some lanes ask takes longer than what others do. Their keys would take longer to hash.
        self.kind = call.lane, self.rows.bit_length()
        self.prefer = one.prefer
        self.call = call
        self._form = form
        self._entries = entries

    def prepare(self, now: float) -> Message:
        self._payload = None  # of the previous attempt
        request: Message = self._form.codec.merge(self._live_items(now))
        return request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        codec = self._form.payload_codec
        if codec is None:
            return self.prepare(now), None
        request, brought = codec.load(self._live_items(now))
        self._payload = payload = InProcessPayload(brought)
        return request, payload

    def _live_items(self, now: float) -> Sequence[Any]:
        # Items answered meanwhile (deadline, cancellation) are dropped: no caller waits for them.
        one = self._entries[0]
        if len(self._entries) > 1 or one.handle.done() or one.deadline <= now:
            self._entries = [e for e in self._entries if not e.handle.done() and e.deadline > now]
            if not self._entries:
                raise faults.cancelled(self._form.callee)
            self._items = [e.item for e in self._entries]
        else:
            self._items = (one.item,)
        return self._items

    def accept(self, reply: Any) -> float:
        items, form, payload = self._items, self._form, self._payload
        if form.payload_codec is None or payload is None or payload.returned is None:
            results = form.codec.split(items, reply)
        else:
            results = form.payload_codec.unload(items, reply, payload.returned)
        if len(results) != len(items):
            raise faults.malformed(form.callee)
        self.results = results
        return form.failed_share(results)

    def adopt(self, other: Outgoing) -> None:
        super().adopt(other)
        assert isinstance(other, CoalescedCall)
        self._entries, self.results = other._entries, other.results

    def answer(self) -> None:
        """Gives each item its result."""
        for entry, result in zip(self._entries, self.results, strict=True):
            if not entry.handle.done():
                entry.handle.set_result(result)

    def fail(self, fault: Fault) -> None:
        """Gives each unanswered item its own copy of the fault."""
        for entry in self._entries:
            if not entry.handle.done():
                entry.handle.set_exception(fault.copy())


# What a call is given to: the whole way that is left to it.
Next = Callable[[Outgoing], Awaitable[Any]]
