"""Releases in Redis, for more than one machine.

    PREFIX:{releases}:newest              hash: pipeline → number of its newest release
    PREFIX:{releases}:releases:PIPELINE   hash: number → the release's document; the last ten
    PREFIX:{releases}:documents:PIPELINE  hash: revision → text of a pipeline document
    PREFIX:{releases}:frozen              automation is stopped
    PREFIX:{releases}:state               hash: epoch, count; the count rises with each change
    PREFIX:{releases}:rollouts:…          lease and evidence of the analyser (services/monitoring)

A Lua script compares and sets in one step. Changes are published, but a message may be lost (a connection that breaks, a
failover): so `wait` also looks at the count several times a second.
"""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace.releases import redis_scripts
from headrace.releases.document import Release, from_bytes, to_bytes
from headrace.releases.errors import FencedError, ReleaseError, StaleError
from headrace.releases.store import KEPT, REMOVED, Broken, Freeze
from headrace.state.redis_address import ManyServers

_TIMEOUT_S = 5.0
_POLL_S = 0.25
_YOUNG_S = 3600
# What there is of each pipeline.
_ROOMS = ("releases", "tokens", "revisions", "documents", "ages")


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where a Redis is. Its text names no password, so that it may be logged. `ca`: PEM file of the authority that signed the
    server's certificate; "": those of the system. `certificate`, `key`: PEM files that are shown to it; "": none. `prefix`: of
    all keys, if several installations share one Redis. `watched`: the Sentinels that know the server, in place of `host` and
    `port`."""

    host: str
    port: int = 6379
    database: int = 0
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str = ""
    prefix: str = "headrace"
    watched: ManyServers | None = None
    certificate: str = ""
    key: str = ""

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        if self.watched is None:
            return f"{scheme}://{self.host}:{self.port}/{self.database}"
        places = ",".join(f"{host}:{port}" for host, port in self.watched.places)
        return f"{scheme}+sentinel://{places}/{self.watched.master}/{self.database}"


class RedisReleases:
    """A `ReleaseStore` in a Redis. Threads may share it. It connects at the first call, and again whenever that is needed.

    Raises ImportError if the package redis is not installed.
    """

    def __init__(self, place: RedisPlace) -> None:
        # Optional: only installations of several machines need it.
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        self._place = place
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._tag = f"{place.prefix}:{{releases}}"
        self._channel = f"{self._tag}:changed"
        self._closed = threading.Event()
        self._others: list[Any] = []
        self._fence: Callable[[], tuple[str, str]] = lambda: (f"{self._tag}:lease", "")
        # A connection that broke while nobody used it fails the first call on it: that call is repeated. What it changes happens
        # once nevertheless, as the scripts see by a token whether it has happened. A server that hangs costs the time once.
        broke = (redis.ConnectionError,)
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3, supported_errors=broke)
        self._redis = _client(place, _TIMEOUT_S, retry)
        self._commit: Any = self._redis.register_script(redis_scripts.COMMIT)
        self._keep = self._redis.register_script(redis_scripts.KEEP)
        self._freeze = self._redis.register_script(redis_scripts.FREEZE)
        self._remove = self._redis.register_script(redis_scripts.REMOVE)

    @property
    def client(self) -> Any:
        """The connection, for what else belongs to these releases. Its calls belong into a `with reached()`."""
        return self._redis

    @property
    def tag(self) -> str:
        """What the keys begin with that lie beside these releases, in the same slot of a cluster."""
        return self._tag

    def connect(self, timeout_s: float) -> Any:
        """A further client, for what can't wait long: a call takes `timeout_s` at most. It is closed with this store."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Repeated at once, and only if the connection broke: a server that hangs must not cost the time twice.
        once = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._others.append(_client(self._place, timeout_s, once))
        return self._others[-1]

    def fence_by(self, fence: Callable[[], tuple[str, str]]) -> None:
        """From now on `commit` needs that a key beside these releases has a value, both of `fence`: the token of a lease. So
        what a process writes whose lease ended while it was stopped is refused by Redis itself."""
        self._fence = fence

    def pipelines(self) -> list[str]:
        with self.reached():
            newest = self._redis.hgetall(f"{self._tag}:newest")
        # Of a removed pipeline the last number is kept, negative.
        # A number that can't be read is no reason to serve the pipeline no more.
        return sorted(name.decode(errors="replace") for name, n in newest.items() if not n.startswith(b"-"))

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        try:
            newest, numbers = self._numbers(pipeline)
        except ReleaseError as error:
            return None, Broken(pipeline, 0, "; ".join(error.problems))
        broken: Broken | None = None
        if newest > max(numbers, default=0):
            broken = Broken(pipeline, newest, f"(store): Redis has lost it; it has {numbers or 'none'}")
        for number in numbers:
            try:
                release = self._read(pipeline, number)
            except ReleaseError as error:
                broken = broken or Broken(pipeline, number, "; ".join(error.problems))
                continue
            if release is not None:
                return release, broken
        if broken is None and newest < 0:
            broken = Broken(pipeline, -newest, REMOVED)
        return None, broken

    def history(self, pipeline: str) -> list[Release]:
        found = []
        with contextlib.suppress(ReleaseError):
            for number in self._numbers(pipeline)[1]:
                with contextlib.suppress(ReleaseError):
                    release = self._read(pipeline, number)
                    if release is not None:
                        found.append(release)
        return found

    def commit(self, release: Release) -> None:
        name = release.pipeline
        arms = {arm.revision: key for key, arm in release.arms.items()}
        revisions = list(arms)
        keys = self._keys(name)
        fence, token = self._fence()
        numbers = [release.number, release.parent]
        limits = [KEPT, _YOUNG_S, secrets.token_hex(4), self._channel]
        arguments = [name, *numbers, to_bytes(release), secrets.token_hex(16), *limits, token, *revisions]
        with self.reached():
            answer = self._commit(keys=[*keys, fence], args=arguments)
        match _text(answer[0]):
            case "fenced":
                raise FencedError(name)
            case "stale":
                raise StaleError(name, int(answer[1]), release.number)
            case "absent":
                revision = revisions[int(answer[1]) - 1]
                what = f"no document of revision {revision[:12]}… is stored; deploy it first"
                raise ReleaseError(name, [f"arms.{arms[revision]}.revision: {what}"])

    def remove(self, pipeline: str) -> None:
        with self.reached():
            self._remove(keys=self._keys(pipeline), args=[pipeline, secrets.token_hex(4), self._channel])

    def keep_document(self, pipeline: str, revision: str, text: str) -> None:
        keys = [self._key("documents", pipeline), self._key("ages", pipeline)]
        with self.reached():
            self._keep(keys=keys, args=[revision, text.encode()])

    def document(self, pipeline: str, revision: str) -> str | None:
        with self.reached():
            content = self._redis.hget(self._key("documents", pipeline), revision)
        try:
            return None if content is None else _text(content)
        except UnicodeDecodeError:
            return None

    def freeze(self, freeze: Freeze | None) -> None:
        about: dict[str, str] | None = None
        if freeze is not None:
            about = {"author": freeze.author, "reason": freeze.reason, "at": freeze.at.isoformat()}
        keys = [f"{self._tag}:frozen", f"{self._tag}:state"]
        with self.reached():
            self._freeze(
                keys=keys, args=[json.dumps(about) if about else "", secrets.token_hex(4), self._channel]
            )

    def frozen(self) -> Freeze | None:
        with self.reached():
            content = self._redis.get(f"{self._tag}:frozen")
        if content is None:
            return None
        try:
            about = json.loads(content)
            return Freeze(str(about["author"]), str(about["reason"]), datetime.fromisoformat(about["at"]))
        except (ValueError, KeyError, TypeError):
            # Somebody wanted automation to stop; that this can't be read is no reason to go on.
            return Freeze("unknown", "the freeze can't be read", datetime.fromtimestamp(0).astimezone())

    def wait(self, seen: str, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        failure: OSError | None = None
        while not self._closed.is_set():
            try:
                return self._wait(seen, end)
            except OSError as error:
                failure = error
                if time.monotonic() >= end:
                    break
                self._closed.wait(_POLL_S)
            except Exception:
                # redis-py fails in several ways when its client is closed while another thread connects.
                if not self._closed.is_set():
                    raise
        if failure is not None and not self._closed.is_set():
            raise failure
        return seen

    def close(self) -> None:
        self._closed.set()
        for client in (self._redis, *self._others):
            with contextlib.suppress(*self._errors):
                client.close()

    def _wait(self, seen: str, end: float) -> str:
        with self.reached(), self._redis.pubsub(ignore_subscribe_messages=True) as messages:
            # First listen, then look: so that no change is between the two.
            messages.subscribe(self._channel)
            while (state := self._state()) == seen and not self._closed.is_set():
                left = end - time.monotonic()
                if left <= 0:
                    break
                messages.get_message(timeout=min(left, _POLL_S))
            return state

    def _state(self) -> str:
        """Epoch and count: a Redis that lost its data or went back to an older copy of it differs, too."""
        epoch, count = self._redis.hmget(f"{self._tag}:state", "epoch", "count")
        return f"{_text(epoch or b'-')}:{_text(count or b'0')}"

    def _numbers(self, pipeline: str) -> tuple[int, list[int]]:
        """The number of the newest release (0: none yet; negative: of a removed pipeline), and those that are kept, the newest
        first. Raises ReleaseError if Redis holds something else there."""
        key = self._key("releases", pipeline)
        with self.reached():
            both = self._redis.pipeline(transaction=True)
            newest, fields = (
                both.hget(f"{self._tag}:newest", pipeline).hkeys(key).execute(raise_on_error=False)
            )
        for found in (newest, fields):
            if isinstance(found, Exception):
                raise ReleaseError(
                    pipeline, [f"(store): {key} can't be read ({found}); it is no list of releases"]
                )
        try:
            return int(newest or 0), sorted(map(int, fields), reverse=True)
        except ValueError:
            what = (
                f"(store): {key} or its newest number is not what this version writes; restore it from a copy"
            )
            raise ReleaseError(pipeline, [what]) from None

    def _read(self, pipeline: str, number: int) -> Release | None:
        """None: it was removed meanwhile. Raises ReleaseError."""
        with self.reached():
            content = self._redis.hget(self._key("releases", pipeline), number)
        if content is None:
            return None
        release = from_bytes(pipeline, content)
        if release.number != number:
            raise ReleaseError(pipeline, [f"number: the document of release {number} says {release.number}"])
        return release

    def _keys(self, pipeline: str) -> list[str]:
        """What COMMIT and REMOVE work on, in their order."""
        return [f"{self._tag}:newest", *(self._key(room, pipeline) for room in _ROOMS), f"{self._tag}:state"]

    def _key(self, room: str, pipeline: str) -> str:
        return f"{self._tag}:{room}:{pipeline}"

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Makes an OSError of whatever Redis or the way to it has. It names the place, never a secret."""
        try:
            yield
        except self._errors as error:
            # Redis' own words, which hold no credentials; but not the error itself, whose arguments might.
            said = str(error).partition("\n")[0][:200]
            raise OSError(
                errno.EHOSTUNREACH, f"the releases can't be reached ({said})", str(self._place)
            ) from None


def _client(place: RedisPlace, timeout_s: float, retry: Any) -> Any:
    import redis

    tls: dict[str, Any] = {}
    if place.tls:
        # Read again for each connection, so files that are replaced are taken up.
        files = {"ssl_ca_certs": place.ca, "ssl_certfile": place.certificate, "ssl_keyfile": place.key}
        tls = {"ssl": True, **{name: file or None for name, file in files.items()}}
    common: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": retry,
        **tls,
    }
    account: dict[str, Any] = {"db": place.database, "username": place.username, "password": place.password}
    if place.watched is None:
        return redis.Redis(host=place.host, port=place.port, **account, **common)
    # The Sentinels have neither the accounts nor the databases of the servers.
    given = {**account, **common}
    sentinels: Any = redis.Sentinel(list(place.watched.places), sentinel_kwargs=common, **given)  # type: ignore[no-untyped-call]  # redis-py leaves it without types
    return sentinels.master_for(place.watched.master)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
