"""Releases of a running headrace, changed while it is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.api.router.v1 import router_pb2 as pb
from headrace.cli.installation import control_place, layout
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Fault
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Release

_SERVED_S = 30.0
_LIST = unary(pb.ListPipelinesRequest, pb.ListPipelinesResponse, idempotent=True)


class ReleaseSwitch:
    """Commits releases of one pipeline and waits until the routers serve them."""

    def __init__(self, home: Path, pipeline: str) -> None:
        place = layout.of(home)
        self._store = control_place.releases(place)
        self._pipeline = pipeline
        self._documents: dict[str, str] = {}
        self._target = f"unix-dir:{place.listed('router')}"

    def arm(self, document: str, models: Mapping[str, str]) -> Arm:
        """An arm that runs this document (YAML) with these versions of models."""
        parsed = parse(document, self._pipeline)
        self._documents[parsed.revision] = document
        return Arm(version=parsed.version, revision=parsed.revision, models=dict(models))

    def commit(self, why: str, *, arms: Mapping[str, Arm], **changes: Any) -> None:
        """The live arm stays, `arms` are beside it. Raises SystemExit if there is no release, or routers do not take it."""
        current = self.current()
        release = current.next("load", why, arms={LIVE: current.arms[LIVE], **arms}, **changes)
        self._store.commit(release, self._documents)
        ends = time.monotonic() + _SERVED_S
        while not asyncio.run(self._serves(release.number)):
            if time.monotonic() > ends:
                raise SystemExit(f"the routers do not serve release {release.number}; see: headrace status")
            time.sleep(0.2)

    def current(self) -> Release:
        """What is live. Raises SystemExit if nothing was released."""
        current, _ = self._store.current(self._pipeline)
        if current is None:
            raise SystemExit(f"{self._pipeline} has no release in this home")
        return current

    async def _serves(self, number: int) -> bool:
        client = Client("router", ClientRules(self._target))
        try:
            replies = await client.each(_LIST)(pb.ListPipelinesRequest(), deadline=time.monotonic() + 5)
        finally:
            await client.close()
        found = [
            p.release
            for r in replies
            if not isinstance(r, Fault)
            for p in r.pipelines
            if p.name == self._pipeline
        ]
        return bool(found) and all(n >= number for n in found)
