"""Resources in a folder, signed by a key of their own, for services that run without a control."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.catalog.access import Position
from headrace.repository.storage.store import open_store
from headrace.resources.artifacts import ArtifactWriter
from headrace.resources.manifest import Manifest, Signer, VerifiedPart, new_keys
from headrace.resources.snapshot import PARTS, Resource, Snapshot


class OfflineResources:
    """The folder `folder`, which is made, and its key. Each `write` is a newer position."""

    def __init__(self, folder: Path) -> None:
        private, public = new_keys()
        self._folder = folder
        self._key = folder / "control.pub"
        self._signer = Signer(private)
        self._before: list[tuple[int, bytes]] = []
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key.write_bytes(public)
        self._writer = ArtifactWriter(open_store(folder), time.monotonic)

    @property
    def settings(self) -> dict[str, Any]:
        """The setting `resources` of a service that follows them."""
        return {"keys": [str(self._key)], "artifacts": str(self._folder)}

    def write(self, resources: Iterable[Resource]) -> None:
        """Makes these what is live. Raises OSError."""
        found = tuple(resources)
        number = len(self._before) + 1
        position = Position(1, number, number.to_bytes(32))
        begins = (Position(1, 1, (1).to_bytes(32)),)
        for service in sorted({service for services in PARTS.values() for service in services}):
            part = Snapshot.of(r for r in found if service in PARTS[r.kind])
            manifest = Manifest(
                service,
                position,
                part.digest(),
                len(part.resources),
                datetime.now(UTC),
                tuple(self._before),
                begins,
                None,
            )
            self._writer.write(VerifiedPart.of(self._signer.sign(manifest), part))
        self._before.append((number, position.head))
