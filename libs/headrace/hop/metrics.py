"""Counters and histograms that cost a request little, and what clients and servers count with them."""

from __future__ import annotations

import logging
import math
import time
import weakref
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.call import Call
from headrace.hop.client.observer import ClientObserver
from headrace.hop.errors import Code, Fault, reason_name
from headrace.hop.process.logs import some

if TYPE_CHECKING:
    from headrace.hop.batching.coalesce import Coalescer
    from headrace.hop.resilience.replicas import Replica

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# Replicas past this many share one label value, so that a large deployment does not multiply series.
_MAX_REPLICA_LABELS = 64


class Counter(prometheus_client.Counter):
    """prometheus_client's own without its lock and without exemplars, at a quarter of the work.

    Any thread may count: CPython with a GIL (tried: 3.11 to 3.13) gives way to another thread only where a function begins, after
    a call and at a jump back, and none of these is between reading a number and writing it. Without a GIL, one thread may.
    """

    def inc(self, amount: float = 1) -> None:  # type: ignore[override]  # no exemplars
        if amount < 0:
            raise ValueError("a counter only grows")
        self._value._value += amount


class Histogram(prometheus_client.Histogram):
    """The same of prometheus_client's histogram, which also tries one bound after the other."""

    def observe(self, amount: float) -> None:  # type: ignore[override]  # no exemplars
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1
        self._sum._value += amount

    def reset(self) -> None:
        """Sets all counts to zero, as `Counter.reset` does."""
        self._metric_init()


class ClientInstruments:
    """The instruments that all clients of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        call = ["callee", "method"]
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        replica = ["callee", "replica"]
        self.calls = counter("headrace_hop_client_calls_total", "Calls by outcome.", [*call, "code"])
        self.seconds = Histogram(
            "headrace_hop_client_seconds",
            "Time of calls, retries included.",
            call,
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = counter("headrace_hop_retries_total", "Calls tried again.", call)
        self.hedges = counter(
            "headrace_hop_hedges_total", "Calls sent to another replica too, as their own was silent.", call
        )
        self.waiting = gauge("headrace_hop_waiting_rows", "Rows that wait to be sent.", call)
        breaker = "0 closed, 1 half open, 2 open; the worst."
        self.breaker = gauge("headrace_hop_breaker_state", breaker, replica)
        self.limit = gauge("headrace_hop_limit", "Calls of a method at once; the fewest.", replica)


class MetricsObserver(ClientObserver):
    """Counts what one client does, into instruments that the process's clients share."""

    def __init__(self, callee: str, instruments: ClientInstruments) -> None:
        self._callee = callee
        self._instruments = instruments
        # A label lookup costs more than counting, and a callee has few methods, so the children are cached.
        self._calls: dict[tuple[str, Code], tuple[Counter, Histogram]] = {}
        self._waiting: dict[str, weakref.WeakSet[Coalescer[Any, Any]]] = {}

    def replica_added(self, replica: Replica) -> None:
        label = str(replica.index) if replica.index < _MAX_REPLICA_LABELS else "more"
        seen = weakref.ref(replica)
        breaker = self._instruments.breaker.labels(self._callee, label)
        breaker.set_function(lambda: r.state(time.monotonic()).value if (r := seen()) else math.nan)
        self._instruments.limit.labels(self._callee, label).set_function(
            lambda: r.limit() if (r := seen()) else math.nan
        )

    def waiting(self, method: str, rows: Coalescer[Any, Any]) -> None:
        # A method may have several coalescers, one for each codec.
        found = self._waiting.setdefault(method, weakref.WeakSet())
        found.add(rows)
        self._instruments.waiting.labels(self._callee, method).set_function(
            lambda: sum(r.waiting_rows for r in found)
        )

    def finished(self, method: str, code: Code, seconds: float) -> None:
        calls, timed = self._calls.get((method, code)) or self._children(method, code)
        calls.inc()
        timed.observe(seconds)

    def _children(self, method: str, code: Code) -> tuple[Counter, Histogram]:
        found, labels = self._instruments, (self._callee, method)
        children = self._calls[method, code] = (
            found.calls.labels(*labels, code.name),
            found.seconds.labels(*labels),
        )
        return children

    def retried(self, method: str) -> None:
        self._instruments.retries.labels(self._callee, method).inc()

    def hedged(self, method: str) -> None:
        self._instruments.hedges.labels(self._callee, method).inc()


_LINES_PER_S = 10


class ServerInstruments:
    """Metrics that all hop servers of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "headrace_hop_server_calls", "Calls answered.", ["service", "method", "code"], registry=registry
        )


class LineBudget:
    """At most `_LINES_PER_S` lines of one kind a second; a server that sheds load must not spend its time on logging."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, Code], tuple[float, int]] = {}

    def take(self, kind: tuple[str, Code], now: float) -> int | None:
        """None: write no line. Otherwise the number of lines left out since the last one."""
        began, seen = self._windows.get(kind, (-math.inf, 0))
        if now - began >= 1.0:
            self._windows[kind] = now, 1
            return max(0, seen - _LINES_PER_S)
        self._windows[kind] = began, seen + 1
        return 0 if seen < _LINES_PER_S else None


class Report:
    """One counter and one log line per call: level debug for success, info for failure.

    Lines of failures are limited per method and code; `left_out` is the number of lines not written."""

    def __init__(self, service: str, instruments: ServerInstruments, log: Any) -> None:
        self._service = service
        self._instruments = instruments
        self._log, self._debugs = log, log.is_enabled_for(logging.DEBUG)
        self._lines = LineBudget()
        # `labels()` takes a lock and builds a tuple of strings; there are few children, so they are kept.
        self._calls: dict[tuple[str, Code], Counter] = {}

    def record(self, call: Call, took_s: float, error: BaseException | None) -> None:
        """Records one finished call; `error` is a Fault, a cancellation or None."""
        code = Code.OK if error is None else error.code if isinstance(error, Fault) else Code.CANCELLED
        counter = self._calls.get((call.method, code))
        if counter is None:
            counter = self._instruments.calls.labels(self._service, call.method.removeprefix("/"), code.name)
            self._calls[call.method, code] = counter
        counter.inc()
        if not isinstance(error, Fault):
            # Answered, or ended by its caller, as who waits for a change does when it stops.
            if self._debugs:
                took = round(took_s * 1e6)
                self._log.debug(
                    "call", method=call.method, peer=call.peer.transport, code=code.name, took_us=took
                )
            return
        left_out = self._lines.take((call.method, code), time.monotonic())
        if left_out is None:
            return
        self._log.info(
            "call failed",
            method=call.method,
            peer=call.peer.transport,
            peer_identity=call.peer.identity,
            code=code.name,
            reason=reason_name(error.reason),
            message=str(error),
            took_us=round(took_s * 1e6),
            left_out=left_out,
            **named(call),
        )


def named(call: Call) -> dict[str, list[str]]:
    """Request ids of a call as fields of a log line; empty if they are not known."""
    return {"request_ids": some(call.request_ids)} if call.request_ids else {}
