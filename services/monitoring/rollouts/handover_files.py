"""Lease and evidence in files, for the analysers of one machine.

Evidence that is lost costs time, never safety: the rollout stays at its weight until there is new evidence.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.state import atomic, plain_files

_MAX_BYTES = 8 << 20


class FileLease:
    """A lock on a file. The kernel gives it back when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self) -> bool:
        """See ports.Lease."""
        if self._descriptor is not None:
            return True
        # Here and not at the start: a folder that can't be made stops rollouts alone, until it can.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """See ports.Lease."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class FileEvidence:
    """PIPELINE.json in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        try:
            return parsed(plain_files.read(self._path(pipeline), _MAX_BYTES))
        except FileNotFoundError:
            return None

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore."""
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self._path(pipeline), json.dumps(values, allow_nan=False).encode())

    def _path(self, pipeline: str) -> Path:
        return self._folder / f"{pipeline}.json"


def parsed(content: bytes) -> Mapping[str, Any] | None:
    """The saved values; None: they can't be read."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
