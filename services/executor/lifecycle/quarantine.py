"""Quarantine: the versions that can't be used, why, and when each is tried again.

A state machine; the caller passes the time (monotonic seconds).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Gauge

from headrace.repository import RepositoryError

# The metric of the quarantine has at most this many series.
_MAX_SERIES = 256
Key = tuple[str, str]
"""Model and version."""


class FailureKind(enum.Enum):
    """What failed; this decides when to try again. `value`: seconds before the first retry, and at most between retries."""

    # Its files can't be read, or are not trusted. A retry is cheap.
    FILES = (2.0, 30.0)
    # It failed in this process, for example because another server is down.
    ACTIVATION = (5.0, 300.0)
    # The process that checks it refused it, or did not end. A retry is expensive and rarely succeeds.
    CHECK = (60.0, 3600.0)
    # Several processes of this service ended while they loaded it. Retried when its files change or an operator asks.
    CRASH = (float("inf"), float("inf"))


class UnusableError(RepositoryError):
    """A version can't be loaded. `fingerprint`: of the files that were tried; empty if they could not be read."""

    def __init__(self, error: RepositoryError, kind: FailureKind, fingerprint: str = "") -> None:
        super().__init__(error.model, error.version, error.problem, error.remedy)
        self.origin = error
        self.kind = kind
        self.fingerprint = fingerprint


@dataclass(slots=True, eq=False)
class QuarantinedVersion:
    """A version in quarantine. `error`: for operators. `stamp`: of its small files at the last try.

    `due`: when it is tried again; `wait`: seconds from the last failure to then.
    """

    error: RepositoryError
    kind: FailureKind
    stamp: str
    due: float
    wait: float


class Quarantine:
    """The versions in quarantine. Lives on one event loop."""

    def __init__(self) -> None:
        self._held: dict[Key, QuarantinedVersion] = {}

    def hold(self, key: Key, error: RepositoryError, kind: FailureKind, stamp: str, now: float) -> None:
        """Puts a version into quarantine. Each further failure doubles the time to the next try."""
        before = self._held.get(key)
        first, most = kind.value
        again = before is not None and before.kind is kind and before.stamp == stamp
        wait = min(before.wait * 2, most) if before is not None and again else first
        self._held[key] = QuarantinedVersion(error, kind, stamp, now + wait, wait)

    def show(self, gauge: Gauge) -> None:
        """Says in a metric which they are."""
        gauge.clear()
        for model, version in list(self._held)[:_MAX_SERIES]:
            gauge.labels(model, version).set(1)

    def sooner(self, key: Key, due: float) -> None:
        """Moves the next try of a version to `due`, if that is earlier."""
        held = self._held[key]
        held.due = min(held.due, due)

    def release(self, key: Key) -> bool:
        """Takes a version out of quarantine. Returns whether it was there."""
        return self._held.pop(key, None) is not None

    def get(self, key: Key) -> QuarantinedVersion | None:
        return self._held.get(key)

    def of(self, model: str) -> dict[str, QuarantinedVersion]:
        return {version: held for (name, version), held in self._held.items() if name == model}

    def all(self) -> Iterable[tuple[Key, QuarantinedVersion]]:
        return list(self._held.items())
