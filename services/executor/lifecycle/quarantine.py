"""Versions that can't be used: why, and when each is tried again. A state machine, the clock passed in (monotonic seconds)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from headrace.repository import RepositoryError

Key = tuple[str, str]
"""Model and version."""


class FailureKind(enum.Enum):
    """What is wrong, as far as it decides when to try again. `value`: seconds to the first and between the last tries."""

    # Its files can't be read or are not to be believed; a look is cheap.
    FILES = (2.0, 30.0)
    # It was tried in this process, for instance on a server that is away.
    ACTIVATION = (5.0, 300.0)
    # The process that checks it said no, or did not come to an end: trying is dear, and seldom ends otherwise.
    CHECK = (60.0, 3600.0)
    # Loading it has ended this service's process, again and again: tried when its files change or an operator says so.
    CRASH = (float("inf"), float("inf"))


class UnusableError(RepositoryError):
    """A version can't be made ready. `fingerprint`: of the files that were tried, empty if they could not be read."""

    def __init__(self, error: RepositoryError, kind: FailureKind, fingerprint: str = "") -> None:
        super().__init__(error.model, error.version, error.problem, error.remedy)
        self.origin = error
        self.kind = kind
        self.fingerprint = fingerprint


@dataclass(slots=True, eq=False)
class QuarantinedVersion:
    """A version in quarantine. `stamp`: of its small files when it was tried; `error`: as an operator may see it."""

    error: RepositoryError
    kind: FailureKind
    stamp: str
    due: float
    wait: float


class Quarantine:
    """Which versions are held. Lives on one event loop."""

    def __init__(self) -> None:
        self._held: dict[Key, QuarantinedVersion] = {}

    def hold(self, key: Key, error: RepositoryError, kind: FailureKind, stamp: str, now: float) -> None:
        """The version could not be made ready; each failure in a row doubles the time to the next try."""
        before = self._held.get(key)
        first, most = kind.value
        again = before is not None and before.kind is kind and before.stamp == stamp
        wait = min(before.wait * 2, most) if before is not None and again else first
        self._held[key] = QuarantinedVersion(error, kind, stamp, now + wait, wait)

    def sooner(self, key: Key, due: float) -> None:
        """It is tried no later than that."""
        held = self._held[key]
        held.due = min(held.due, due)

    def release(self, key: Key) -> bool:
        """It is not held any more. Returns whether it was."""
        return self._held.pop(key, None) is not None

    def get(self, key: Key) -> QuarantinedVersion | None:
        return self._held.get(key)

    def of(self, model: str) -> dict[str, QuarantinedVersion]:
        """The model's versions that are held."""
        return {version: held for (name, version), held in self._held.items() if name == model}

    def all(self) -> Iterable[tuple[Key, QuarantinedVersion]]:
        return list(self._held.items())

    def due(self, now: float) -> list[Key]:
        """Those to try now."""
        return [key for key, held in self._held.items() if held.due <= now]
