"""The store in Redis where it differs from files: a server that goes away, lost messages; a Redis that holds something else."""

import json
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from headrace.releases.catalog import ReleaseCatalog
from headrace.releases.document import digest, to_bytes
from headrace.releases.files import FileReleases
from headrace.releases.place import PlaceError, open_store, redis_place
from headrace.releases.redis import RedisReleases
from tests.libs.releases.release_stores import REVISION, TEXT, Place, in_redis, release
from tests.libs.releases.small_pipeline import Home
from tests.redis_server import RedisServer

LONG_S = 120.0


@pytest.fixture
def place(redis: RedisServer) -> Iterator[Place]:
    """A store in a server that the test may kill."""
    with closing(in_redis(redis.port)) as found:
        yield found


def test_it_connects_again_after_the_server_was_gone(redis: RedisServer, place: Place) -> None:
    store = place.open()
    store.keep_document("flights", REVISION, TEXT)
    store.commit(release(1))
    redis.kill()
    with pytest.raises(OSError, match="can't be reached"):
        store.commit(release(2))
    with pytest.raises(OSError, match="can't be reached"):
        store.wait("", 0)
    redis.start()
    assert store.current("flights")[0].number == 1
    store.commit(release(2))


def test_a_wait_survives_an_outage_and_sees_what_happened_meanwhile(redis: RedisServer, place: Place) -> None:
    reader, writer = place.open(), place.open()
    writer.keep_document("flights", REVISION, TEXT)
    state = reader.wait("", LONG_S)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(reader.wait, state, LONG_S)
        redis.kill()
        redis.start()
        writer.commit(release(1))
        assert waiting.result() != state


@pytest.mark.parametrize("cut", [False, True])
def test_a_change_whose_message_is_lost_is_seen(redis: RedisServer, place: Place, cut: bool) -> None:
    """The count rises without a message; `cut`: and clients of pub/sub are cut off before."""
    reader = place.open()
    state = reader.wait("", LONG_S)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(reader.wait, state, LONG_S)
        while ":1" not in redis.command("PUBLISH", "test:{releases}:changed", "0"):
            pass  # it does not listen yet
        if cut:
            redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        redis.command("HINCRBY", "test:{releases}:state", "count", "1")
        assert waiting.result() != state


def test_a_server_that_lost_its_data_is_another_state(redis: RedisServer, place: Place) -> None:
    store = place.open()
    store.keep_document("flights", REVISION, TEXT)
    store.commit(release(1))
    state = store.wait("", 0)
    redis.command("FLUSHALL")
    store.keep_document("flights", REVISION, TEXT)
    store.commit(release(1))
    assert store.wait(state, 0) != state


def test_a_commit_whose_answer_was_lost_is_done_once(redis: RedisServer, place: Place) -> None:
    """The script runs again with the token of the first time: it says that it is done, not that somebody else was first."""
    store = place.open()
    assert isinstance(store, RedisReleases)
    store.keep_document("flights", REVISION, TEXT)
    script, calls = store._commit, []

    def twice(**arguments: object) -> object:
        calls.append(script(**arguments))
        return script(**arguments)

    store._commit = twice
    store.commit(release(1))
    assert calls == [[b"ok"]]
    assert [r.number for r in store.history("flights")] == [1]


def test_an_old_document_goes_when_no_release_names_it(redis: RedisServer, place: Place) -> None:
    store = place.open()
    for revision in (REVISION, "a" * 64, "b" * 64):
        store.keep_document("flights", revision, TEXT)
    for revision in (REVISION, "a" * 64):
        redis.command("HSET", "test:{releases}:ages:flights", revision, "1")
    store.commit(release(1))
    # `a` is old and unnamed; `b` is young: somebody may be about to commit it.
    assert [store.document("flights", r) for r in (REVISION, "a" * 64, "b" * 64)] == [TEXT, None, TEXT]


def test_a_server_that_hangs_is_an_error_and_no_end(
    redis: RedisServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.releases.redis._TIMEOUT_S", 2.0)
    store = place.open()
    assert store.pipelines() == []
    redis.signal(signal.SIGSTOP)
    # Asked once: what is repeated is a call whose connection broke.
    with pytest.raises(OSError, match="can't be reached"):
        store.pipelines()
    redis.signal(signal.SIGCONT)
    assert store.pipelines() == []


def test_no_secret_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "hunter2") as server:
        (tmp_path / "password").write_text("hunter2\n")
        right = open_store(f"redis://127.0.0.1:{server.port}?password_file={tmp_path / 'password'}")
        assert right.pipelines() == []
        right.close()
        wrong = open_store(f"redis://:s3cr3t@127.0.0.1:{server.port}/0")
        with pytest.raises(OSError, match=f"redis://127.0.0.1:{server.port}/0") as refused:
            wrong.pipelines()
        assert "s3cr3t" not in f"{refused.value} {refused.value!r} {redis_place('redis://u:s3cr3t@h')!r}"
        assert refused.value.__suppress_context__
        wrong.close()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("", "is empty"),
        ("http://:s3cr3t@host", "not kept at http://"),
        ("redis://:s3cr3t@", "names no host"),
        ("redis://:s3/cr3t@host:6379", "can't be read"),
        ("redis://:s3cr3t@host:x", "can't be read"),
        ("redis://host/abc", "number of a database"),
        ("redis://host?db=3", "db is no option"),
        ("redis://host?password_file=/nowhere", "password_file: /nowhere can't be read"),
        ("redis://host?prefix=a{b", "prefix"),
        ("redis+sentinel://:s3cr3t@host:1,other", "name that the Sentinels watch"),
        ("redis+sentinel://:s3cr3t@host:x/main", "HOST or HOST:PORT"),
        ("redis+cluster://:s3cr3t@host:1", "name a server, or Sentinels"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(setting: str, told: str) -> None:
    with pytest.raises(PlaceError, match=told) as refused:
        open_store(setting)
    assert "cr3t" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_right_setting() -> None:
    place = redis_place("rediss://me:p%40ss@host/3?ca=/ca.pem&prefix=north")
    assert (place.host, place.port, place.database, place.tls) == ("host", 6379, 3, True)
    assert (place.username, place.password, place.ca, place.prefix) == ("me", "p@ss", "/ca.pem", "north")
    assert str(place) == "rediss://host:6379/3"


def test_a_right_setting_of_sentinels(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    place = redis_place(
        f"rediss+sentinel://me:s3cr3t@a:1,b/main/3?password_file={tmp_path}/password&ca=/ca.pem"
    )
    assert place.watched is not None
    assert place.watched.places == (("a", 1), ("b", 26379))
    assert (place.database, place.tls, place.ca) == (3, True, "/ca.pem")
    assert (place.username, place.password) == ("me", "hunter2")
    assert str(place) == "rediss+sentinel://a:1,b:26379/main/3"
    assert "s3cr3t" not in repr(place)
    assert place.watched.password is None


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
        nothing = ReleaseCatalog(place.open())
        assert (nothing.released, len(nothing.troubles)) == ({}, 1)
    finally:
        shared_redis.signal(signal.SIGCONT)
    store.commit(home.deploy(models={"light": "2"}))
    for found in (catalog, again, nothing):
        found.reload()
        assert (found.released["small"].number, found.troubles) == (2, ())
    shared_redis.command("DEL", f"{prefix}:{{releases}}:releases:small")
    shared_redis.command("SET", f"{prefix}:{{releases}}:releases:small", "x")
    shared_redis.command("HINCRBY", f"{prefix}:{{releases}}:state", "count", "1")
    for found in (catalog, ReleaseCatalog(place.open(), mirror=mirror)):
        found.reload()
        assert found.released["small"].number == 2
        assert "WRONGTYPE" in found.quarantined["small"].problems[0].message
    place.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(PlaceError, match=r"pip install 'headrace\[redis\]'"):
        open_store("redis://host")
