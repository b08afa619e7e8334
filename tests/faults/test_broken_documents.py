"""A broken release and kill -9 of who reads it: the other pipelines go on, its own serves what was good last."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import grpc
import pytest

from headrace.cli.installation import layout
from headrace.pipeline import parse
from tests.faults.traffic import serves
from tests.gauges import samples
from tests.pipeline.refusals import failure
from tests.system import (
    HOME,
    RELEASES,
    System,
    add_document,
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
def test_a_broken_release_stops_no_pipeline_over_a_kill(system: System) -> None:
    number = add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    # That a document is there changes nothing, broken or not.
    write_document(NAME, BROKEN)
    path = RELEASES / NAME / f"{number}.json"
    path.write_text(path.read_text().replace('"tests"', '"stranger"'))
    (RELEASES / NEVER_GOOD).mkdir()
    (RELEASES / NEVER_GOOD / "1.json").write_text("{")
    for service in ("router", "ingress"):
        kill(system, service)
        poll(f"{service} serves flights again", lambda: serves(system), within_s=RECOVERY_S)
        poll("the last good release serves", lambda: version(system) == 2, within_s=RECOVERY_S)
        code, reason, _, _ = failure(system.predict, row_request({"level": 8.0}, pipeline=NEVER_GOOD))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PIPELINE_QUARANTINED")
    told = {q["pipeline"]: q for q in system.status()["quarantined_pipelines"]}
    assert {name: q["serves_version"] for name, q in told.items()} == {NAME: 2, NEVER_GOOD: None}
    assert (
        f"releases/{NAME}/{number}:1: (release): sha256: the document was altered"
        in told[NAME]["problems"][0]
    )
    assert (
        f"releases/{NEVER_GOOD}/1:1: (release): (document): can't be read" in told[NEVER_GOOD]["problems"][0]
    )
    for service in ("router", "ingress"):
        found = samples(system, f"headrace_{service}_quarantined_documents", [service])
        assert {(s["pipeline"], s["serves"]) for s, value in found if value} == {
            (NAME, "last_good"),
            (NEVER_GOOD, "nothing"),
        }
        log = layout.of(HOME).log(service).read_text()
        assert "pipeline document quarantined" in log
        assert f"releases/{NAME}/{number}:1: (release)" in log
    add_document(NAME, document(3, at=9))
    poll("what was mended serves", lambda: version(system) == 3)
    kill(system, "router")
    poll("it still does", lambda: version(system) == 3, within_s=RECOVERY_S)


@pytest.mark.parametrize("part", ["release", "document"])
@pytest.mark.usefixtures("_documents")
def test_of_a_damaged_newest_release_its_copy_serves_or_nothing_does(system: System, part: str) -> None:
    number = add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    revision = parse(document(2, at=7), NAME).revision
    name = f"{NAME}/{number}.json" if part == "release" else f"{NAME}/documents/{revision}.yaml"
    stored, kept = RELEASES / name, layout.of(HOME).kept_releases / name
    good = stored.read_bytes()
    assert kept.read_bytes() == good
    one_byte = good.replace(b"version", b"versiom", 1)
    stored.write_bytes(one_byte)
    for _ in range(2):
        kill(system, "router")
        poll("the newest release serves", lambda: version(system) == 2, within_s=RECOVERY_S)
    [told] = system.status()["quarantined_pipelines"]
    assert (told["pipeline"], told["serves_version"], told["serves_release"]) == (NAME, 2, number)
    kept.write_bytes(one_byte)
    kill(system, "router")
    poll("other pipelines serve", lambda: serves(system), within_s=RECOVERY_S)
    code, reason, _, _ = failure(system.predict, row_request({"level": 8.0}, pipeline=NAME))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PIPELINE_QUARANTINED")
    [told] = system.status()["quarantined_pipelines"]
    assert (told["serves_version"], f"releases/{NAME}/{number}" in told["problems"][0]) == (None, True)
    stored.write_bytes(good)
    poll("it is well by itself", lambda: version(system) == 2)
    assert not system.status()["quarantined_pipelines"]


@pytest.mark.usefixtures("_documents")
def test_a_fifo_among_releases_hangs_nobody(system: System) -> None:
    number = add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    fifo = RELEASES / NAME / f"{number + 1}.json"
    os.mkfifo(fifo)
    try:
        [told] = poll("status names it", lambda: system.status()["quarantined_pipelines"])
        assert (told["serves_version"], "it is no plain file" in told["problems"][0]) == (2, True)
        poll("router and door go on", lambda: all(map(partial(quarantines, system), ("router", "ingress"))))
        assert version(system) == 2
    finally:
        fifo.unlink()
    poll("it is well again", lambda: not system.status()["quarantined_pipelines"])
    add_document(NAME, document(3, at=9))
    poll("what comes next serves", lambda: version(system) == 3)


def quarantines(system: System, service: str) -> bool:
    """Whether its metrics say that something is in quarantine."""
    gauge = f"headrace_{service}_quarantined_documents"
    return any(value for _, value in samples(system, gauge, [service]))


def kill(system: System, service: str) -> None:
    """kill -9, until another process is there."""
    pid = system.pid(service)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll("a new process", lambda: system.pid(service) not in (pid, None), within_s=RECOVERY_S)


def version(system: System) -> int | None:
    """The version that answers; None: none does."""
    with suppress(grpc.RpcError):
        return int(system.predict(row_request({"level": 8.0}, pipeline=NAME)).version)
    return None
