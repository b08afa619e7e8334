"""A call that carries several items: stamped anew for each attempt, dealt out when the reply is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from google.protobuf.message import Message

from headrace.hop import faults
from headrace.hop.errors import Fault
from headrace.hop.folding import Folding
from headrace.hop.gathering import Waiting
from headrace.hop.method import Method
from headrace.hop.outgoing import Outgoing

Judge = Callable[[Any], float]


class Judging(Protocol):
    """What a Folding may offer besides: how much of a reply the callee failed, for the breaker."""

    def failed(self, response: Any) -> float:
        """Share (0 to 1) of the reply's rows that failed by the callee's own fault."""
        ...


class Traced(Protocol):
    """What a Folding may offer besides: the sampled requests in some items, for the links of a span."""

    def traceparents(self, items: Sequence[Any]) -> Sequence[str]:
        """W3C traceparents of the items' sampled rows."""
        ...


def judge_of(folding: object) -> Judge:
    """The folding's `failed` if it has one; else a reply as a whole is a good one."""
    judge: Judge = getattr(folding, "failed", _all_good)
    return judge


def _all_good(_: Any) -> float:
    return 0.0


class Gathered(Outgoing):
    """The items that leave together, each with the future that answers it."""

    __slots__ = ("_callee", "_entries", "_folding", "_judge", "_results")

    def __init__(
        self,
        callee: str,
        method: Method[Any, Any],
        folding: Folding[Any, Any, Any, Any],
        judge: Judge,
        entries: Sequence[Waiting[Any, asyncio.Future[Any]]],
    ) -> None:
        super().__init__(method, None, max(e.deadline for e in entries), "", sum(e.rows for e in entries))
        self.patient = True
        self._callee = callee
        self._folding = folding
        self._judge = judge
        self._entries = entries
        self._results: Sequence[Any] = ()

    def prepare(self, now: float) -> Message:
        # Whoever was answered meanwhile (deadline, cancellation) is dropped: nobody waits for the work.
        self._entries = [e for e in self._entries if not e.handle.done() and e.deadline > now]
        if not self._entries:
            raise faults.cancelled(self._callee)
        request: Message = self._folding.merge([e.item for e in self._entries])
        return request

    def accept(self, reply: Any) -> float:
        results = self._folding.split([e.item for e in self._entries], reply)
        if len(results) != len(self._entries):
            raise faults.malformed(self._callee)
        self._results = results
        return self._judge(reply)

    def answer(self) -> None:
        """Gives each item its result."""
        for entry, result in zip(self._entries, self._results, strict=True):
            if not entry.handle.done():
                entry.handle.set_result(result)

    def fail(self, fault: Fault) -> None:
        """Gives each item without an answer its own copy of the fault: a shared one would gather tracebacks."""
        for entry in self._entries:
            if not entry.handle.done():
                entry.handle.set_exception(
                    Fault(
                        fault.code,
                        fault.reason,
                        fault.message,
                        metadata=fault.metadata,
                        retry_after_s=fault.retry_after_s,
                    )
                )

    def traceparents(self) -> Sequence[str] | None:
        offered: Callable[[Sequence[Any]], Sequence[str]] | None = getattr(
            self._folding, "traceparents", None
        )
        return offered([e.item for e in self._entries]) if offered else ()
