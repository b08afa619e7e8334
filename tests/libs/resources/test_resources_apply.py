"""Taking over: aside, per pipeline, with what crashes, hangs or is refused kept away from everything else."""

import threading
from collections.abc import Iterator

import pytest

from headrace.api.control.v1.resources_pb2 import RejectedResource
from headrace.resources.apply import AVOIDED, Compile, Unit, units_of
from headrace.resources.snapshot import Resource, Snapshot
from headrace.resources.trials import Trials
from tests.libs.resources.control_history import History, key
from tests.libs.resources.one_process import Memory, Process, began


def refuse(*texts: str, gate: threading.Event | None = None) -> Compile:
    """Refuses these, or hangs by them until the gate is open."""

    def compile_key(unit: Unit) -> object:
        if unit.resources[0].content.decode() not in texts:
            return None
        if gate is None:
            raise ValueError("it is bad")
        return gate.wait(60)

    return compile_key


def test_what_is_refused_stops_only_itself() -> None:
    process, history = began(key("a", "1"), key("b", "1"), key=refuse("bad"))
    history.change(key("a", "bad"), key("b", "2"), key("never good", "bad"))
    view = process.apply(history)
    assert process.keys() == {"a": "1", "b": "2"}
    assert process.problems() == {"a": "it is bad", "never good": "it is bad"}
    assert view.rejected["key", "a"].sha256 == key("a", "bad").sha256
    assert view.position == history.position
    process.take(history, key("a", "3"), deleted=(("key", "b"), ("key", "never good")))
    assert (process.keys(), process.problems()) == ({"a": "3"}, {})


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    yield (event := threading.Event())
    event.set()


def test_what_hangs_is_rejected_and_stops_nothing(gate: threading.Event) -> None:
    process, history = began(*(key(f"k{i:02}", "1") for i in range(30)), key=refuse("hang", gate=gate))
    process.take(history, *(key(f"k{i:02}", "hang" if i < 3 else "2") for i in range(30)))
    done = [name for name, text in process.keys().items() if text == "2"]
    while len(done) < 27:  # the machine may be slow: what takes longer is taken over when it is done
        process.after(0)
        done = [name for name, text in process.keys().items() if text == "2"]
    assert process.problems() == dict.fromkeys(["k00", "k01", "k02"], "it is being compiled")
    process.after(10)
    assert process.problems()["k00"] == "it was not compiled within 10 s"
    assert process.keys()["k00"] == "1"
    process.take(history, key("k01", "3"))
    while process.keys()["k01"] != "3":
        process.after(0)
    assert process.applier.due_s() == pytest.approx(5.0, abs=5)


def test_a_late_compile_does_not_bring_the_older_one_back(gate: threading.Event) -> None:
    process, history = began(key("a", "1"), key=refuse("slow", gate=gate))
    process.take(history, key("a", "slow"))
    process.take(history, key("a", "2"))
    while process.keys() != {"a": "2"}:
        process.after(0)
    gate.set()
    jobs = process.applier._jobs
    while jobs:
        process.after(0)
    assert process.keys() == {"a": "2"}


def test_the_first_view_has_all_that_compiles(gate: threading.Event) -> None:
    slow = [key(f"k{i}", "slow") for i in range(20)]
    process, history = Process(None, key=refuse("slow", gate=gate)), History()
    history.change(key("a", "1"), *slow)
    process.applier.apply(history.part())
    process.applier.tick()
    assert (process.views, process.applier.due_s()) == ([], 0.1)
    gate.set()
    while not process.views:
        process.applier.tick()
    assert process.keys() == {"a": "1"} | {f"k{i}": "slow" for i in range(20)}


def test_what_hangs_delays_the_first_view_until_it_is_refused(gate: threading.Event) -> None:
    process, history = Process(None, key=refuse("hang", gate=gate)), History()
    history.change(key("a", "1"), key("b", "hang"))
    process.applier.apply(history.part())
    process.now += 9
    process.applier.tick()
    assert not process.views
    assert process.after(2).rejected["key", "b"].problem == "it was not compiled within 10 s"
    assert process.keys() == {"a": "1"}
    # What has not served has not proven itself.
    assert ("key", "a") not in process.applier.trials.proven
    process.after(5)
    assert ("key", "a") in process.applier.trials.proven


def test_many_hanging_compiles_hold_a_bounded_number_of_threads(gate: threading.Event) -> None:
    process, history = began(*(key(f"k{i}", "1") for i in range(100)), key=refuse("hang", gate=gate))
    history.change(*(key(f"k{i}", "hang") for i in range(100)))
    before = threading.active_count()
    process.apply(history)
    for _ in range(20):
        process.after(11)
    assert threading.active_count() - before <= 32
    assert set(process.keys().values()) == {"1"}
    # What needs no compile is taken over all the same.
    history.change(Resource.of("tenant", "t", b"new"))
    assert process.apply(history).snapshot.content("tenant", "t") == b"new"


def release(pipeline: str, text: str, *revisions: str) -> Resource:
    return Resource.of("release", pipeline, " ".join([text, *revisions]).encode())


def document(pipeline: str, revision: str) -> Resource:
    return Resource.of("document", f"{pipeline}/{revision}", f"document {revision}".encode())


def test_a_release_is_one_unit_with_the_documents_that_it_names() -> None:
    one, two = "1" * 64, "2" * 64
    parts = [release("p", "r", one), document("p", one), document("p", two), document("q", one), key("k")]
    units = units_of(Snapshot.of(parts))
    assert units.keys() == {("release", "p"), ("key", "k")}
    assert [r.name for r in units["release", "p"].resources] == ["p", f"p/{one}"]
    assert units["release", "p"].content("document", f"p/{one}") == f"document {one}".encode()
    # A document that it does not name changes nothing of it; one that it names does.
    assert units_of(Snapshot.of([*parts[:2]]))["release", "p"].sha256 == units["release", "p"].sha256
    assert units_of(Snapshot.of([parts[0]]))["release", "p"].sha256 != units["release", "p"].sha256


def test_a_mark_is_on_the_disk_before_anything_new_is_compiled() -> None:
    memory, marks = Memory(), []

    def compile_key(unit: Unit) -> object:
        marks.append(
            unit.sha256 in Trials.from_bytes(memory.trials).marked and memory.compiled == [unit.sha256]
        )
        return None

    process, history = Process(memory, key=compile_key), History()
    process.take(history, key("a"), key("b"))
    assert marks == [True, True]
    process.after(4.9)
    assert not process.applier.trials.proven
    process.after(0.1)
    assert Trials.from_bytes(memory.trials).marked == set()
    assert Trials.from_bytes(memory.trials).proven.keys() == {("key", "a"), ("key", "b")}


def test_a_full_disk_does_not_hold_up_a_revocation() -> None:
    process, history = began(key("a"), key("b"))
    process.memory.full = True
    process.take(history, key("b", "2"), deleted=(("key", "a"),))
    assert process.keys() == {"b": "2"}
    assert "No space" in process.applier.problem
    process.memory.full = False
    process.after(5)
    assert process.applier.problem == ""


def test_what_served_last_stands_in_also_before_it_has_proven_itself() -> None:
    process, history = began(key("a", "proven"), key=refuse("bad"))
    process.after(6)
    process.take(history, key("a", "newer"))
    process.after(1)
    history.change(key("a", "bad"))
    assert process.apply(history).snapshot.content("key", "a") == b"newer"
    again = Process(process.memory.crashed(), key=refuse("bad"))
    again.apply(history)
    again.after(0.1)
    assert again.keys() == {"a": "newer"}


def test_what_ended_another_process_is_not_tried_unless_it_is_proven() -> None:
    tried: list[bytes | None] = []
    process, history = began(key("a", "good"), key=lambda unit: tried.append(unit.content("key", "a")))
    process.after(10)
    bad, good = key("a", "bad"), key("a", "good")
    process.applier.avoid([rejected(bad), rejected(good)])
    process.take(history, bad)
    assert (process.keys(), process.problems()) == ({"a": "good"}, {"a": AVOIDED})
    assert not process.view.rejected["key", "a"].crashed, (
        "it did not end this one, so nobody else hears of it"
    )
    after = process.crashed(history)
    assert (after.keys(), after.problems()) == ({"a": "good"}, {"a": AVOIDED}), "nor after a restart"
    process.take(history, key("a", "mended"))
    assert (process.keys(), tried) == ({"a": "mended"}, [b"good", b"mended"])


def rejected(resource: Resource) -> RejectedResource:
    return RejectedResource(kind="key", name=resource.name, sha256=resource.sha256, crashed=True)
