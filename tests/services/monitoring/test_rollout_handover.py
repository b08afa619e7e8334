"""Leases and saved evidence, on files and on a real server of Redis' protocol."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.monitoring.rollouts.handover_files import FileEvidence, FileLease
from services.monitoring.rollouts.handover_redis import RedisEvidence, RedisLease
from tests.children import ends_with_tests
from tests.redis_server import RedisServer

HOLDER = """
import sys
from pathlib import Path
from services.monitoring.rollouts.handover_files import FileLease
assert FileLease(Path(sys.argv[1])).hold()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_holder_loses_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    holder = subprocess.Popen(
        ends_with_tests(sys.executable, "-c", HOLDER, str(path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        mine = FileLease(path)
        assert not mine.hold()
        holder.kill()
        holder.wait()
        assert mine.hold()


def test_a_folder_that_cannot_be_made_is_an_error_and_no_lease_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    folder.write_text("")
    lease = FileLease(folder / "lease")
    with pytest.raises(OSError, match="rollouts"):
        lease.hold()
    folder.unlink()
    assert lease.hold()


def test_evidence_in_files(tmp_path: Path) -> None:
    store = FileEvidence(tmp_path / "evidence")
    assert store.load("p") is None
    store.save("p", {"format": 1})
    assert store.load("p") == {"format": 1}
    assert store.load("q") is None
    with pytest.raises(ValueError, match="JSON"):
        store.save("p", {"e": math.inf})
    (tmp_path / "evidence" / "p.json").write_text("[1]")
    assert store.load("p") is None


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a real server."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server, Redis(port=server.port) as client:
        yield client


@pytest.mark.parametrize("kind", [FileLease, RedisLease])
def test_a_lease_is_held_once_and_can_be_given_back(redis: Any, tmp_path: Path, kind: type[Any]) -> None:
    one, other = (kind(tmp_path / "lease") if kind is FileLease else kind(redis, "lease") for _ in range(2))
    assert (one.hold(), one.hold(), other.hold()) == (True, True, False)
    other.release()
    assert not other.hold()
    one.release()
    assert other.hold()
    assert kind is FileLease or 0 < redis.pttl("lease") <= 5000


def test_a_holder_in_redis_that_stalled_does_not_take_the_lease_of_the_next(redis: Any) -> None:
    one, other = RedisLease(redis, "stalled"), RedisLease(redis, "stalled")
    assert one.hold()
    redis.delete("stalled")  # as if it had run out
    assert other.hold()
    assert not one.hold()
    one.release()
    assert other.hold()


def test_a_lease_in_redis_that_ended_is_not_taken_again_at_once_and_has_another_token_then(
    redis: Any,
) -> None:
    lease = RedisLease(redis, "again")
    assert lease.hold()
    first = lease.fence
    redis.delete("again")
    assert (lease.hold(), lease.hold()) == (False, True)
    assert (lease.fence[0], lease.fence[1] != first[1]) == (first[0], True)
    assert redis.get("again").decode() == lease.fence[1]


def test_a_lease_in_redis_is_taken_although_the_answer_was_lost(redis: Any) -> None:
    class Lossy:
        """Its first answer is lost."""

        lost = False

        def eval(self, *words: Any) -> Any:
            done = redis.eval(*words)
            if not self.lost:
                self.lost = True
                raise TimeoutError("lost")
            return done

    lossy: Any = Lossy()
    lease = RedisLease(lossy, "lossy")
    with pytest.raises(OSError, match="lost"):
        lease.hold()
    assert lease.hold()


def test_something_else_at_the_keys_of_lease_and_evidence_is_an_error_and_stays(redis: Any) -> None:
    redis.rpush("list", "somebody else's")
    lease = RedisLease(redis, "list")
    with pytest.raises(OSError, match="WRONGTYPE"):
        lease.hold()
    mine = RedisLease(redis, "mine")
    assert mine.hold()
    redis.rpush("other:p", "somebody else's")
    with pytest.raises(OSError, match="WRONGTYPE"):
        RedisEvidence(redis, "other:", mine).load("p")
    assert redis.lrange("list", 0, -1) == [b"somebody else's"]


def test_evidence_in_redis(redis: Any) -> None:
    lease = RedisLease(redis, "for evidence")
    store = RedisEvidence(redis, "evidence:", lease)
    with pytest.raises(OSError, match="lease has ended"):
        store.save("p", {"format": 1})
    assert lease.hold()
    assert store.load("p") is None
    store.save("p", {"format": 1})
    assert store.load("p") == {"format": 1}
    assert redis.ttl("evidence:p") > 86400


def test_a_server_that_is_gone_is_an_os_error() -> None:
    client = Redis(unix_socket_path="/nowhere/r.sock", retry=Retry(NoBackoff(), 0))
    with pytest.raises(OSError, match="Redis"):
        RedisLease(client, "lease").hold()
    with pytest.raises(OSError, match="Redis"):
        RedisEvidence(client, "e:", RedisLease(client, "lease")).load("p")
