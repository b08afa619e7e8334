"""An unusable release, a lost database, and kill -9 of who follows: what was good last serves."""

from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest

from headrace.cli.installation import layout
from tests.faults.traffic import serves
from tests.gauges import samples
from tests.pipeline.refusals import failure
from tests.system import (
    HOME,
    System,
    add_document,
    add_unusable,
    poll,
    remove_document,
    row_request,
    write_document,
)

NAME, NEVER_GOOD = "mended", "never_good"
RECOVERY_S = 60
BROKEN = "pipeline: mended\nversion: [\n"


def document(version: int, at: float) -> str:
    return f"""
pipeline: {NAME}
version: {version}
deadline_ms: 30000
inputs:
  level: float32
stages:
  - postprocessing: judge
    steps: [threshold: {{column: level, at: {at}, into: high}}]
    outputs: {{high: bool}}
outputs: [high]
"""


@pytest.fixture
def _documents(system: System) -> Iterator[None]:
    add_document(NAME, document(1, at=5))
    poll("the pipeline is served", lambda: version(system) == 1)
    yield
    for name in (NAME, NEVER_GOOD):
        remove_document(name)
    poll("nothing is in quarantine", lambda: not system.status()["quarantined_pipelines"])


@pytest.mark.usefixtures("_documents")
def test_an_unusable_release_stops_no_pipeline_over_a_kill(system: System) -> None:
    add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    # That a document is there changes nothing, broken or not.
    write_document(NAME, BROKEN)
    number = add_unusable(NAME)
    add_unusable(NEVER_GOOD)
    for service in ("router", "ingress", "control"):
        system.kill(service)
        poll(f"{service} serves flights again", lambda: serves(system), within_s=RECOVERY_S)
        poll("the last good release serves", lambda: version(system) == 2, within_s=RECOVERY_S)
        code, reason, _, _ = failure(system.predict, row_request({"level": 8.0}, pipeline=NEVER_GOOD))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PIPELINE_QUARANTINED")
    poll("control is back", lambda: system.services()["control"]["state"] == "ready")
    told = {q["pipeline"]: q for q in system.status()["quarantined_pipelines"]}
    assert {name: q["serves_release"] for name, q in told.items()} == {NAME: number - 1, NEVER_GOOD: None}
    assert f"releases/{NAME}/{number}:1: (release): arms.live" in told[NAME]["problems"][0]
    for service in ("router", "ingress"):
        found = samples(system, f"headrace_{service}_quarantined_documents", [service])
        assert {(s["pipeline"], s["serves"]) for s, value in found if value} == {
            (NAME, "last_good"),
            (NEVER_GOOD, "nothing"),
        }
        assert "pipeline document quarantined" in layout.of(HOME).log(service).read_text()
    add_document(NAME, document(3, at=9))
    poll("what was mended serves", lambda: version(system) == 3)
    system.kill("router")
    poll("it still does", lambda: version(system) == 3, within_s=RECOVERY_S)


@pytest.mark.usefixtures("_documents")
def test_without_control_and_its_database_what_serves_goes_on_over_a_kill(system: System) -> None:
    add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    place = layout.of(HOME)
    away = place.records.parent.with_name("control.away")
    place.records.parent.rename(away)
    place.records.parent.write_text("no folder, so no database can be made")
    try:
        system.kill("control")
        for service in ("router", "ingress", "executor"):
            system.kill(service)
            poll("the release serves", lambda: version(system) == 2, within_s=RECOVERY_S)
            poll("so do others", lambda: serves(system), within_s=RECOVERY_S)
    finally:
        place.records.parent.unlink()
        away.rename(place.records.parent)
    poll("control is well again", lambda: system.services()["control"]["state"] == "ready", RECOVERY_S)
    add_document(NAME, document(3, at=9))
    poll("what comes next serves", lambda: version(system) == 3)


def version(system: System, name: str = NAME) -> int | None:
    """The version that answers; None: none does."""
    with suppress(grpc.RpcError):
        return int(system.predict(row_request({"level": 8.0}, pipeline=name)).version)
    return None
