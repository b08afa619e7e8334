"""The audit that machines share in Redis, copied into a file of this home: each line once, and what happens to it is told."""

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.releases.records import SharedCopy
from headrace.releases.records.shared import SharedChain
from headrace.releases.redis import RedisPlace, RedisReleases
from headrace.state import chain
from tests.libs.releases.release_stores import Place, in_redis
from tests.redis_server import RedisServer

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Scene:
    """A chain in Redis, and a home that copies it."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.prefix = secrets.token_hex(4)
        self.server = server
        self.place: Place = in_redis(server.port, self.prefix)
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

    def command(self, *words: str) -> str:
        return self.server.command(
            *(word.replace("AUDIT", f"{self.prefix}:{{releases}}:audit") for word in words)
        )

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


def rewritten(scene: Scene) -> None:
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
        rewritten,
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
