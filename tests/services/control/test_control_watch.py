"""What processes of the data plane are told, through a real socket."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from headrace.api.control.v1 import resources_pb2 as pb
from headrace.api.control.v1.resources_pb2_grpc import ResourcesServiceStub
from headrace.catalog.access import Change, Position, Write
from headrace.catalog.errors import RecordsDivergedError
from headrace.catalog.remote import RemoteRecords
from headrace.resources.follower_state import Next
from services.control.records import kinds
from services.control.resources.followers import FIRST_S
from tests.children import ends_with_tests
from tests.control_service import Here
from tests.libs.releases.release_stores import REVISION
from tests.services.control import silent_client
from tests.services.control.following import ACKNOWLEDGED_S, LONG_S, Process, deploy, first_release
from tests.stopped import stop

MakeProcess = Callable[..., Process]


@pytest.fixture(autouse=True)
def any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "check_writes", lambda change, records: None)
    monkeypatch.setattr(kinds, "check_documents", lambda change: None)


def write(records: RemoteRecords, *writes: Write, action: str = "tenant.change") -> int:
    return records.change(Change("me", action, "t", writes)).position.number


def served(records: RemoteRecords, process: MakeProcess, *names: str) -> list[Process]:
    """Routers that have the first release."""
    first_release(records)
    found = [process(name) for name in names]
    for one in found:
        one.until(3)
    return found


def test_a_new_process_gets_its_whole_part(records: RemoteRecords, process: MakeProcess) -> None:
    first_release(records)
    newest = write(records, Write("tenant", "acme", b"1"), Write("key", "k", b"2"))
    router, door = process("r"), process("d", "ingress")
    router.until(newest)
    door.until(newest)
    assert sorted(router.state.part.snapshot.resources) == [
        ("document", f"flights/{REVISION}"),
        ("release", "flights"),
    ]
    assert door.state.part.snapshot.content("key", "k") == b"2"


def test_only_what_changed_travels(records: RemoteRecords, process: MakeProcess) -> None:
    tenants = [Write("tenant", f"t{number:04}", b"x" * 500) for number in range(1000)]
    write(records, *tenants)
    door = process("d", "ingress")
    door.until(2)
    write(records, Write("tenant", "t0007", b"new"), Write("tenant", "t0008", None))
    answer = door.ask(LONG_S)
    assert {(r.name, r.HasField("content")) for r in answer.resources} == {("t0007", True), ("t0008", False)}
    asked = door.state.request(LONG_S, (), ready=True)
    assert answer.ByteSize() + 2 * asked.ByteSize() < 64 << 10
    assert door.state.receive(answer).next is Next.APPLY
    assert len(door.state.part.snapshot.resources) == 999


def test_a_large_part_comes_in_pages(records: RemoteRecords, process: MakeProcess) -> None:
    contents = {f"t{number}": bytes([number]) * (300 << 10) for number in range(12)}
    for name, content in contents.items():
        write(records, Write("tenant", name, content))
    write(records, Write("tenant", "large", b"l" * (3 << 19)))
    newest = write(records, *(Write("tenant", f"small{i}", b"x" * 500) for i in range(2000)))
    process("other", "ingress").until(newest)
    door, sizes = process("d", "ingress"), []
    while door.number == 0:
        answer = door.ask()
        sizes.append(answer.ByteSize())
        assert door.state.receive(answer).next in (Next.CONTINUE, Next.APPLY)
    assert len(sizes) == 7  # the large one alone, twelve by three, the small ones in two
    assert sorted(sizes)[-2] < (1 << 20) + (32 << 10)
    found = {name: door.state.part.snapshot.content("tenant", name) for name in contents}
    assert found == contents


def test_pages_go_on_while_others_write(records: RemoteRecords, process: MakeProcess) -> None:
    for number in range(4):
        write(records, Write("tenant", f"t{number}", bytes([number]) * (900 << 10)))
    process("other", "ingress").until(5)
    door = process("d", "ingress")
    assert door.state.receive(door.ask()).next is Next.CONTINUE
    newest = write(records, Write("tenant", "t0", None))
    assert door.state.receive(door.ask()).next is Next.CONTINUE
    while door.number == 0:
        assert door.step().next is Next.APPLY
    assert door.number == 5
    door.until(newest)
    assert door.state.part.snapshot.names("tenant") == ["t1", "t2", "t3"]


def test_one_replica_applies_first(records: RemoteRecords, process: MakeProcess) -> None:
    a, b, c = served(records, process, *"abc")
    assert a.ask() == pb.WatchResponse(), "it has the newest"
    deploy(records, 2)
    held = b.ask() if (answer := a.ask(LONG_S)).may_apply else answer
    assert answer.resources
    assert (held.may_apply, list(held.resources), bool(held.manifest)) == (False, [], True)
    assert b.state.receive(held).next is Next.HOLD
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(one.step, LONG_S) for one in (b, c)]
        assert a.state.receive(answer).next is Next.APPLY
        assert not any(one.done() for one in waiting)
        a.ask(ACKNOWLEDGED_S, [pb.RejectedResource(kind="release", name="flights", pending=True)])
        assert not any(one.done() for one in waiting), "it may end by it yet"
        a.ask(ACKNOWLEDGED_S)
        assert [one.result().next for one in waiting] == [Next.APPLY] * 2


def test_a_rollback_and_a_removal_go_to_all_at_once(records: RemoteRecords, process: MakeProcess) -> None:
    a, b = served(records, process, "a", "b")
    deploy(records, 2)
    assert a.ask(LONG_S).may_apply
    assert not b.ask().may_apply
    deploy(records, 3, "release.rollback")
    a.until(5, acknowledge=False)
    assert b.ask().may_apply


def test_a_part_that_does_not_change(records: RemoteRecords, process: MakeProcess) -> None:
    a, b = process("a"), process("b")
    for one in (a, b):
        one.until(1)
    write(records, Write("tenant", "acme", b"1"))
    for one in (a, b):
        assert one.step(LONG_S).next is Next.APPLY
        assert one.number == 2


def test_thirty_follow_and_one_does_not_read(
    control: Here, records: RemoteRecords, process: MakeProcess
) -> None:
    [silent] = served(records, process, "silent")
    asked = silent.state.request(LONG_S, (), ready=True).SerializeToString().hex()
    command = ends_with_tests(sys.executable, silent_client.__file__, control.target, asked)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client, ExitStack() as stack:
        stack.callback(client.kill)
        assert client.stdout is not None
        assert client.stdout.readline() == b"asked\n"
        stop(client.pid)
        followers = [process(f"r{number}") for number in range(30)]
        with ThreadPoolExecutor(30) as threads:
            list(threads.map(lambda one: one.until(3), followers))
            # Answers of a mebibyte that it does not read, then changes that the others must get.
            newest = write(records, *(Write("document", f"flights/{n}", b"x" * (1 << 20)) for n in range(10)))
            began = time.monotonic()
            for number in range(2, 7):
                following = [threads.submit(one.until, newest + number - 1) for one in followers]
                deploy(records, number)
                for one in following:
                    one.result()
        assert len({one.state.part.snapshot.digest() for one in followers}) == 1
        # It may have been the one that should go first, once; no change waits for it until a time limit of its calls.
        assert time.monotonic() - began < 2 * FIRST_S


def test_one_has_more_than_the_database(control: Here, records: RemoteRecords, process: MakeProcess) -> None:
    router, other = served(records, process, "r", "other")
    deploy(records, 2)
    for one in (router, other):
        one.until(4)
    # Yesterday's database.
    control.execute("DELETE FROM audit WHERE number = 4")
    control.execute("DELETE FROM records WHERE number = 4")
    control.execute("UPDATE head SET number = 3, sha256 = (SELECT sha256 FROM audit WHERE number = 3)")
    while (outcome := router.step(LONG_S)).next is Next.NOTHING:
        pass
    assert outcome.next is Next.DIVERGED
    assert "1.4 is not in the history" in outcome.problem
    with pytest.raises(RecordsDivergedError, match=r"\(r\).*headrace recover"):
        deploy(records, 2)
    with pytest.raises(RecordsDivergedError):
        records.change(Change("me", "x", "y"))
    assert records.position().number == 3
    assert control.metric("headrace_control_refused_changes_total", reason="diverged") == 2
    # Nobody begins with what is older than what the others serve by.
    assert process("new").step().next is Next.DIVERGED
    assert router.number == 4


def test_processes_say_what_they_have(control: Here, records: RemoteRecords, process: MakeProcess) -> None:
    [router] = served(records, process, "r")
    rejected = pb.RejectedResource(
        kind="release", name="flights", sha256=hashlib.sha256(b"x").digest(), problem="no such model"
    )
    own = router.state.part.snapshot.resources["release", "flights"].sha256
    crashed = pb.RejectedResource(
        kind="release", name="flights", sha256=own, problem="it crashed", crashed=True
    )
    router.ask(rejected=[rejected, crashed])
    assert list(process("other").ask().rejected) == [crashed], "of what is live, the others hear"
    process("d", "ingress").ask()
    with grpc.insecure_channel(control.target) as channel:
        found = ResourcesServiceStub(channel).ListWatchers(pb.ListWatchersRequest(), timeout=LONG_S)  # type: ignore[no-untyped-call]  # generated
    assert [(w.service, w.watcher, w.ready, w.diverged) for w in found.watchers] == [
        ("ingress", "d", True, False),
        ("router", "other", True, False),
        ("router", "r", True, False),
    ]
    assert not found.watchers[0].HasField("have")
    assert list(found.watchers[2].rejected) == [rejected, crashed]
    newest = records.position()
    assert Position(found.position.epoch, found.position.number, found.position.head) == newest
    assert found.watchers[2].have == found.position
