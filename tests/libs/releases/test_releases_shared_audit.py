"""The audit that several machines share in Redis: who wrote what, and what shows when it is altered; and its copy in a file
of this home: each line once, and what happens to it is told."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.releases import StaleError
from headrace.releases.records import (
    Audit,
    RecordedReleases,
    RecordSettings,
    SharedCopy,
    open_recorded,
    verify,
)
from headrace.releases.records.audit import UnrecordedError
from headrace.releases.records.shared import SharedChain
from headrace.releases.redis import RedisPlace, RedisReleases
from headrace.releases.store import Freeze
from headrace.state import chain
from tests.libs.releases.release_stores import REVISION, TEXT, Place, in_redis, release
from tests.redis_server import RedisServer

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Shared:
    """The audit of one place in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server, self._prefix = server, secrets.token_hex(4)
        self.place: Place = in_redis(server.port, self._prefix)

    def command(self, *words: str) -> str:
        audit = f"{self._prefix}:{{releases}}:audit"
        return self._server.command(*(word.replace("AUDIT", audit) for word in words))


class Machines(Shared):
    """Machines with a file each, and one Redis."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        super().__init__(server)
        self.folder = folder
        self._open: list[RecordedReleases] = []
        self.reader = self.place.open()
        self.reader.keep_document("flights", REVISION, TEXT)

    def path(self, name: str) -> Path:
        return self.folder / name / "releases.jsonl"

    def machine(self, name: str) -> RecordedReleases:
        settings = RecordSettings(audit=self.path(name), machine=name)
        self._open.append(open_recorded(self.place.setting, settings, print, "door"))
        return self._open[-1]

    def findings(self, store: RecordedReleases) -> list[tuple[int, bool, str]]:
        found = verify(audit(store), self.reader.history("flights"))
        return [(f.number, f.recorded, f.machine) for f in found]

    def close(self) -> None:
        for store in self._open:
            store.close()
        self.place.close()


def audit(store: RecordedReleases) -> Audit:
    assert store.audit is not None
    return store.audit


def shared(store: RecordedReleases) -> SharedChain:
    found = audit(store).shared
    assert found is not None
    return found


@pytest.fixture
def machines(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Machines]:
    made = Machines(tmp_path, shared_redis)
    yield made
    made.close()


def test_each_machine_knows_who_made_which_release(machines: Machines) -> None:
    north, south = machines.machine("north"), machines.machine("south")
    north.commit(release(1))
    south.commit(release(2))
    late = release(2, author="late")
    with pytest.raises(StaleError):
        north.commit(late)
    north.freeze(Freeze("ann", "holidays", datetime.now(UTC)))
    # Past the audit, with no machine at all.
    machines.reader.commit(release(3))
    for store in (north, south):
        assert machines.findings(store) == [(3, False, ""), (2, True, "south"), (1, True, "north")]
    lines = [line.entry for line in shared(south).lines()]
    assert [(e["event"], e["machine"], e["process"]) for e in lines] == [
        ("changed", "north", f"door:{os.getpid()}"),
        ("changed", "south", f"door:{os.getpid()}"),
        ("changed", "north", f"door:{os.getpid()}"),
        ("refused", "north", f"door:{os.getpid()}"),
        ("frozen", "north", f"door:{os.getpid()}"),
    ]
    # Its own file has what it wrote, and where that is in Redis.
    own = list(chain.entries(machines.path("north")))
    assert [(e["event"], e["shared_number"]) for e in own] == [
        ("changed", 1),
        ("changed", 3),
        ("refused", 4),
        ("frozen", 5),
    ]
    assert (own[1]["author"], "look and try again" in own[2]["problem"]) == ("late", True)


def test_what_was_recorded_before_the_chain_was_shared_still_counts(machines: Machines) -> None:
    old = RecordedReleases(machines.reader, Audit(machines.path("north")))
    old.commit(release(1))
    assert [r for _, r, _ in machines.findings(machines.machine("north"))] == [True]
    assert [r for _, r, _ in machines.findings(machines.machine("south"))] == [False]


def test_many_that_record_at_once_make_one_chain(machines: Machines) -> None:
    stores = [machines.machine(name) for name in ("north", "south", "west")]

    def write(number: int) -> None:
        audit(stores[number % 3]).record("changed", "flights", number=number)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(60)))
    lines = list(shared(stores[0]).lines())
    assert sorted(line.entry["number"] for line in lines) == list(range(60))
    assert [line.place.number for line in lines] == list(range(1, 61))
    for store in stores:
        assert verify(audit(store), []) == []


def rewritten(machines: Machines, store: RecordedReleases) -> None:
    """Whoever may write there makes a chain of their own, whole in itself."""
    entries = [line.entry for line in shared(store).lines()]
    machines.command("DEL", "AUDIT", "AUDIT:head")
    for entry in entries:
        shared(store).append({**entry, "author": "nobody"})


def replaced(machines: Machines, _: RecordedReleases) -> None:
    machines.command("LSET", "AUDIT", "1", json.dumps({"previous": "x"}).replace(" ", ""))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (rewritten, r"line 1: it is not what this machine wrote \(.*releases\.jsonl, line 1\)"),
        (replaced, "line 2: the chain is broken"),
        (lambda m, _: m.command("RPOP", "AUDIT"), "it has 2 lines, and 3 were written"),
        (
            lambda m, _: (m.command("RPOP", "AUDIT"), m.command("HSET", "AUDIT:head", "count", "2")),
            "its last line was",
        ),
        (lambda m, _: m.command("DEL", "AUDIT", "AUDIT:head"), "line 1: it is not what this machine wrote"),
        (lambda m, _: m.command("HSET", "AUDIT:head", "last", "x"), "its last line was"),
        (lambda m, _: m.command("HSET", "AUDIT:head", "count", "x"), "it has 3 lines, and x were written"),
    ],
)
def test_what_was_altered_in_redis_shows(
    machines: Machines, how: Callable[[Machines, RecordedReleases], object], told: str
) -> None:
    north = machines.machine("north")
    for number in (1, 2, 3):
        north.commit(release(number))
    how(machines, north)
    with pytest.raises(ValueError, match=told):
        machines.findings(north)


def test_older_lines_go_and_the_chain_is_still_checked(machines: Machines) -> None:
    north = machines.machine("north")
    audit(north).shared = SharedChain(machines.place.open(), kept=4)  # type: ignore[arg-type]  # it is in Redis
    for number in range(1, 8):
        north.commit(release(number))
    assert [line.place.number for line in shared(north).lines()] == [4, 5, 6, 7]
    assert all(r for _, r, _ in machines.findings(north))
    machines.command("LPOP", "AUDIT")
    with pytest.raises(ValueError, match="it has 3 lines, and 7 were written"):
        machines.findings(north)


def test_an_answer_that_was_lost_is_no_second_line(machines: Machines) -> None:
    chain_ = shared(machines.machine("north"))
    script = chain_._record

    def twice(**arguments: object) -> object:
        script(**arguments)
        return script(**arguments)

    chain_._record = twice
    assert chain_.append({"event": "changed"}).number == 1
    assert len(list(chain_.lines())) == 1


def test_what_the_machine_itself_cannot_record_is_not_done_and_the_others_know(machines: Machines) -> None:
    machines.path("north").mkdir(parents=True)
    north = machines.machine("north")
    with pytest.raises(UnrecordedError, match="what can't be recorded is not done"):
        north.commit(release(1))
    assert machines.reader.history("flights") == []
    lines = [line.entry for line in shared(north).lines()]
    assert [(e["event"], e.get("problem")) for e in lines] == [
        ("changed", None),
        ("refused", "its machine can't record it"),
    ]
    machines.reader.commit(release(1))
    assert machines.findings(machines.machine("south")) == [(1, False, "")]


def test_something_else_in_place_of_the_audit_stops_changes_and_stays(machines: Machines) -> None:
    north = machines.machine("north")
    machines.command("SET", "AUDIT:head", "else")
    with pytest.raises(
        UnrecordedError, match=r"\(audit\): can't be written \(the releases can't be reached \(WRONGTYPE"
    ):
        north.commit(release(1))
    with pytest.raises(OSError, match="WRONGTYPE"):
        machines.findings(north)
    assert machines.reader.history("flights") == []
    assert "else" in machines.command("GET", "AUDIT:head")


def test_redis_is_enough_to_record(machines: Machines) -> None:
    """A door in a container may have no folder that lasts."""
    store = open_recorded(machines.place.setting, RecordSettings(machine="pod"), print)
    assert isinstance(store.store, RedisReleases)
    store.commit(release(1))
    assert machines.findings(store) == [(1, True, "pod")]
    store.close()


class Scene(Shared):
    """A chain in Redis, and a home that copies it."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        super().__init__(server)
        store = self.place.open()
        assert isinstance(store, RedisReleases)
        self.shared = SharedChain(store)
        self.path = folder / "audit" / "shared.jsonl"
        self.copy = self.copying()

    def copying(self) -> SharedCopy:
        return SharedCopy(self.shared, self.path, lambda: NOON)

    def write(self, *numbers: int) -> None:
        for number in numbers:
            self.shared.append({"at": "now", "event": "changed", "number": number})

    def said(self) -> list[object]:
        """Of each line of the file what it copies, or what it tells."""
        return [
            json.loads(e["line"]).get("number", "?") if "line" in e else e.get("why", "hash alone")
            for e in chain.entries(self.path)
        ]


@pytest.fixture
def scene(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Scene]:
    made = Scene(tmp_path, shared_redis)
    yield made
    made.place.close()


def test_each_line_is_copied_once_as_it_is(scene: Scene) -> None:
    assert scene.copy.follow() == 0
    scene.write(1, 2, 3)
    assert [scene.copy.follow() for _ in range(3)] == [3, 0, 0]
    scene.write(4)
    assert scene.copying().follow() == 1  # after a restart
    assert scene.copy.follow(whole=True) == 0  # another process was first
    assert scene.said() == [1, 2, 3, 4]
    for line, entry in zip(scene.shared.lines(), chain.entries(scene.path), strict=True):
        assert (entry["shared_number"], entry["shared_sha256"]) == line.place
        assert chain.hash_of(entry["line"].encode()) == entry["shared_sha256"]
        assert (entry["at"], entry["event"]) == ("now", "changed")
    assert scene.copy.gaps == 0


def test_another_process_that_copies_is_not_disturbed(scene: Scene) -> None:
    scene.write(1)
    scene.path.parent.mkdir()
    with (scene.path.parent / ".shared.jsonl.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert scene.copy.follow() == 0
    assert scene.copy.follow() == 1


def written_anew(scene: Scene) -> None:
    """A chain that is whole in itself, with another line 2."""
    scene.command("DEL", "AUDIT", "AUDIT:head")
    scene.write(1, 99, 3)


HARMS: dict[str, tuple[Callable[[Scene], object], list[object]]] = {
    "lost": (
        lambda s: s.command("DEL", "AUDIT", "AUDIT:head"),
        ["Redis says 0 lines, and 3 were copied: it lost some, or an older state was put back"],
    ),
    "cut off": (
        lambda s: (s.command("RPOP", "AUDIT"), s.command("HSET", "AUDIT:head", "count", "2")),
        [
            "Redis says 2 lines, and 3 were copied: it lost some, or an older state was put back",
            "line 2 is not the last that was written: altered or removed",
        ],
    ),
    "altered": (
        lambda s: s.command("LSET", "AUDIT", "1", "'{\"number\":98}'"),
        [
            "line 2 is not the one that was copied: altered, or the chain was written anew",
            "line 2 does not follow on the one before: altered, removed or added",
            "line 3 does not follow on the one before: altered, removed or added",
            98,
        ],
    ),
    "written anew": (
        written_anew,
        [
            "line 2 is not the one that was copied: altered, or the chain was written anew",
            "line 3 is not the one that was copied: altered, or the chain was written anew",
            99,
            3,
        ],
    ),
}


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_what_happens_to_the_chain_in_redis_is_told_once(scene: Scene, harm: str) -> None:
    scene.write(1, 2, 3)
    scene.copy.follow()
    do, says = HARMS[harm]
    do(scene)
    scene.copy.follow(whole=True)
    told = scene.copy.gaps
    assert told == sum(isinstance(s, str) for s in says)
    for copy in (scene.copy, scene.copying(), scene.copying()):
        copy.follow(whole=True)
    assert scene.copy.gaps == told
    found = scene.said()[3:]
    assert found[: len(says)] == says
    # What is still so is told again after a restart, and nothing is copied twice.
    assert set(map(str, found[len(says) :])) <= {str(s) for s in says if isinstance(s, str)}
    scene.write(4)
    scene.copy.follow(whole=True)
    assert scene.said()[-1] == 4
    assert scene.copy.gaps


def test_lines_that_redis_dropped_before_they_were_copied_are_a_gap(scene: Scene) -> None:
    scene.shared._kept = 2
    scene.write(1)
    scene.copy.follow()
    scene.write(2, 3, 4, 5)
    assert scene.copy.follow() == 2
    assert scene.said() == [1, "lines 2 to 3 were gone before they were copied", 4, 5]
    assert scene.copy.follow() == 0


def test_what_is_no_line_of_ours_is_copied_too(scene: Scene) -> None:
    scene.write(1)
    scene.copy.follow()
    for line in ("[1]", "x" * 20_000):
        scene.command("RPUSH", "AUDIT", line)
        scene.command("HINCRBY", "AUDIT:head", "count", "1")
        scene.copy.follow()
    entries = list(chain.entries(scene.path))
    assert [e.get("line") for e in entries if e.get("shared_number") in (2, 3)] == ["[1]", None]


def test_redis_that_is_away_is_an_error_and_goes_on_later(tmp_path: Path) -> None:
    store = RedisReleases(RedisPlace("127.0.0.1", 9))
    with pytest.raises(OSError, match="can't be reached"):
        SharedCopy(SharedChain(store), tmp_path / "shared.jsonl", lambda: NOON).follow()
    store.close()
    assert not (tmp_path / "shared.jsonl").exists()


def test_a_file_that_can_not_be_written_loses_nothing(scene: Scene) -> None:
    scene.write(1, 2)
    scene.path.mkdir(parents=True)
    with pytest.raises(OSError):
        scene.copy.follow()
    scene.path.rmdir()
    assert scene.copy.follow() == 2
    assert scene.said() == [1, 2]
