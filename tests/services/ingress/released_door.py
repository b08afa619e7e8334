"""A real door with a control, for operators: one release of `double`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.releases.of_records import RecordReleases
from tests.first_release import release_first
from tests.live_access import put
from tests.released import Released, released
from tests.services.ingress import ingress_door
from tests.services.ingress.ingress_door import PIPELINE, FakeRouter, Folder
from tests.services.ingress.ingress_keys import Keys, specs


@dataclass
class ReleasedFolder(Folder):
    """The folder of a door, what its control has, and the router behind it."""

    releases: Released
    router: FakeRouter

    @property
    def store(self) -> RecordReleases:
        return self.releases.store

    def begin_anew(self) -> None:
        """Release 1 alone."""
        # Not `remove`, after which the numbers go on.
        self.releases.control.execute("DELETE FROM records WHERE kind NOT IN ('tenant', 'key')")
        first_of_double(self.store)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[ReleasedFolder]:
    """The door, in the folder `path`."""
    router = FakeRouter()
    with released(path / "control") as releases:
        first_of_double(releases.store)
        keys = put(releases.store.records, specs({}))
        async with ingress_door.running(path, router, **releases.settings) as process:
            door = process.folder
            yield ReleasedFolder(door.path, door.settings, Keys(**keys), releases, router)


def first_of_double(store: RecordReleases) -> None:
    """Release 1, with version 1 of the model."""
    release_first(store, PIPELINE, {"doubler": "1"})
