"""One call as it passes through the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from headrace.hop.call import InProcessPayload, Method

if TYPE_CHECKING:
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


# What a call is given to: the whole way that is left to it.
Next = Callable[[Outgoing], Awaitable[Any]]
