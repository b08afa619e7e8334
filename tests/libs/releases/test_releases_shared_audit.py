"""The audit that several machines share in Redis: who wrote what, and what shows when it is altered."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.releases import StaleError
from headrace.releases.records import Audit, RecordedReleases, RecordSettings, open_recorded, verify
from headrace.releases.records.audit import UnrecordedError
from headrace.releases.records.shared import SharedChain
from headrace.releases.redis import RedisReleases
from headrace.releases.store import Freeze
from headrace.state import chain
from tests.libs.releases.release_stores import REVISION, TEXT, Place, in_redis, release
from tests.redis_server import RedisServer


class Machines:
    """Machines with a file each, and one Redis."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        self.prefix = secrets.token_hex(4)
        self.place: Place = in_redis(server.port, self.prefix)
        self.server = server
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

    def command(self, *words: str) -> str:
        return self.server.command(
            *(word.replace("AUDIT", f"{self.prefix}:{{releases}}:audit") for word in words)
        )

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
        (lambda m, _: m.command("LPOP", "AUDIT"), "it has 2 lines, and 3 were written"),
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
