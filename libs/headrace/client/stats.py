"""Statistics of the SDK: number of calls by code, retries, latency."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace.hop.client.observer import ClientObserver
from headrace.hop.errors import Code

# Bucket bounds grow by 5 % from 10 µs on, so quantiles are exact to 5 %.
_STEP = math.log(1.05)
_LEAST = 1e-5


class Hook(Protocol):
    """Called for every call, on the client's event loop (for the sync client: in its thread). Must be quick."""

    def finished(self, method: str, code: str, seconds: float) -> None:
        """A call ended, its retries included; `code`: "OK", "UNAVAILABLE" …"""
        ...

    def retried(self, method: str) -> None:
        """A call is retried."""
        ...


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds; nan while no call has ended."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the statistics since the client was created. `codes`: canonical code → calls."""

    calls: int
    codes: Mapping[str, int]
    retries: int
    latency: Latency


class Recorder(ClientObserver):
    """Collects the statistics; hop's client reports to it. Safe to read from any thread."""

    def __init__(self, hook: Hook | None) -> None:
        self._hook = hook
        self._lock = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._buckets: Counter[int] = Counter()
        self._sum = 0.0
        self._max = 0.0
        self._retries = 0

    def finished(self, method: str, code: Code, seconds: float) -> None:
        bucket = math.ceil(math.log(max(seconds, _LEAST) / _LEAST) / _STEP)
        with self._lock:
            self._codes[code.name] += 1
            self._buckets[bucket] += 1
            self._sum += seconds
            self._max = max(self._max, seconds)
        if self._hook is not None:
            self._hook.finished(method, code.name, seconds)

    def retried(self, method: str) -> None:
        with self._lock:
            self._retries += 1
        if self._hook is not None:
            self._hook.retried(method)

    def hedged(self, method: str) -> None:
        """Sent to another address while the first is silent: to a program that is a retry as others are."""
        self.retried(method)

    def snapshot(self) -> Stats:
        """The statistics now."""
        with self._lock:
            codes, buckets = dict(self._codes), sorted(self._buckets.items())
            total, longest, retries = self._sum, self._max, self._retries
        calls = sum(codes.values())
        if not calls:
            return Stats(0, codes, retries, Latency(*[math.nan] * 5))
        p50, p90, p99 = (min(_quantile(buckets, calls, q), longest) for q in (0.5, 0.9, 0.99))
        return Stats(calls, codes, retries, Latency(total / calls, p50, p90, p99, longest))


def _quantile(buckets: list[tuple[int, int]], calls: int, share: float) -> float:
    seen = 0
    for bucket, count in buckets:
        seen += count
        if seen >= share * calls:
            return _LEAST * math.exp(bucket * _STEP)
    return math.inf
