"""How the SDK reaches a server."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

import grpc

from headrace.client.stats import Hook
from headrace.hop.client import settings as client_settings

Key: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""An API key or token, or a function that returns the current one; it is called for each call, so it should cache."""


@dataclass(frozen=True, slots=True)
class Options:
    """All options except the target and the key; all have defaults.

    `tls`: None = TLS unless the target is this machine (loopback, unix socket). `ca`: PEM file of the certificate
    authorities to trust; None = the system's. `server_name`: name in the server's certificate, if it is not the target's.
    `timeout_s`: timeout of calls without one. `attempts`: attempts per call, the first included; UNAVAILABLE, and
    refusals that say when to retry, are retried within the deadline and a budget of `retry_ratio` × calls.
    """

    tls: bool | None = None
    ca: str | os.PathLike[str] | None = None
    server_name: str = ""
    timeout_s: float = 5.0
    attempts: int = 3
    retry_ratio: float = 0.1
    max_concurrent: int = 1024
    max_message_bytes: int = 64 * 1024 * 1024
    hook: Hook | None = None

    def settings(self, target: str) -> client_settings.ClientRules:
        """hop's settings for this client."""
        most = self.max_concurrent
        return client_settings.ClientRules(
            target=target,
            server_name=self.server_name,
            default_timeout_s=self.timeout_s,
            max_message_bytes=self.max_message_bytes,
            # The ingress counts, admits and logs each request as an RPC.
            exchange=False,
            # The server limits by tenant and priority; a second limit in the client would only add refusals.
            limiter=client_settings.LimiterRules(initial=most, minimum=most, maximum=most),
            # How slow answers are depends on the pipeline, so only failures open the breaker.
            breaker=client_settings.BreakerRules(slow_s=float("inf")),
            retry=client_settings.RetryRules(
                attempts=self.attempts, budget_ratio=self.retry_ratio, backoff_s=0.02
            ),
        )

    def credentials(self, target: str) -> grpc.ChannelCredentials | None:
        """Credentials of the channel; None: plaintext. Raises OSError if `ca` can't be read."""
        if self.tls is False and self.ca is not None:
            raise ValueError("`ca` is given but tls=False; drop one of them")
        if not (self.tls or self.ca is not None or (self.tls is None and not _this_machine(target))):
            return None
        roots = None if self.ca is None else Path(self.ca).read_bytes()
        return grpc.ssl_channel_credentials(root_certificates=roots)


class OptionValues(TypedDict, total=False):
    """The fields of `Options` as keywords of the clients."""

    tls: bool | None
    ca: str | os.PathLike[str] | None
    server_name: str
    timeout_s: float
    attempts: int
    retry_ratio: float
    max_concurrent: int
    max_message_bytes: int
    hook: Hook | None


class CallValues(TypedDict, total=False):
    """Keywords of a prediction.

    `version`: of the pipeline; 0 = the current one. `request_id`: None = a new one. `timeout_s`: None = that of the client.
    `priority`: 1 (low) to 10. `traceparent`: W3C header of the span that the call is part of; None = OpenTelemetry's current
    one, if any. `idempotency_key`: at most 255 characters, unlike that of any other call; a call that is repeated with it gets
    the answer of the first instead of running again.
    """

    version: int
    request_id: str | None
    timeout_s: float | None
    priority: int | None
    traceparent: str | None
    idempotency_key: str | None


def _this_machine(target: str) -> bool:
    """Whether every address of the target is on this machine, so that a key may be sent in plaintext."""
    return all(_is_local(part.strip()) for part in target.removeprefix("dns:///").split(","))


def _is_local(address: str) -> bool:
    if address.startswith(("unix:", "unix-dir:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
