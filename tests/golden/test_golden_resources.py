"""Control and the data plane are rolled one after the other: each understands what the other wrote in an earlier version."""

import json
from pathlib import Path

import pytest

from headrace.access.records import key_content, key_of, tenant_content, tenant_of
from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.releases.document import from_bytes, to_bytes
from headrace.releases.of_records import freeze_of
from headrace.repository.model_index import index_of
from headrace.resources.apply import units_of
from headrace.resources.disk import read_folder
from headrace.resources.follower_state import FollowerState, Next
from headrace.resources.manifest import Verifier
from headrace.resources.releases import release_compiler
from headrace.resources.snapshot import PARTS, Snapshot
from services.control.resources.feed import SERVICES
from tests.golden import recorded_resources
from tests.libs.resources.control_history import PUBLIC
from tests.services.control.following import Process

VERSIONS = sorted(recorded_resources.FOLDER.iterdir())
VERIFIER = Verifier([PUBLIC])
each = pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)


def understood(snapshot: Snapshot) -> None:
    """All of it can be used today, and what an earlier process reads is written as it was."""
    for unit in units_of(snapshot).values():
        kind, name = unit.key
        content = unit.resources[0].content
        if kind == "release":
            release_compiler()(unit)
            assert to_bytes(from_bytes(name, content)) == content
        elif kind == "tenant":
            assert tenant_content(tenant_of(name, content)) == content
        elif kind == "key":
            assert key_content(key_of(name, content)[1]) == content
        elif kind == "model":
            assert index_of(name, content).content() == content
        else:
            assert kind == "freeze", f"{kind}: say here what of it must be understood"
            assert freeze_of(content).author == "ann"


@each
@pytest.mark.parametrize("service", SERVICES)
def test_a_newer_process_takes_over_what_an_older_control_wrote(version: Path, service: str) -> None:
    state = FollowerState(f"{service}/a/0", service, VERIFIER)
    outcome = state.receive(WatchResponse.FromString((version / service / "response").read_bytes()))
    assert outcome.next is Next.APPLY
    assert {kind for kind, _ in outcome.part.snapshot.resources} == {
        kind for kind, services in PARTS.items() if service in services
    }
    understood(outcome.part.snapshot)
    kept = read_folder(version / service / "disk", VERIFIER, service)
    assert (kept.position, kept.snapshot) == (outcome.part.position, outcome.part.snapshot)


@each
def test_an_older_process_is_answered_by_a_newer_control_as_it_was(version: Path, tmp_path: Path) -> None:
    with recorded_resources.control(tmp_path) as (target, _):
        for service in SERVICES:
            request = WatchRequest.FromString((version / service / "request").read_bytes())
            with Process(target, PUBLIC, request.watcher, service) as process:
                answer = process.watch(request)
            before = WatchResponse.FromString((version / service / "response").read_bytes())
            # What it knows must be there, and of the same form; what is new it does not read.
            now, then = json.loads(answer.manifest), json.loads(before.manifest)
            assert {key: type(now[key]) for key in then} == {key: type(value) for key, value in then.items()}
            of_kind = {kind: names(answer, kind) for kind in {r.kind for r in before.resources}}
            assert of_kind == {kind: names(before, kind) for kind in of_kind}


def names(answer: WatchResponse, kind: str) -> list[str]:
    return sorted(r.name for r in answer.resources if r.kind == kind)
