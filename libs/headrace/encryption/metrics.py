"""How encryption goes, as metrics of the process: what was sealed or not opened, and whether the keys can be reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from headrace.encryption.data_keys import DataKeys
from headrace.encryption.errors import KeysAwayError, KeysProblem

# Keys that nobody needs right now are tried no more often than this, so that their absence is known before they are needed.
_TRIED_EVERY_S = 15.0


class EncryptionMetrics:
    """All data keys of a process share these: `runtime.telemetry.once(EncryptionMetrics)`."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._followed: list[DataKeys] = []
        self._tried = -_TRIED_EVERY_S
        self._trying: Thread | None = None
        self._log: Any = None
        self._said: KeysProblem | None = None
        self._sealed = Counter(
            "headrace_encryption_sealed_total", "Pieces that were sealed.", registry=registry
        )
        self._unopened = Counter(
            "headrace_encryption_unopened_total",
            "Sealed pieces that could not be opened: locked (their key is not here) or damaged (altered or cut off).",
            ["why"],
            registry=registry,
        )
        for why in ("locked", "damaged"):
            self._unopened.labels(why)
        Gauge(
            "headrace_encryption_keys_away_seconds",
            "For how long the keys could not be reached or used; 0: they can.",
            registry=registry,
        ).set_function(self._away_s)
        problem = Gauge(
            "headrace_encryption_keys_problem",
            "1: the keys can't be used for this reason.",
            ["problem"],
            registry=registry,
        )
        for kind in KeysProblem:
            problem.labels(kind).set_function(partial(self._is, kind))

    def logged(self, log: Any) -> EncryptionMetrics:
        """The same, which says in this log when the keys go and come."""
        self._log = log
        return self

    def follow(self, keys: DataKeys) -> None:
        """Tells of these data keys too."""
        self._followed.append(keys)

    def sealed(self) -> None:
        """Counts one piece."""
        self._sealed.inc()

    def unopened(self, why: str) -> None:
        """Counts one piece; `why`: locked or damaged."""
        self._unopened.labels(why).inc()

    def away(self, error: KeysAwayError) -> None:
        """Says it once for each problem."""
        with self._lock:
            said, self._said = self._said, error.problem
        if said is not error.problem and self._log is not None:
            problem = error.problem
            self._log.error(
                "the keys that files are sealed with can't be used",
                problem=str(problem),
                error=str(error),
                remedy=problem.remedy,
            )

    def back(self) -> None:
        """Says it once all parts of the process reach them."""
        if any(keys.problem() is not None for keys in self._followed):
            return
        with self._lock:
            said, self._said = self._said, None
        if said is not None and self._log is not None:
            self._log.info("the keys that files are sealed with are here again")

    def _is(self, problem: KeysProblem) -> float:
        return float(any(keys.problem() is problem for keys in self._followed))

    def _away_s(self) -> float:
        """Called for each scrape. A token may hang, so keys are tried on another thread; the next scrape tells how it went."""
        with self._lock:
            busy = self._trying is not None and self._trying.is_alive()
            if not busy and self._clock() - self._tried >= _TRIED_EVERY_S:
                self._tried = self._clock()
                self._trying = Thread(target=self._try, name="encryption-keys", daemon=True)
                self._trying.start()
        return max((keys.away_s() for keys in self._followed), default=0.0)

    def _try(self) -> None:
        for keys in self._followed:
            keys.reachable()
