"""Keeps evidence for the next analyser: a file per pipeline on one machine, a key in Redis for several.

What is lost costs time, never safety: the rollout stays at its weight until there is new evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from headrace.state import atomic

# Longer than any rollout waits for a person over a weekend.
_KEPT_S = 7 * 86400
_MAX_BYTES = 8 << 20


class FileEvidence:
    """PIPELINE.json in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        try:
            with self._path(pipeline).open("rb") as file:
                return _parsed(file.read(_MAX_BYTES))
        except FileNotFoundError:
            return None

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore."""
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self._path(pipeline), json.dumps(values, allow_nan=False).encode())

    def _path(self, pipeline: str) -> Path:
        return self._folder / f"{pipeline}.json"


class RedisClient(Protocol):
    """The part of redis-py's blocking client that is used here. Its errors of connection must be OSErrors."""

    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: bytes, *, ex: int) -> Any: ...


class RedisEvidence:
    """The key PREFIX + pipeline."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        content = self._client.get(self._prefix + pipeline)
        return None if content is None else _parsed(content)

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore."""
        self._client.set(self._prefix + pipeline, json.dumps(values, allow_nan=False).encode(), ex=_KEPT_S)


def _parsed(content: bytes | str) -> Mapping[str, Any] | None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
