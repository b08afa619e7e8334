"""What control and a process that follows it wrote in an earlier version.
`python -m tests.golden.recorded_resources FOLDER` records it anew: a folder for each version whose neighbours must understand it.

    SERVICE/request, SERVICE/response    the first question of a process without anything, and the answer
    SERVICE/disk                         what the process keeps
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import KeySpec, QuotaSpec, TenantSpec
from headrace.api.control.v1.resources_pb2 import WatchResponse
from headrace.catalog.access import Change, Records, Write
from headrace.catalog.remote import RemoteRecords
from headrace.pipeline import parse
from headrace.releases.of_records import RecordReleases
from headrace.releases.store import Freeze
from headrace.repository.model_index import MODEL, ModelIndex
from headrace.resources.disk import Disk
from headrace.resources.follower_state import FollowerState
from headrace.resources.manifest import Verifier
from services.control.resources.feed import SERVICES
from tests.control_service import control_here
from tests.first_release import first_release
from tests.libs.resources.control_history import PRIVATE, PUBLIC
from tests.services.control.following import Process

FOLDER = Path(__file__).parent / "resources"
DOCUMENT = """
pipeline: flights
version: 3
deadline_ms: 1000
inputs: {x: float32}
stages:
  - {model: light, name: m, inputs: {numbers: x}, outputs: {total: {column: y, type: float32}}}
outputs: [y]
"""
_ME, _AT = By("ann", "a test"), datetime(2026, 12, 1, tzinfo=UTC)
_KEY = KeySpec(hash="sha256:" + "ab" * 32, id="k1", created=_AT, scopes=("predict",))


def fill(records: Records) -> None:
    """One record of each kind that the data plane gets, as people make them."""
    index = ModelIndex("light", {"2": "ab" * 32}, {"champion": "2"})
    records.change(Change("ann", "model.add", "light", [Write(MODEL, "light", index.content(), 0)]))
    tenant = TenantSpec(pipelines=("flights",), scopes=("predict",), limits=QuotaSpec(rows_per_s=100.0))
    changes.add_key(records, "acme", _KEY, lambda _: tenant, _ME)
    releases, pipeline = RecordReleases(records), parse(DOCUMENT, "flights")
    first = first_release(pipeline, {"light": "2"}, "ann", "a test")
    releases.commit(first, {pipeline.revision: DOCUMENT})
    releases.freeze(Freeze("ann", "a test", _AT))


@contextmanager
def control(folder: Path) -> Iterator[tuple[str, RemoteRecords]]:
    """Its target, and its records, of each kind one."""
    with (
        control_here(folder, keys=(PRIVATE, PUBLIC)) as here,
        closing(RemoteRecords(here.target)) as records,
    ):
        fill(records)
        yield here.target, records


def answered(target: str, service: str) -> tuple[bytes, WatchResponse]:
    """The first question of a process that has nothing, and the answer."""
    with Process(target, PUBLIC, f"{service}/a/0", service) as process:
        request = process.state.request(0.0, (), ready=True)
        return request.SerializeToString(), process.watch(request)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, control(Path(scratch)) as (target, _):
        for service in SERVICES:
            request, response = answered(target, service)
            place = folder / service
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            (place / "request").write_bytes(request)
            (place / "response").write_bytes(response.SerializeToString(deterministic=True))
            part = FollowerState(service, service, Verifier([PUBLIC])).receive(response).part
            assert part is not None, "a small part is one page"
            with closing(Disk(place / "disk")) as disk:
                disk.write(part)
            for spare in ("lock", "compiled"):
                (place / "disk" / spare).unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
