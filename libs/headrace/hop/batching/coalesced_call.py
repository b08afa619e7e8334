"""One call of several items, each with the future that answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from headrace.hop.batching.codec import BatchCodec, FailedShare, UsesPayload
from headrace.hop.batching.queue import QueuedItem
from headrace.hop.call import InProcessPayload, Method
from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.errors import Fault


class CoalescedCall(Outgoing):
    """One call of several items, each with the future that answers it."""

    __slots__ = ("_callee", "_codec", "_entries", "_failed_share", "_payload", "_payload_codec", "_results")

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
        self._results: Sequence[Any] = ()

    def prepare(self, now: float) -> Message:
        self._payload = None  # of the previous attempt
        request: Message = self._codec.merge(self._items(now))
        return request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        if self._payload_codec is None:
            return self.prepare(now), None
        request, brought = self._payload_codec.load(self._items(now))
        self._payload = InProcessPayload(brought)
        return request, self._payload

    def _items(self, now: float) -> list[Any]:
        # Items answered meanwhile (deadline, cancellation) are dropped: no caller waits for them.
        self._entries = [e for e in self._entries if not e.handle.done() and e.deadline > now]
        if not self._entries:
            raise faults.cancelled(self._callee)
        return [e.item for e in self._entries]

    def accept(self, reply: Any) -> float:
        items = [e.item for e in self._entries]
        if self._payload_codec is None or self._payload is None or self._payload.returned is None:
            results = self._codec.split(items, reply)
        else:
            results = self._payload_codec.unload(items, reply, self._payload.returned)
        if len(results) != len(items):
            raise faults.malformed(self._callee)
        self._results = results
        return self._failed_share(results)

    def adopt(self, other: Outgoing) -> None:
        super().adopt(other)
        assert isinstance(other, CoalescedCall)
        self._entries, self._results = other._entries, other._results

    def only_result(self) -> Any:
        """The result of a call of one item."""
        return self._results[0]

    def answer(self) -> None:
        """Gives each item its result."""
        for entry, result in zip(self._entries, self._results, strict=True):
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
