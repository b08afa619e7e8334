"""Tells another system that a retraining is due: one POST of JSON, signed.

    X-Headrace-Delivery: id of the event, the same when it is sent again
    X-Headrace-Timestamp: seconds since the epoch
    X-Headrace-Signature: sha256=HMAC-SHA-256(secret, TIMESTAMP "." BODY), hexadecimal

What can't be delivered is tried again with growing pauses, then given up. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import random
import secrets
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from headrace.hop import config

_SCHEMES = ("https", "http")
_ANSWER_BYTES = 1 << 16
# Answers after which the same may succeed later.
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebhookSettings(config.Settings):
    """Who is told."""

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
    """`wall`: seconds since 1970. Raises ConfigError: the secret or the certificates can't be read."""

    def __init__(self, settings: WebhookSettings, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._wall = wall
        self._secret = _secret(settings.secret_file)
        self._parts = urlsplit(settings.url)
        self._tls = _tls(settings.ca_file) if self._parts.scheme == "https" else None

    async def deliver(self, event: Mapping[str, object]) -> str:
        """What is wrong, once it is given up; empty: it is delivered."""
        identity, problem = secrets.token_hex(16), ""
        body = json.dumps({"id": identity, **event}, ensure_ascii=False).encode()
        pause = self._settings.backoff_s
        for attempt in range(self._settings.attempts):
            if attempt:
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads retries
                pause = min(pause * 2, 30.0)
            try:
                status = await asyncio.to_thread(self._post, identity, body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no answer'}"
                continue
            if 200 <= status < 300:
                return ""
            problem = f"the receiver answers {status}"
            if status not in _AGAIN:
                break
        return problem

    def _post(self, identity: str, body: bytes) -> int:
        host, port, timeout = self._parts.hostname or "", self._parts.port, self._settings.timeout_s
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            connection.request("POST", target, body=body, headers=self._headers(identity, body))
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()

    def _headers(self, identity: str, body: bytes) -> dict[str, str]:
        at = str(int(self._wall()))
        headers = {
            "content-type": "application/json",
            "user-agent": "headrace",
            "x-headrace-delivery": identity,
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
