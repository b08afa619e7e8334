"""The audit of releases: a hash chain with a line for each change, written before the change is made.

A change that was refused afterwards (somebody else was first) has a second line that says so.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headrace.releases.document import Release, to_bytes
from headrace.releases.errors import ReleaseError
from headrace.state import chain

Event = Literal["changed", "refused", "frozen", "unfrozen", "removed"]
_TEXT = 2000


class UnrecordedError(ReleaseError):
    """The audit can't be written, so nothing was changed."""

    def __init__(self, pipeline: str, error: OSError) -> None:
        why = error.strerror or type(error).__name__
        super().__init__(
            pipeline,
            [f"(audit): can't be written ({why}); mend disk or rights: what can't be recorded is not done"],
        )


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes a line. `process`: its program and process id."""

    machine: str
    process: str

    @classmethod
    def here(cls, program: str, machine: str = "") -> Writer:
        """This process. `machine` "": its host name."""
        return cls(machine or socket.gethostname(), f"{program}:{os.getpid()}")


class Audit:
    """Appends to the file `path`, which threads and processes may share."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        writer: Writer | None = None,
    ) -> None:
        self.path = path
        self.writer = writer or Writer.here("headrace")
        self._clock = clock

    def record(self, event: Event, pipeline: str, **about: str | int) -> None:
        """Appends a line; it is on the disk once this returns. Raises UnrecordedError."""
        # Shortened: a reason may be of any length.
        texts = {k: v[:_TEXT] if isinstance(v, str) else v for k, v in about.items() if v != ""}
        at = self._clock().isoformat(timespec="milliseconds")
        by = {"machine": self.writer.machine, "process": self.writer.process}
        entry = {"at": at, "event": event, "pipeline": pipeline, **texts, **by}
        try:
            chain.append(self.path, entry)
        except OSError as error:
            raise UnrecordedError(pipeline, error) from None

    def release(self, event: Event, release: Release, **about: str | int) -> None:
        """A line about a release. Raises UnrecordedError."""
        self.record(event, release.pipeline, **{**facts(release), **about})


def facts(release: Release) -> dict[str, str | int]:
    """What the audit and the webhook say of a release."""
    rollout = release.rollout
    return {
        "number": release.number,
        "parent": release.parent,
        "sha256": sha256_of(release),
        "author": release.author,
        "reason": release.reason,
        "verdict": rollout.verdict if rollout else "",
        "restores": release.restores or "",
    }


def sha256_of(release: Release) -> str:
    """The content hash that is stored with the release."""
    return str(json.loads(to_bytes(release))["sha256"])


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit says of one kept release. `recorded` False: nothing here says who made it. `machine`, `process`: who made
    it; empty: that is not recorded."""

    number: int
    recorded: bool
    machine: str = ""
    process: str = ""


def verify(audit: Audit, releases: Iterable[Release]) -> list[Finding]:
    """Compares releases with the audit, in their order. Raises ValueError: the chain is broken; OSError: it can't be read."""
    made = _made(chain.entries(audit.path)) if audit.path.exists() else {}
    return [_finding(release, made) for release in releases]


def _made(entries: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, str], Mapping[str, Any]]:
    """The line of each change that was made."""
    made = {}
    for entry in entries:
        key = _key(entry)
        if entry.get("event") == "changed":
            made[key] = entry
        elif entry.get("event") == "refused":
            made.pop(key, None)
    return made


def _finding(release: Release, made: Mapping[tuple[str, int, str], Mapping[str, Any]]) -> Finding:
    entry = made.get((release.pipeline, release.number, sha256_of(release)))
    if entry is None:
        return Finding(release.number, recorded=False)
    return Finding(release.number, True, str(entry.get("machine", "")), str(entry.get("process", "")))


def _key(entry: Mapping[str, Any]) -> tuple[str, int, str]:
    number = entry.get("number")
    return str(entry.get("pipeline")), number if isinstance(number, int) else 0, str(entry.get("sha256"))
