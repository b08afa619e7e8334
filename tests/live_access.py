"""Tenants and keys for tests: a signed folder that a door starts by, or a real control that changes them while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.access import changes
from headrace.access.records import KEY, TENANT, By, key_content, tenant_content
from headrace.access.specs import KeySpec, TenantSpec, new_key
from headrace.catalog.access import Records
from headrace.catalog.remote import RemoteRecords
from headrace.cli.installation import control_place, secrets
from headrace.cli.installation.layout import Layout
from headrace.hop.config import Server, Telemetry
from headrace.hop.server.serve import serving
from headrace.resources.manifest import new_keys
from headrace.resources.offline import OfflineResources
from headrace.resources.snapshot import Resource
from services.control.config import ControlConfig
from services.control.wiring import SERVICE
from tests.first_release import resources_of

BY = By("tests")
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
Tenants = Mapping[str, TenantSpec]


def with_keys(tenants: Tenants) -> tuple[dict[str, str], dict[str, KeySpec]]:
    """A key for each tenant: its text, and what is stored of it."""
    made = {name: new_key(created=CREATED) for name in tenants}
    return {name: text for name, (text, _) in made.items()}, {name: key for name, (_, key) in made.items()}


def signed_folder(path: Path, tenants: Tenants, *documents: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Writes what a door without control starts by: these tenants, the first releases of these documents. Returns a key of each
    tenant, and the door's setting `resources`."""
    texts, keys = with_keys(tenants)
    resources = [
        *(Resource.of(TENANT, name, tenant_content(spec)) for name, spec in tenants.items()),
        *(Resource.of(KEY, f"{name}/{key.id}", key_content(key)) for name, key in keys.items()),
        *(resource for text in documents for resource in resources_of(text)),
    ]
    offline = OfflineResources(path / "resources")
    offline.write(resources)
    return texts, offline.settings


def put(records: Records, tenants: Tenants) -> dict[str, str]:
    """Makes or replaces tenants, and makes a key for each."""
    texts, keys = with_keys(tenants)
    for name, spec in tenants.items():
        changes.add_key(records, name, keys[name], lambda _, spec=spec: spec, BY)  # type: ignore[misc] # mypy knows no lambdas with defaults
    return texts


class Control:
    """A real control, on a thread of this process. `folder`: of its database and keys; `socket`: where it listens."""

    def __init__(self, folder: Path, socket: Path | None = None) -> None:
        self.folder = folder
        private, public = new_keys()
        (folder / "control.key").write_bytes(private)
        (folder / "control.pub").write_bytes(public)
        socket = socket or folder / "control.sock"
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.target = f"unix:{socket}"
        self._settings = ControlConfig(
            server=Server(listen=self.target, drain_notice_s=0.0, drain_s=5.0),
            telemetry=Telemetry(log_level="error", trace_ratio=0.0),
            database=str(folder / "control.sqlite"),
            initialise=True,
            signing_key=folder / "control.key",
            settle_s=0.0,
        )
        self.records = RemoteRecords(self.target)
        self._end: Callable[[], None] | None = None

    def door(self) -> dict[str, Any]:
        """Settings of a door that follows it."""
        resources = {"keys": [str(self.folder / "control.pub")], "folder": str(self.folder / "resources")}
        return {"control": {"target": self.target}, "resources": resources}

    def put(self, tenants: Tenants) -> dict[str, str]:
        """Makes or replaces tenants, and makes a key for each."""
        return put(self.records, tenants)

    def start(self) -> None:
        """Returns once it answers."""
        running = Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

        async def serve() -> None:
            end = asyncio.Event()
            async with serving(SERVICE, self._settings):
                running.set_result((asyncio.get_running_loop(), end))
                await end.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                if running.done():
                    raise
                running.set_exception(error)

        thread = threading.Thread(target=run, name="control")
        thread.start()
        loop, end = running.result()

        def stop() -> None:
            loop.call_soon_threadsafe(end.set)
            thread.join()

        self._end = stop

    def stop(self) -> None:
        """Returns once it has ended."""
        if self._end is not None:
            self._end()
            self._end = None


@contextmanager
def same_tenants_after(home: Layout) -> Iterator[RemoteRecords]:
    """What the control of a running home has. Tenants are as before afterwards, and keys that were made are revoked."""
    with control_place.records(home) as records:
        before = changes.read(records)
        yield records
        now = changes.read(records)
        for name in now.tenants.keys() - before.tenants.keys():
            changes.remove_tenant(records, name, BY)
        for name, spec in before.tenants.items():
            changes.edit_tenant(records, name, lambda _, spec=spec: spec, BY)  # type: ignore[misc] # as above
            for identity in now.keys.get(name, {}).keys() - before.keys[name].keys():
                changes.revoke_key(records, name, identity, BY)


@contextmanager
def home_control(home: Layout) -> Iterator[Control]:
    """Runs the control of a home meanwhile, which has the tenants that every home begins with."""
    home.make_home()
    with control(home.home, home.listed("control") / "control.sock") as found:
        secrets.ensure(home, datetime.now(UTC))
        secrets.ensure_keys(home, found.records)
        yield found


@contextmanager
def control(folder: Path, socket: Path | None = None) -> Iterator[Control]:
    """Runs one meanwhile."""
    found = Control(folder, socket)
    found.start()
    try:
        yield found
    finally:
        found.records.close()
        found.stop()
