"""Settings of the ingress."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from headrace.hop import config


class Http(config.Settings):
    """The listeners of the door. An address is "host:port"; port 0 lets the system choose."""

    # HTTP/1.1 and HTTP/2 without TLS. Loopback only, unless something in front does TLS.
    plaintext: str = "127.0.0.1:8080"
    # HTTP/1.1 and HTTP/2 over TLS; empty: none.
    tls: str = ""
    certificate: Path | None = None
    key: Path | None = None
    # Every connection begins with the PROXY protocol, by which a load balancer in front names the client. Off, nobody may.
    proxy_protocol: bool = False

    @model_validator(mode="after")
    def _tls_has_files(self) -> Http:
        if self.tls and not (self.certificate and self.key):
            raise ValueError("a TLS listener needs `certificate` and `key`")
        return self


class Limits(config.Settings):
    """What one client may cost before anything is computed."""

    max_request_bytes: PositiveInt = 16 * 1024 * 1024
    max_rows: PositiveInt = 4096
    # Most values of one message, where each becomes an object: fields of rows, elements of JSON. Raw tensors are one.
    max_values: PositiveInt = 1_048_576
    # A message must be whole within this time, if its caller sets no shorter deadline.
    max_body_s: PositiveFloat = 30.0
    # Bytes of messages that are arriving at once; one tenant may have half of it.
    max_arriving_bytes: PositiveInt = 256 * 1024 * 1024
    max_header_kb: int = Field(default=32, gt=0, le=8192)
    max_headers: PositiveInt = 64
    max_connections: PositiveInt = 4096
    max_streams_per_connection: PositiveInt = 1024
    # A connection or stream without traffic for this long is closed.
    idle_s: PositiveFloat = 300.0
    stream_idle_s: PositiveFloat = 60.0
    # Memory at which Envoy begins to refuse new requests (90 %) and connections (95 %): its own and that of the Python in its
    # process. In the together shape each service adds 512 MiB.
    max_heap_bytes: PositiveInt = 2 * 1024 * 1024 * 1024
    # A request with less time left than this is not begun.
    min_budget_s: float = Field(default=0.001, ge=0)


class Jwt(config.Settings):
    """JSON Web Tokens that are believed."""

    # File or https URL of the issuer's key set (JWKS).
    jwks: str
    issuer: str
    audience: str
    # Only asymmetric ones: a public key must never be usable as an HMAC secret.
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA"], ...] = (
        "RS256",
        "ES256",
    )
    # Claim that names the tenant, and the one that holds scopes (a list, or words in one string).
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    leeway_s: float = Field(default=10.0, ge=0, le=300)
    refresh_s: PositiveFloat = 300.0


class Traces(config.Settings):
    """The local store of request traces."""

    # Empty: none.
    folder: Path | None = None
    segment_bytes: PositiveInt = 8 * 1024 * 1024
    segments: PositiveInt = 4
    # Requests that took longer are kept whatever the ratio.
    slow_s: PositiveFloat = 0.5


class Security(config.Settings):
    """The log of security events."""

    # One file of JSON lines for all ingresses of the machine. Absent: none; events are counted in the metrics alone.
    file: Path | None = None
    # A file of this size is renamed to FILE.1; so many of those are kept.
    max_bytes: PositiveInt = 64 * 1024 * 1024
    kept: PositiveInt = 8


class Admission(config.Settings):
    """How many inferences may be in flight at once; the rest is refused before its message is read."""

    # For a system that has not shown yet what it can do in time, or has time to spare again. Less than the callers of a
    # door that is replaced have on their way, and a restart would refuse some: with 64, of which 44 are for anybody, it
    # did so to 48 callers. More than can be done in time, and the first second of a rush is lost: with 1024 it was.
    initial: PositiveInt = 256
    minimum: PositiveInt = 8
    maximum: PositiveInt = 4096
    # The limit adapts so that requests take this part of the time that their caller or pipeline allows, on average.
    goal: float = Field(default=0.4, gt=0, le=1)


class IngressSettings(config.ServiceSettings):
    """Everything the ingress can be told. `server` is used in grpc mode only."""

    server: config.Server = config.Server(listen="unix:/tmp/headrace/ingress.sock")
    # envoy: Python inside Envoy. grpc: a grpc.aio server with a stock Envoy in front. auto: envoy if possible.
    mode: Literal["auto", "envoy", "grpc"] = "auto"
    http: Http = Http()
    # Envoy's admin port; it can stop the process, so it is loopback only.
    admin: str = "127.0.0.1:9901"
    # Rendered configuration and other things of this one process.
    run_dir: Path
    # JSON access log: a file, or "/dev/stdout"; empty: none.
    access_log: str = "/dev/stdout"
    # Envoy's own worker threads; the Python application has one of its own.
    envoy_threads: PositiveInt = 1
    pipelines: Path
    # Folder in which the router keeps the last good text of each document; the door follows it, so that both serve the
    # same revision of one that is broken. Absent: a document that is broken at the start has nothing that serves.
    kept: Path | None = None
    # The folder is not the router's: the door keeps copies of its own in it.
    keeps: bool = False
    tenants: Path
    # Where a copy of the last good tenants document is kept: what is in force while the document is broken, at a start too.
    tenants_kept: Path | None = None
    # Secret with which keys are hashed: without it a stolen tenants file is worthless.
    pepper: Path
    # Folder in which the ingresses of one machine count each tenant's use together; absent: each counts alone.
    quotas: Path | None = None
    # Folder in which they count what tenants with a budget of different queries have asked today, over restarts, too;
    # absent: each counts alone, from its start on.
    queries: Path | None = None
    security: Security = Security()
    jwt: Jwt | None = None
    # Files are looked at this often, so a revoked key dies within it.
    reload_s: PositiveFloat = 1.0
    router: config.ClientSettings
    limits: Limits = Limits()
    admission: Admission = Admission()
    traces: Traces = Traces()
    # Share of successful requests that get a log line; failures always do.
    log_ratio: float = Field(default=0.01, ge=0, le=1)
    # How many such processes share the listeners.
    workers: PositiveInt = 1
    # The together shape: services hosted in this process, by name, with their settings.
    together: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _admin_is_loopback(self) -> IngressSettings:
        if split_address(self.admin)[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("`admin` must be a loopback address: it can stop the process")
        return self


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port". Raises ValueError if it is neither."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
