"""One call as it passes through the client: of one request, or of several items that share it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from headrace.hop.call import InProcessPayload, Method
from headrace.hop.client import faults
from headrace.hop.errors import Fault

if TYPE_CHECKING:
    import asyncio

    from headrace.hop.batching.codec import BatchCodec, FailedShare, UsesPayload
    from headrace.hop.batching.queue import QueuedItem
    from headrace.hop.resilience.replicas import Guard, Replica


class Outgoing:
    """A unary call: what to send, until when, and what the client has found out about it.

    `deadline` in monotonic seconds. `kind` names calls of the method that cost alike: the magnitude of their rows, and what else
    is known.
    """

    __slots__ = (
        "attempt",
        "deadline",
        "guard",
        "key",
        "kind",
        "metadata",
        "method",
        "only",
        "patient",
        "prefer",
        "replica",
        "request",
        "rows",
        "sent",
        "traced",
        "tried",
    )

    def __init__(
        self, method: Method[Any, Any], request: Message | None, deadline: float, key: str, rows: int
    ) -> None:
        self.method = method
        self.request = request
        self.deadline = deadline
        self.key = key
        self.rows = rows
        self.kind: Hashable = rows.bit_length()
        self.metadata: Sequence[tuple[str, str]] = ()
        self.traced = False  # a span is open for it: the transport sends its context along
        self.patient = False  # may wait for a slot at the limiter; otherwise it is refused at once
        self.attempt = 1
        # Whether this attempt reached the transport. If not, or if its caller gave it little time, it says nothing of the callee.
        self.sent = False
        self.only: Replica | None = None  # the replica that it must go to; None: the balancer chooses
        self.prefer: int | None = None  # index of the replica that it should go to, if that can take it now
        self.replica: Replica | None = None
        self.guard: Guard | None = None  # of the method at this replica
        self.tried: list[Replica] = []

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
        other.tried = list(self.tried) if self.replica is None else [*self.tried, self.replica]
        other.replica, other.sent = None, False
        return other

    def adopt(self, other: Outgoing) -> None:
        """What its copy has found out counts: the copy was answered."""
        self.replica = other.replica

    @property
    def shared(self) -> bool:
        """Whether several requests may share the call, so that it belongs to no span of the running task."""
        return False


class CoalescedCall(Outgoing):
    """A call of several items that share it, each with the future that answers it."""

    __slots__ = (
        "_callee",
        "_codec",
        "_entries",
        "_failed_share",
        "_items",
        "_payload",
        "_payload_codec",
        "results",
    )

    def __init__(
        self,
        callee: str,
        method: Method[Any, Any],
        codec: BatchCodec[Any, Any, Any, Any],
        failed_share: FailedShare,
        payload_codec: UsesPayload | None,
        entries: Sequence[QueuedItem[Any, asyncio.Future[Any]]],
    ) -> None:
        one = entries[0]
        deadline, rows = one.deadline, one.rows
        if len(entries) > 1:
            deadline, rows = max([e.deadline for e in entries]), sum([e.rows for e in entries])
        super().__init__(method, None, deadline, "", rows)
        self.patient = True
        self.prefer = one.prefer
        self._callee = callee
        self._codec = codec
        self._failed_share = failed_share
        self._payload_codec = payload_codec
        self._payload: InProcessPayload | None = None
        self._entries = entries
        self._items: list[Any] = []  # of the entries, as they were sent
        self.results: Sequence[Any] = ()  # one for each item, when the call was answered

    def prepare(self, now: float) -> Message:
        self._payload = None  # of the previous attempt
        request: Message = self._codec.merge(self._live_items(now))
        return request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        if self._payload_codec is None:
            return self.prepare(now), None
        request, brought = self._payload_codec.load(self._live_items(now))
        self._payload = InProcessPayload(brought)
        return request, self._payload

    def _live_items(self, now: float) -> list[Any]:
        # Items answered meanwhile (deadline, cancellation) are dropped: no caller waits for them.
        self._entries = [e for e in self._entries if not e.handle.done() and e.deadline > now]
        if not self._entries:
            raise faults.cancelled(self._callee)
        self._items = [e.item for e in self._entries]
        return self._items

    def accept(self, reply: Any) -> float:
        items = self._items
        if self._payload_codec is None or self._payload is None or self._payload.returned is None:
            results = self._codec.split(items, reply)
        else:
            results = self._payload_codec.unload(items, reply, self._payload.returned)
        if len(results) != len(items):
            raise faults.malformed(self._callee)
        self.results = results
        return self._failed_share(results)

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

    @property
    def shared(self) -> bool:
        return True


# What a call is given to: the whole way that is left to it.
Next = Callable[[Outgoing], Awaitable[Any]]
