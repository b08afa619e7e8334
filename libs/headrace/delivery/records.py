"""The record of deployments: two lines of a journal of the audit for each.

The first is written before anything is done, and what can't be recorded is not done. A first line without a second one is a
deployment that was cut off: it counts as failed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from headrace.delivery.errors import DeliveryError
from headrace.state import json_lines

BEGAN, ENDED = "deployment_began", "deployment_ended"
_TEXT = 1000


class Result(StrEnum):
    """How a deployment ended."""

    SUCCEEDED = "succeeded"
    # What was changed runs the versions from before again.
    ROLLED_BACK = "rolled_back"
    # It was cut off, or could not be rolled back: services may run different versions.
    FAILED = "failed"
    # It has not ended yet, or was cut off a moment ago.
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Deployment:
    """`why`: of a failure."""

    identity: str
    version: str
    target: str
    began: datetime
    result: Result
    ended: datetime | None = None
    services: tuple[str, ...] = ()
    failed_service: str = ""
    why: str = ""
    author: str = ""


class Records:
    """The journal `path`. `clock`: the time in UTC."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock

    def began(self, version: str, target: str, images: Mapping[str, str], author: str) -> str:
        """Records that a deployment begins; returns its identity. Raises DeliveryError."""
        identity = secrets.token_hex(8)
        about = {"version": version, "target": target, "services": dict(images), "author": author[:_TEXT]}
        self._append(BEGAN, identity, about)
        return identity

    def ended(self, identity: str, result: Result, service: str = "", why: str = "") -> None:
        """Records how it ended; `service`: at which one it failed. Raises DeliveryError."""
        about = {"result": str(result), "service": service, "why": why[:_TEXT]}
        self._append(ENDED, identity, {k: v for k, v in about.items() if v})

    def _append(self, event: str, identity: str, about: Mapping[str, object]) -> None:
        at = self._clock().isoformat(timespec="milliseconds")
        try:
            json_lines.append_entry(self._path, {"at": at, "event": event, "deployment": identity, **about})
        except OSError as error:
            raise DeliveryError(
                f"{self._path} can't be written ({error.strerror}); mend disk or rights: what can't be recorded is not done"
            ) from None


def read(path: Path) -> list[Deployment]:
    """All deployments, the oldest first; of those without an end only the last one may still run.

    Raises DeliveryError: a line is damaged; OSError."""
    if not path.exists():
        return []
    begun: dict[str, Mapping[str, Any]] = {}
    ends: dict[str, Mapping[str, Any]] = {}
    try:
        for entry in json_lines.entries(path):
            kept = begun if entry.get("event") == BEGAN else ends
            kept[str(entry["deployment"])] = entry
        last = next(reversed(begun), "")
        return [
            _of(identity, entry, ends.get(identity), identity == last) for identity, entry in begun.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeliveryError(f"{path} is damaged ({error}); find out why, then put it aside") from None


def _of(identity: str, began: Mapping[str, Any], ended: Mapping[str, Any] | None, last: bool) -> Deployment:
    result, about = (
        (Result(ended["result"]), ended) if ended else (Result.RUNNING if last else Result.FAILED, {})
    )
    return Deployment(
        identity=identity,
        version=str(began["version"]),
        target=str(began["target"]),
        began=datetime.fromisoformat(began["at"]),
        result=result,
        ended=datetime.fromisoformat(ended["at"]) if ended else None,
        services=tuple(began["services"]),
        failed_service=str(about.get("service", "")),
        why=str(about.get("why", "")) if ended or last else "it was cut off",
        author=str(began.get("author", "")),
    )
