"""Releases in a Redis that Sentinels watch: a store of its own address, and what goes on when they choose another master."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.releases.errors import FencedError, StaleError
from headrace.releases.place import open_store
from headrace.releases.redis import RedisReleases
from services.monitoring.rollouts.handover_redis import TIMEOUT_S, RedisLease
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.libs.state.redis_servers import Servers, client, until, watched

LONG_S = 120.0


def opened(url: str) -> RedisReleases:
    store = open_store(f"{url}?prefix=test")
    assert isinstance(store, RedisReleases)
    return store


def committed(store: RedisReleases, number: int) -> None:
    """As soon as there is a master."""

    def done() -> bool:
        store.commit(release(number))
        return True

    until(done)


def test_a_store_that_a_sentinel_names(tmp_path: Path) -> None:
    with watched(tmp_path, replicated=False) as (_, master, url):
        writer, reader = opened(url), opened(url)
        writer.keep_document("flights", REVISION, TEXT)
        state = reader.wait("", LONG_S)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(reader.wait, state, LONG_S)
            writer.commit(release(1))
            assert waiting.result() != state
        with pytest.raises(StaleError):
            reader.commit(release(1, reason="another"))
        assert [r.number for r in reader.history("flights")] == [1]
        assert client(master).exists("test:{releases}:releases:flights")
        for store in (writer, reader):
            store.close()


@pytest.mark.slow
def test_readers_and_writers_follow_another_master(tmp_path: Path) -> None:
    with watched(tmp_path) as (servers, master, url):
        writer, reader = opened(url), opened(url)
        writer.keep_document("flights", REVISION, TEXT)
        writer.commit(release(1))
        state = reader.wait("", LONG_S)
        _copied(writer)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(reader.wait, state, LONG_S)
            servers.kill(master)
            committed(writer, 2)
            assert waiting.result() != state
        current, broken = reader.current("flights")
        assert current is not None
        assert (current.number, broken) == (2, None)
        for store in (writer, reader):
            store.close()


@pytest.mark.slow
def test_a_lease_that_the_new_master_has_heard_of_goes_on_and_another_does_not(tmp_path: Path) -> None:
    with watched(tmp_path) as (servers, master, url):
        store = opened(url)
        store.keep_document("flights", REVISION, TEXT)
        lease = RedisLease(store.connect(TIMEOUT_S), f"{store.tag}:rollouts:lease", lease_ms=600_000)
        store.fence_by(lambda: lease.fence)
        assert lease.hold()
        store.commit(release(1))
        _copied(store)
        _failed_over(servers, master, store)
        until(lease.hold)
        store.commit(release(2))
        # As if the master had been lost before its replica heard of the lease.
        store.client.delete(f"{store.tag}:rollouts:lease")
        with pytest.raises(FencedError):
            store.commit(release(3))
        store.close()


def _copied(store: RedisReleases) -> None:
    until(lambda: bool(store.client.execute_command("WAIT", 1, 1000) == 1))


def _failed_over(servers: Servers, master: int, store: RedisReleases) -> None:
    servers.kill(master)
    until(lambda: bool(store.client.ping()))


@pytest.mark.slow
def test_without_any_sentinel_the_error_names_them_and_no_secret() -> None:
    store = open_store("redis+sentinel://:s3cr3t@127.0.0.1:9/main")
    with pytest.raises(OSError, match=r"redis\+sentinel://127.0.0.1:9/main/0") as refused:
        store.pipelines()
    assert "s3cr3t" not in f"{refused.value!r}"
    store.close()
