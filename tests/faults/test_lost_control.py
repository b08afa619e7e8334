"""Whatever happens to control and its database costs no prediction, puts nothing older live, is said, and is over soon after.

`HEADRACE_FAULT_S`: how long each fault lasts, in seconds.
"""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords
from headrace.cli.installation import layout
from tests.faults.test_broken_documents import NAME, document, version
from tests.faults.traffic import Traffic, kinds
from tests.postgres_server import postgres
from tests.system import HOME, System, add_document, headrace, override, poll, remove_document

pytestmark = pytest.mark.slow

LASTS_S = float(os.environ.get("HEADRACE_FAULT_S", "15"))
# From when control has its database again; a start of its process is a second or two of this.
WELL_S = 5.0
PLACE = layout.of(HOME)
YESTERDAY = PLACE.records.with_suffix(".yesterday")
SUFFIXES = ("", "-wal", "-shm")
LATER = "later"


def put(source: Path) -> None:
    """Another file in the place of the database."""
    for suffix in SUFFIXES[1:]:
        PLACE.records.with_name(PLACE.records.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(source, PLACE.records.with_name("new"))
    PLACE.records.with_name("new").replace(PLACE.records)


@contextmanager
def killed(system: System) -> Iterator[None]:
    """Again and again: each time it is up."""
    os.kill(system.running("control"), signal.SIGKILL)
    yield


@contextmanager
def frozen(system: System) -> Iterator[None]:
    """The supervisor ends it after a while, and the next one is frozen as well."""
    os.kill(system.running("control"), signal.SIGSTOP)
    yield


@contextmanager
def gone(system: System) -> Iterator[None]:
    away = PLACE.records.parent.with_name("control.away")
    PLACE.records.parent.rename(away)
    yield
    shutil.rmtree(PLACE.records.parent, ignore_errors=True)
    away.rename(PLACE.records.parent)


@contextmanager
def full(system: System) -> Iterator[None]:
    """Files of it may not grow."""
    import resource

    pid = system.running("control")
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def emptied(system: System) -> Iterator[None]:
    """By an empty one, of which a process of control knows nothing else."""
    fresh = PLACE.records.with_name("fresh")
    CatalogRecords.open(str(fresh), initialise=True).close()
    with replaced(system, fresh):
        yield
    recovered(system, "--from-data-planes")


@contextmanager
def yesterdays(system: System) -> Iterator[None]:
    with replaced(system, YESTERDAY):
        yield
    recovered(system, "--from-data-planes")


@contextmanager
def further_than_before(system: System) -> Iterator[None]:
    """Yesterday's, which was changed until its number is higher than that of what serves."""
    other = YESTERDAY.with_name("further")
    shutil.copyfile(YESTERDAY, other)
    with closing(CatalogRecords.open(str(other), initialise=False)) as records:
        for number in range(40):
            records.change(
                Change("me", "tenant.set", "t", [Write("document", f"x/{number}", b"pipeline: x")])
            )
    with replaced(system, other):
        yield
    recovered(system, "--keep-database")
    # What the database has not is not there any more; a person sees that before, and puts it live again.
    poll("what was kept serves", lambda: version(system) == 1, WELL_S)


@contextmanager
def behind(system: System) -> Iterator[None]:
    """A standby takes over that has less than the server before it, which the data plane follows."""
    with postgres() as first, ExitStack() as stack:
        first.create("control")
        standby = stack.enter_context(postgres(standby_of=first))
        hosts = f"{standby.folder},{first.folder}&target_session_attrs=read-write"
        stack.enter_context(in_database(system, f"postgresql://control@/control?host={hosts}"))
        with standby.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        poll("nothing reaches the standby", lambda: not first.has_standbys())
        add_document(LATER, document(1, at=5).replace(NAME, LATER))
        poll("what the standby has not serves", lambda: version(system, LATER) == 1)
        first.stop(signal.SIGQUIT)
        standby.promote()
        yield
        assert version(system, LATER) == 1, "nothing older is live"
        recovered(system, "--from-data-planes")
        remove_document(LATER)


@contextmanager
def in_database(system: System, address: str) -> Iterator[None]:
    """Control has another database, which begins with what is live."""
    override("control", {"database": address, "initialise": True})
    try:
        headrace("restart", "control")
        recovered(system, "--from-data-planes")
        yield
    finally:
        override("control", {})
        headrace("restart", "control")
        recovered(system, "--from-data-planes")


@contextmanager
def replaced(system: System, by: Path) -> Iterator[None]:
    put(by)
    system.kill("control")
    poll("control is up", lambda: system.services()["control"]["state"] == "ready")
    yield


def recovered(system: System, side: str) -> None:
    poll("it is said who has more", lambda: "headrace recover" in str(system.status()["what_is_live"]))
    assert refused_by_control()
    headrace("recover", side, "--reason", "a test", "--yes")


def refused_by_control() -> str:
    """Why a change is refused now; "": it is not."""
    try:
        add_document("refused", document(9, at=1).replace(NAME, "refused"))
    except OSError as error:
        return str(error)
    return ""


FAULTS = (killed, frozen, gone, full, emptied, yesterdays, further_than_before, behind)


@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_notices_and_it_is_said(
    system: System, fault: Callable[[System], AbstractContextManager[None]]
) -> None:
    add_document(NAME, document(1, at=5))
    poll("the pipeline is served", lambda: version(system) == 1)
    YESTERDAY.unlink(missing_ok=True)
    with closing(sqlite3.connect(PLACE.records)) as database, closing(sqlite3.connect(YESTERDAY)) as copy:
        database.backup(copy)
    add_document(NAME, document(2, at=7))
    poll("the new version serves", lambda: version(system) == 2)
    log = PLACE.log("control")
    said_before = log.stat().st_size
    problems: set[str] = set()
    with Traffic(system, workers=3) as traffic:
        began = time.monotonic()
        with fault(system):
            until = time.monotonic() + LASTS_S
            while time.monotonic() < until:
                assert version(system) == 2, "nothing older is live"
                assert fault is not full or refused_by_control(), "a change is acknowledged"
                problems |= {*system.status()["what_is_live"]["problems"]}
                if fault in (killed, frozen) and (pid := system.pid("control")) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if fault is killed else signal.SIGSTOP)
                time.sleep(0.5)
        if fault in (killed, frozen):
            poll("control is up", lambda: system.services()["control"]["state"] == "ready")
        back = time.monotonic()
        add_document(NAME, document(3, at=9))
        poll("what comes next serves", lambda: version(system) == 3)
        well = time.monotonic() - back
        poll("nothing is said any more", lambda: not system.status()["what_is_live"]["problems"])
        asked = list(traffic.outcomes)
    assert kinds(o for o in asked if o.code is not grpc.StatusCode.OK) == {}
    assert problems, "status says nothing"
    if fault not in (killed, frozen):
        said = log.read_text()[said_before:]
        assert '"level": "error"' in said or "can be used again" in said
    rate = len(asked) / (time.monotonic() - began)
    print(f"{fault.__name__}: {rate:.0f}/s, well after {well:.1f} s; {min(problems, key=len)}")
    assert well < WELL_S
    remove_document(NAME)
