"""A Redis that holds something else, or what another version wrote: each pipeline fails alone, and what served last goes on."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.releases import FileReleases, ReleaseCatalog
from headrace.releases.document import digest, to_bytes
from headrace.releases.place import PlaceError, open_store
from tests.libs.releases.release_stores import REVISION, TEXT, Place, in_redis, release
from tests.libs.releases.small_pipeline import Home
from tests.redis_server import RedisServer


class Shared:
    """A store with release 1 and 2 of `flights`, and 1 of `other`."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = secrets.token_hex(4)
        self.place: Place = in_redis(server.port, self.prefix)
        self.store = self.place.open()
        for pipeline in ("flights", "other"):
            self.store.keep_document(pipeline, REVISION, TEXT)
        for number in (1, 2):
            self.store.commit(release(number))
        self.store.commit(release(1, "other"))

    def command(self, *words: str) -> str:
        return self.server.command(*(w.replace("AT", f"{self.prefix}:{{releases}}") for w in words))


@pytest.fixture
def shared(shared_redis: RedisServer) -> Iterator[Shared]:
    made = Shared(shared_redis)
    yield made
    made.place.close()


@pytest.mark.parametrize(
    ("commands", "serves", "told"),
    [
        (["DEL AT:releases:flights", "SET AT:releases:flights x"], 0, "WRONGTYPE"),
        (["HSET AT:releases:flights v3 x"], 0, "is not what this version writes"),
        (["HSET AT:newest flights x"], 0, "is not what this version writes"),
        (["HSET AT:releases:flights 3 x"], 2, "it is no release document"),
        (["HDEL AT:releases:flights 2"], 1, "Redis has lost it; it has [1]"),
        (["DEL AT:releases:flights"], 0, "Redis has lost it; it has none"),
    ],
)
def test_what_is_no_release_is_said_and_stops_no_other_pipeline(
    shared: Shared, commands: list[str], serves: int, told: str
) -> None:
    for command in commands:
        shared.command(*command.split())
    found, broken = shared.store.current("flights")
    assert (found.number if found else 0) == serves
    assert told in broken.problem
    assert shared.store.pipelines() == ["flights", "other"]
    assert shared.store.current("other")[0].number == 1
    assert [r.number for r in shared.store.history("flights")] == (
        [serves] if serves == 1 else [2, 1][: serves and 2]
    )


def test_a_release_of_a_later_version_is_told_and_the_last_good_one_serves(shared: Shared) -> None:
    values = json.loads(to_bytes(release(3)))
    del values["sha256"]
    values["quantum"] = {"arms": 2}
    shared.place.spoil("flights", 3, json.dumps({**values, "sha256": digest(values)}).encode())
    found, broken = shared.store.current("flights")
    assert (found.number, broken.number) == (2, 3)
    assert "quantum" in broken.problem


def test_a_freeze_that_is_something_else_is_an_error_and_no_leave(shared: Shared) -> None:
    shared.command("RPUSH", "AT:frozen", "x")
    with pytest.raises(OSError, match="WRONGTYPE"):
        shared.store.frozen()
    shared.command("DEL", "AT:frozen")
    shared.command("SET", "AT:frozen", "v2")
    assert shared.store.frozen().reason == "the freeze can't be read"


def test_a_commit_among_something_else_changes_nothing(shared: Shared) -> None:
    shared.command("HSET", "AT:newest", "flights", "x")
    with pytest.raises(OSError, match="can't be reached"):
        shared.store.commit(release(3))
    assert shared.command("HLEN", "AT:releases:flights") == ":2\r\n"


def test_while_redis_hangs_or_holds_something_else_what_served_goes_on_also_over_a_restart(
    tmp_path: Path, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.releases.redis._TIMEOUT_S", 2.0)
    prefix = secrets.token_hex(4)
    place = in_redis(shared_redis.port, prefix)
    home = Home(tmp_path / "releases")
    home.deploy(models={"light": "1"})
    store = place.open()
    for made in home.store.history("small"):
        for revision in made.revisions():
            store.keep_document("small", revision, str(home.store.document("small", revision)))
        store.commit(made)
    mirror = FileReleases(tmp_path / "kept")
    catalog = ReleaseCatalog(place.open(), mirror=mirror)
    assert catalog.released["small"].number == 1
    shared_redis.signal(signal.SIGSTOP)
    try:
        assert "can't be reached" in catalog.reload().problems[0].message
        assert catalog.released["small"].number == 1
        again = ReleaseCatalog(place.open(), mirror=mirror)
        assert (again.released["small"].number, len(again.troubles)) == (1, 1)
    finally:
        shared_redis.signal(signal.SIGCONT)
    shared_redis.command("DEL", f"{prefix}:{{releases}}:releases:small")
    shared_redis.command("SET", f"{prefix}:{{releases}}:releases:small", "x")
    shared_redis.command("HINCRBY", f"{prefix}:{{releases}}:state", "count", "1")
    for found in (catalog, ReleaseCatalog(place.open(), mirror=mirror)):
        found.reload()
        assert found.released["small"].number == 1
        assert "WRONGTYPE" in found.quarantined["small"].problems[0].message
    place.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(PlaceError, match=r"pip install 'headrace\[redis\]'"):
        open_store("redis://host")
