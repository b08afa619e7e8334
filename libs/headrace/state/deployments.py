"""The record of deployments: two lines of a journal of the audit for each.

The first is written before anything is done, and what can't be recorded is not done. A first line without a second one is a
deployment that was cut off: it counts as failed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from headrace.state import json_lines

BEGIN, END = "deployment_began", "deployment_ended"
_TEXT = 1000


class Result(StrEnum):
    """How a deployment ended."""

    SUCCEEDED = "succeeded"
    # What was changed runs the version from before again.
    ROLLED_BACK = "rolled_back"
    # It was cut off, or could not be rolled back: processes may run different versions.
    FAILED = "failed"
    # It has not ended yet, or was cut off a moment ago.
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One of them."""

    version: str
    result: Result


def begin(path: Path, now: datetime, version: str, services: Mapping[str, str], author: str) -> str:
    """Records that a deployment begins; returns its identity. `services`: the commit of each. Raises OSError."""
    identity = secrets.token_hex(8)
    about = {"version": version, "target": "home", "services": dict(services), "author": author[:_TEXT]}
    _append(path, now, BEGIN, identity, about)
    return identity


def end(path: Path, now: datetime, identity: str, result: Result, why: str = "") -> None:
    """Records how it ended; `why`: of a failure. Raises OSError."""
    about = {"result": str(result), "why": why[:_TEXT]}
    _append(path, now, END, identity, {k: v for k, v in about.items() if v})


def read(path: Path) -> list[Deployment]:
    """All deployments, the oldest first; of those without an end only the last one may still run.

    Raises ValueError: a line is damaged; OSError."""
    begun: dict[str, str] = {}
    ends: dict[str, Result] = {}
    for entry in json_lines.entries(path):
        try:
            if entry.get("event") == BEGIN:
                begun[entry["deployment"]] = str(entry["version"])
            else:
                ends[entry["deployment"]] = Result(entry["result"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: a line lacks {error}") from None
    last = next(reversed(begun), "")
    return [
        Deployment(version, ends.get(identity, Result.RUNNING if identity == last else Result.FAILED))
        for identity, version in begun.items()
    ]


def _append(path: Path, now: datetime, event: str, identity: str, about: Mapping[str, object]) -> None:
    at = now.isoformat(timespec="milliseconds")
    json_lines.append_entry(path, {"at": at, "event": event, "deployment": identity, **about})
