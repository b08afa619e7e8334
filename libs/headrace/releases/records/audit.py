"""The audit of releases: a hash chain with a line for each change, written before the change is made.

A change that was refused afterwards (somebody else was first) has a second line that says so.
"""

from __future__ import annotations

import json
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


class Audit:
    """Appends to the file `path`. Threads and processes of one machine may share it."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._clock = clock

    def record(self, event: Event, pipeline: str, **about: str | int) -> None:
        """Appends a line; it is on the disk once this returns. Raises UnrecordedError."""
        # Shortened: a reason may be of any length.
        texts = {k: v[:_TEXT] if isinstance(v, str) else v for k, v in about.items() if v != ""}
        at = self._clock().isoformat(timespec="milliseconds")
        try:
            chain.append(self.path, {"at": at, "event": event, "pipeline": pipeline, **texts})
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
    """What the audit says of one kept release. `recorded` False: nothing here says who made it."""

    number: int
    recorded: bool


def verify(path: Path, releases: Iterable[Release]) -> list[Finding]:
    """Compares releases with the audit, in their order. Raises ValueError: the chain is broken; OSError: it can't be read."""
    made: set[tuple[str, int, str]] = set()
    for entry in chain.entries(path) if path.exists() else ():
        key = _key(entry)
        if entry.get("event") == "changed":
            made.add(key)
        elif entry.get("event") == "refused":
            made.discard(key)
    return [Finding(r.number, (r.pipeline, r.number, sha256_of(r)) in made) for r in releases]


def _key(entry: Mapping[str, Any]) -> tuple[str, int, str]:
    number = entry.get("number")
    return str(entry.get("pipeline")), number if isinstance(number, int) else 0, str(entry.get("sha256"))
