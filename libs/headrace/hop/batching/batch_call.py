"""A call that carries several items: stamped anew for each attempt, dealt out when the reply is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from google.protobuf.message import Message

from headrace.hop.batching.codec import BatchCodec
from headrace.hop.batching.queue import Waiting
from headrace.hop.call import InProcessPayload
from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.errors import Fault
from headrace.hop.method import Method

Judge = Callable[[Sequence[Any]], float]


class Judging(Protocol):
    """What a BatchCodec may offer besides: how much of a reply the callee failed, for the breaker."""

    def failed(self, results: Sequence[Any]) -> float:
        """Share (0 to 1) of the rows of all results that failed by the callee's own fault."""
        ...


class Loading(Protocol):
    """What a BatchCodec may offer besides: calls within a process whose better part is not written into the message."""

    def load(self, items: Sequence[Any]) -> tuple[Message, Any]:
        """The request without it, and it."""
        ...

    def unload(self, items: Sequence[Any], response: Any, returned: Any) -> Sequence[Any]:
        """As `split`, of what the callee returned beside its response. Raises Fault INTERNAL if it does not fit."""
        ...


class Traced(Protocol):
    """What a BatchCodec may offer besides: the sampled requests in some items, for the links of a span."""

    def traceparents(self, items: Sequence[Any]) -> Sequence[str]:
        """W3C traceparents of the items' sampled rows."""
        ...


def judge_of(codec: object) -> Judge:
    """The codec's `failed` if it has one; else a reply as a whole is a good one."""
    judge: Judge = getattr(codec, "failed", _all_good)
    return judge


def loading_of(codec: object) -> Loading | None:
    """The codec, if it can load."""
    return cast("Loading", codec) if hasattr(codec, "load") else None


def _all_good(_: Sequence[Any]) -> float:
    return 0.0


class Gathered(Outgoing):
    """The items that leave together, each with the future that answers it."""

    __slots__ = ("_callee", "_codec", "_entries", "_judge", "_loading", "_payload", "_results")

    def __init__(
        self,
        callee: str,
        method: Method[Any, Any],
        codec: BatchCodec[Any, Any, Any, Any],
        judge: Judge,
        loading: Loading | None,
        entries: Sequence[Waiting[Any, asyncio.Future[Any]]],
    ) -> None:
        super().__init__(method, None, max(e.deadline for e in entries), "", sum(e.rows for e in entries))
        self.patient = True
        self._callee = callee
        self._codec = codec
        self._judge = judge
        self._loading = loading
        self._payload: InProcessPayload | None = None
        self._entries = entries
        self._results: Sequence[Any] = ()

    def prepare(self, now: float) -> Message:
        self._payload = None  # of an attempt before this one
        request: Message = self._codec.merge(self._items(now))
        return request

    def load(self, now: float) -> tuple[Message, InProcessPayload | None]:
        if self._loading is None:
            return self.prepare(now), None
        request, brought = self._loading.load(self._items(now))
        self._payload = InProcessPayload(brought)
        return request, self._payload

    def _items(self, now: float) -> list[Any]:
        # Whoever was answered meanwhile (deadline, cancellation) is dropped: nobody waits for the work.
        self._entries = [e for e in self._entries if not e.handle.done() and e.deadline > now]
        if not self._entries:
            raise faults.cancelled(self._callee)
        return [e.item for e in self._entries]

    def accept(self, reply: Any) -> float:
        items = [e.item for e in self._entries]
        if self._loading is None or self._payload is None or self._payload.returned is None:
            results = self._codec.split(items, reply)
        else:
            results = self._loading.unload(items, reply, self._payload.returned)
        if len(results) != len(items):
            raise faults.malformed(self._callee)
        self._results = results
        return self._judge(results)

    def answer(self) -> None:
        """Gives each item its result."""
        for entry, result in zip(self._entries, self._results, strict=True):
            if not entry.handle.done():
                entry.handle.set_result(result)

    def fail(self, fault: Fault) -> None:
        """Gives each item without an answer its own copy of the fault."""
        for entry in self._entries:
            if not entry.handle.done():
                entry.handle.set_exception(fault.copy())

    def traceparents(self) -> Sequence[str] | None:
        offered: Callable[[Sequence[Any]], Sequence[str]] | None = getattr(self._codec, "traceparents", None)
        return offered([e.item for e in self._entries]) if offered else ()
