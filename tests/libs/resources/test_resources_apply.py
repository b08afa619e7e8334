"""Taking over: aside, per pipeline, with what crashes, hangs or is refused kept away from everything else."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.apply import Applier, Compile, Limits, Unit, View, units_of
from headrace.resources.snapshot import Resource, Snapshot
from headrace.resources.trials import CRASHED, Trials
from tests.libs.resources.control_history import History, key

LIMITS = Limits(proof_s=5, patience_s=0.05, compile_s=10)


@dataclass
class Memory:
    """What survives a crash of the process: as `Disk`."""

    trials: bytes = Trials().to_bytes()
    compiled: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    full: bool = False

    def write_trials(self, trials: Trials) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.trials = trials.to_bytes()

    def write_compiled(self, hashes: list[str]) -> None:
        self.compiled = list(hashes)

    def resource(self, kind: str, name: str, sha256: str, version: int) -> Resource | None:
        content = self.contents.get(sha256)
        return None if content is None else Resource.of(kind, name, content, version)

    def crashed(self) -> "Memory":
        return Memory(self.trials, list(self.compiled), self.contents)

    def recovered(self) -> Trials:
        trials = Trials.recovered(Trials.from_bytes(self.trials), self.compiled)
        self.trials, self.compiled = trials.to_bytes(), []
        return trials


class Process:
    """One process. `now`: its clock."""

    def __init__(self, memory: Memory | None = None, **compilers: Compile) -> None:
        self.now = 0.0
        self.memory = memory or Memory()
        self.views: list[View] = []
        self.applier = Applier(
            compilers, self.views.append, self.memory, self.memory.recovered(), lambda: self.now, LIMITS
        )

    def apply(self, history: History) -> View:
        self.applier.apply(history.part())
        self.memory.contents |= {r.sha256.hex(): r.content for r in history.snapshot.resources.values()}
        return self.view

    @property
    def view(self) -> View:
        return self.views[-1]

    def after(self, seconds: float) -> View:
        self.now += seconds
        self.applier.tick()
        return self.view

    def keys(self) -> dict[str, str]:
        resources = self.view.snapshot.resources
        return {name: resources["key", name].content.decode() for name in self.view.snapshot.names("key")}

    def problems(self) -> dict[str, str]:
        return {name: r.problem for (_, name), r in self.view.rejected.items()}


def refuse(*texts: str) -> Compile:
    def compile_key(unit: Unit) -> object:
        if unit.resources[0].content.decode() in texts:
            raise ValueError("it is bad")
        return None

    return compile_key


def test_what_is_refused_stops_only_itself() -> None:
    process, history = Process(key=refuse("bad")), History()
    history.change(key("a", "1"), key("b", "1"))
    process.apply(history)
    history.change(key("a", "bad"), key("b", "2"))
    view = process.apply(history)
    assert process.keys() == {"a": "1", "b": "2"}
    assert process.problems() == {"a": "it is bad"}
    assert view.rejected["key", "a"].sha256 == key("a", "bad").sha256
    assert view.position == history.position
    history.change(key("a", "3"))
    process.apply(history)
    assert (process.keys(), process.problems()) == ({"a": "3", "b": "2"}, {})


def test_what_is_deleted_goes_at_once() -> None:
    process, history = Process(), History()
    history.change(key("a"), key("b"))
    process.apply(history)
    history.change(deleted=(("key", "a"),))
    process.apply(history)
    assert process.keys() == {"b": "x"}


def test_what_never_was_good_does_not_serve() -> None:
    process, history = Process(key=refuse("bad")), History()
    history.change(key("a", "bad"))
    process.apply(history)
    assert process.keys() == {}
    assert process.problems() == {"a": "it is bad"}


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hang(gate: threading.Event, *texts: str) -> Compile:
    def compile_key(unit: Unit) -> object:
        if unit.resources[0].content.decode() in texts:
            gate.wait(60)
        return None

    return compile_key


def test_what_hangs_is_rejected_and_stops_nothing(gate: threading.Event) -> None:
    process, history = Process(key=hang(gate, "hang")), History()
    history.change(*(key(f"k{i:02}", "1") for i in range(30)))
    process.apply(history)
    history.change(*(key(f"k{i:02}", "hang" if i < 3 else "2") for i in range(30)))
    process.apply(history)
    done = [name for name, text in process.keys().items() if text == "2"]
    while len(done) < 27:  # the machine may be slow: what takes longer is taken over when it is done
        process.after(0)
        done = [name for name, text in process.keys().items() if text == "2"]
    assert process.problems() == dict.fromkeys(["k00", "k01", "k02"], "it is being compiled")
    process.after(10)
    assert process.problems()["k00"] == "it was not compiled within 10 s"
    assert process.keys()["k00"] == "1"
    history.change(key("k01", "3"))
    process.apply(history)
    while process.keys()["k01"] != "3":
        process.after(0)
    assert process.applier.due_s() == pytest.approx(5.0, abs=5)


def test_what_takes_its_time_is_taken_over_when_it_is_done(gate: threading.Event) -> None:
    process, history = Process(key=hang(gate, "slow")), History()
    history.change(key("a", "1"))
    process.apply(history)
    history.change(key("a", "slow"))
    process.apply(history)
    assert process.keys() == {"a": "1"}
    assert process.applier.due_s() == 0.1
    gate.set()
    while process.keys() != {"a": "slow"}:
        process.after(0)
    assert process.problems() == {}


def test_a_late_compile_does_not_bring_the_older_one_back(gate: threading.Event) -> None:
    process, history = Process(key=hang(gate, "slow")), History()
    history.change(key("a", "slow"))
    process.apply(history)
    history.change(key("a", "2"))
    process.apply(history)
    while process.keys() != {"a": "2"}:
        process.after(0)
    gate.set()
    jobs = process.applier._jobs
    while jobs:
        process.after(0)
    assert process.keys() == {"a": "2"}


def test_many_hanging_compiles_hold_a_bounded_number_of_threads(gate: threading.Event) -> None:
    process, history = Process(key=hang(gate, "hang")), History()
    history.change(*(key(f"k{i}", "1") for i in range(100)))
    process.apply(history)
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
    history.change(key("a"), key("b"))
    process.apply(history)
    assert marks == [True, True]
    process.after(5)
    assert Trials.from_bytes(memory.trials).marked == set()
    assert Trials.from_bytes(memory.trials).proven.keys() == {("key", "a"), ("key", "b")}


def test_an_answer_proves_before_the_time() -> None:
    process, history = Process(), History()
    history.change(key("a"), key("b"))
    process.apply(history)
    process.applier.answered("key", "a")
    process.after(0.1)
    assert process.applier.trials.proven.keys() == {("key", "a")}


def test_a_process_that_ends_as_it_should_suspects_nothing() -> None:
    process, history = Process(), History()
    history.change(key("a"))
    process.apply(history)
    process.applier.close()
    after = Process(process.memory.crashed())
    after.apply(history)
    assert (after.keys(), after.problems()) == ({"a": "x"}, {})


def test_after_a_crash_the_proven_one_serves_and_other_content_is_tried() -> None:
    process, history = Process(), History()
    history.change(key("a", "good"), key("b", "good"))
    process.apply(history)
    process.after(5)
    history.change(key("a", "poison"))
    process.apply(history)
    again = Process(process.memory.crashed())
    again.apply(history)
    assert (again.keys(), again.problems()) == ({"a": "good", "b": "good"}, {"a": CRASHED})
    # The process after it knows it still.
    again.applier.close()
    third = Process(again.memory.crashed())
    third.apply(history)
    assert third.keys()["a"] == "good"
    history.change(key("a", "mended"))
    third.apply(history)
    assert (third.keys()["a"], third.problems()) == ("mended", {})


def test_a_full_disk_does_not_hold_up_a_revocation() -> None:
    process, history = Process(), History()
    history.change(key("a"), key("b"))
    process.apply(history)
    process.memory.full = True
    history.change(key("b", "2"), deleted=(("key", "a"),))
    process.apply(history)
    assert process.keys() == {"b": "2"}
    assert "No space" in process.applier.problem
    process.memory.full = False
    process.after(5)
    assert process.applier.problem == ""


def crash_loop(
    memory: Memory, history: History, in_compile: set[str], in_service: set[str], limit: int
) -> tuple[Process, int]:
    """Starts processes until one lives on; returns it and the number of those that ended. Poisons are named by their text."""
    crashes = 0
    while True:
        left: list[Memory] = []

        def compile_key(unit: Unit, left: list[Memory] = left, memory: Memory = memory) -> object:
            if unit.resources[0].content.decode() in in_compile:
                left.append(memory.crashed())
            return None

        process = Process(memory, key=compile_key)
        process.apply(history)
        for _ in range(200):
            if left or in_service & set(process.keys().values()):
                break
            if not process.problems() or all(p == CRASHED for p in process.problems().values()):
                process.after(6)
                return process, crashes
            process.after(6)
        else:
            raise AssertionError(f"it never settles: {process.problems()}")
        memory = left[0] if left else process.memory.crashed()
        crashes += 1
        assert crashes <= limit, "too many crashes"


def poisoned(count: int, names: list[str]) -> tuple[Memory, History]:
    """A memory in which everything has proven itself, and a history that changes all and poisons some."""
    history = History()
    history.change(*(key(f"k{i:03}", "good") for i in range(count)))
    process = Process()
    process.apply(history)
    process.after(6)
    history.change(*(key(f"k{i:03}", f"poison {i}" if f"k{i:03}" in names else "new") for i in range(count)))
    return process.memory.crashed(), history


@pytest.mark.parametrize("where", ["compile", "service"])
def test_thirty_poisons_at_once_end_a_process_once_each(where: str) -> None:
    names = [f"k{i:03}" for i in range(30)]
    memory, history = poisoned(30, names)
    texts = {f"poison {i}" for i in range(30)}
    in_compile, in_service = (texts, set[str]()) if where == "compile" else (set[str](), texts)
    process, crashes = crash_loop(memory, history, in_compile, in_service, 31)
    assert process.keys() == dict.fromkeys(names, "good")
    assert set(process.problems().values()) == {CRASHED}
    assert crashes == (30 if where == "compile" else 31)


def test_one_poison_among_a_thousand_is_found_in_few_crashes() -> None:
    memory, history = poisoned(1000, ["k500"])
    process, _ = crash_loop(memory, history, set(), {"poison 500"}, 4)
    assert process.problems() == {"k500": CRASHED}
    assert process.keys()["k499"] == "new"
    memory, history = poisoned(1000, ["k500"])
    assert crash_loop(memory, history, {"poison 500"}, set(), 1)[1] == 1


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=6), st.sets(st.integers(0, 39), max_size=6))
def test_poisons_are_found_and_everything_else_serves(
    count: int, compiled: set[int], served: set[int]
) -> None:
    names = {i for i in compiled | served if i < count}
    memory, history = poisoned(count, [f"k{i:03}" for i in names])
    process, crashes = crash_loop(
        memory,
        history,
        {f"poison {i}" for i in compiled},
        {f"poison {i}" for i in served - compiled},
        4 * len(names) + 1,
    )
    wanted = {f"k{i:03}": "good" if i in names else "new" for i in range(count)}
    assert process.keys() == wanted
    assert crashes >= len(names)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"marked":[],"groups":3,"quarantined":{},"proven":[]}']
)
def test_damaged_trials_are_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        Trials.from_bytes(content)


def test_trials_are_read_as_they_were_written() -> None:
    trials = Trials({"a"}, [["a", "b"], ["c"]], {"d": "why"}, {("key", "k"): ("e", (("key", "k", "f", 3),))})
    assert Trials.from_bytes(trials.to_bytes()) == trials
    assert trials.used() == {"f"}
