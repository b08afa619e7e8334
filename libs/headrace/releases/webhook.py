"""Tells another system of each change: one POST of JSON, signed, from a thread of its own. It never delays a change.

    X-Headrace-Delivery: id of the event, the same when it is sent again
    X-Headrace-Timestamp: seconds since the epoch
    X-Headrace-Signature: sha256=HMAC-SHA-256(secret, TIMESTAMP "." BODY), hexadecimal

What can't be delivered is tried again with growing pauses, then given up and counted. Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import queue
import random
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from headrace.hop import config

_SCHEMES = ("https", "http")
_ANSWER_BYTES = 1 << 16
# Answers after which the same may succeed later.
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebhookSettings(config.Settings):
    """Who is told of changes."""

    # http:// or https://, without a user name.
    url: str
    # File with the secret that deliveries are signed with. Absent: they are not signed.
    secret_file: Path | None = None
    # PEM file of the authority that signed the receiver's certificate. Absent: those of the system.
    ca_file: Path | None = None
    timeout_s: PositiveFloat = Field(default=5.0, le=60)
    # How often one event is sent before it is given up; the pauses grow from `backoff_s` to 30 s.
    attempts: PositiveInt = Field(default=6, le=20)
    backoff_s: PositiveFloat = Field(default=0.5, le=30)
    # Events that may wait; further ones are dropped, and counted.
    queue: PositiveInt = Field(default=256, le=10_000)

    @field_validator("url")
    @classmethod
    def _allowed(cls, url: str) -> str:
        # `from None`: the error of the standard library quotes the URL, which may hold a secret.
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("url: can't be read") from None
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"url: needs {' or '.join(f'{s}://' for s in _SCHEMES)} and a host")
        if "@" in parts.netloc:
            raise ValueError("url: must not hold a user name or password; deliveries are signed: secret_file")
        return url


class Webhook:
    """Delivers events in their order. `complain(text)` is told, from the thread, what was given up. `wall`: seconds since 1970.

    Raises ConfigError: the secret or the certificates can't be read.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        complain: Callable[[str], None],
        wall: Callable[[], float] = time.time,  # noqa: TID251 - a receiver compares it with its own wall clock
    ) -> None:
        self._settings = settings
        self._complain = complain
        self._wall = wall
        self._secret = _secret(settings.secret_file)
        self._parts = urlsplit(settings.url)
        self._tls = _tls(settings.ca_file) if self._parts.scheme == "https" else None
        self._events: queue.Queue[bytes | None] = queue.Queue(settings.queue)
        self._stopping = threading.Event()
        self.delivered, self.lost = 0, 0
        # It ends with the process: a receiver that hangs must not keep a command alive.
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def tell(self, event: Mapping[str, object]) -> None:
        """Queues an event. Returns at once and raises nothing."""
        body = json.dumps({"id": secrets.token_hex(16), **event}, ensure_ascii=False).encode()
        try:
            self._events.put_nowait(body)
        except queue.Full:
            self.lost += 1
            self._complain(f"{self._settings.queue} events wait already; one is dropped")

    def close(self, wait_s: float) -> bool:
        """Delivers what waits for at most `wait_s`, then gives up. Returns whether everything was delivered."""
        end = time.monotonic() + wait_s
        with suppress(queue.Full):
            self._events.put(None, timeout=wait_s)
        self._thread.join(max(end - time.monotonic(), 0))
        done = not self._thread.is_alive() and not self.lost
        self._stopping.set()
        return done

    def _run(self) -> None:
        while (body := self._events.get()) is not None:
            try:
                problem = self._deliver(body)
            except Exception as error:  # noqa: BLE001 - the thread must live on for the next event
                problem = type(error).__name__
            if problem:
                self.lost += 1
                self._complain(f"an event could not be delivered: {problem}")
            else:
                self.delivered += 1

    def _deliver(self, body: bytes) -> str:
        """What is wrong; empty once it is delivered."""
        pause = self._settings.backoff_s
        problem = ""
        for attempt in range(self._settings.attempts):
            if attempt and self._stopping.wait(pause * random.uniform(0.5, 1)):  # noqa: S311 - spreads retries
                return problem
            pause = min(pause * 2, 30.0)
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no answer'}"
                continue
            if 200 <= status < 300:
                return ""
            problem = f"the receiver answers {status}"
            if status not in _AGAIN:
                return problem
        return problem

    def _post(self, body: bytes) -> int:
        host, port, timeout = self._parts.hostname or "", self._parts.port, self._settings.timeout_s
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            connection.request("POST", target, body=body, headers=self._headers(body))
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()

    def _headers(self, body: bytes) -> dict[str, str]:
        at = str(int(self._wall()))
        headers = {
            "content-type": "application/json",
            "user-agent": "headrace",
            "x-headrace-delivery": str(json.loads(body)["id"]),
            "x-headrace-timestamp": at,
        }
        if self._secret:
            headers["x-headrace-signature"] = f"sha256={signature(self._secret, at, body)}"
        return headers


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What a receiver compares (in constant time) with the header, after it has seen that the timestamp is recent."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _secret(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        found = path.read_bytes().strip()
    except OSError as error:
        raise config.ConfigError(f"webhook.secret_file: {path} can't be read ({error.strerror})") from None
    if len(found) < 16:
        raise config.ConfigError(f"webhook.secret_file: {path} must hold at least 16 characters")
    return found


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise config.ConfigError(f"webhook.ca_file: {ca} can't be read ({error.strerror})") from None
