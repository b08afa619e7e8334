"""One call on its way through the client's layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from headrace.hop.call import InProcessPayload
from headrace.hop.method import Method

if TYPE_CHECKING:
    from headrace.hop.resilience.replicas import Replica


class Outgoing:
    """A unary call: what to send, until when, and what the layers have found out about it.

    `deadline` in monotonic seconds. `kind` names calls that cost alike, for the limiter.
    """

    __slots__ = (
        "attempt",
        "deadline",
        "key",
        "kind",
        "metadata",
        "method",
        "only",
        "patient",
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
        self.kind = (method.name, rows.bit_length())
        self.metadata: Sequence[tuple[str, str]] = ()
        self.traced = False  # a span is open for it: the transport makes one too and sends its context along
        self.patient = False  # may wait for a place at the limiter; else it is refused at once
        self.attempt = 1
        self.sent = False  # whether this attempt reached the transport: if not, it says nothing of the callee
        self.only: Replica | None = None  # the one that it is meant for; None: whichever is best
        self.replica: Replica | None = None
        self.tried: list[Replica] = []

    def prepare(self, now: float) -> Message:  # noqa: ARG002 - a batch drops who is late
        """The request as it should be sent now. Raises Fault if nobody waits for it any more."""
        assert self.request is not None
        return self.request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        """As `prepare`, for a callee in this process, to which the better part may go unwritten."""
        return self.prepare(now), None

    def accept(self, reply: Any) -> float:  # noqa: ARG002 - a batch looks into it
        """Checks the reply. The share of it (0 to 1) that the callee failed.

        Raises Fault INTERNAL if it does not fit the request.
        """
        return 0.0

    def traceparents(self) -> Sequence[str] | None:
        """W3C traceparents of the requests that it carries; None: it belongs to the running task's own span."""
        return None


Next = Callable[[Outgoing], Awaitable[Any]]
# A layer wraps the next inner one; the whole stack is composed once per method.
Layer = Callable[[Next], Next]
