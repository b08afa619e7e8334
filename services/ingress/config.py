"""Settings of the ingress."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from headrace.hop import config
from headrace.resources import ResourceSettings
from services.ingress.idempotency.settings import Idempotency

_ATTRIBUTE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HEADER = re.compile(r"[a-z0-9_-]{1,64}")
# Rules stand in documents that many may read, so no rule may compare these.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


class Http(config.Settings):
    """The listeners of the door. An address is "host:port"; port 0 lets the system choose."""

    # HTTP/1.1 and HTTP/2 without TLS. Loopback only, unless a proxy in front terminates TLS.
    plaintext: str = "127.0.0.1:8080"
    # HTTP/1.1 and HTTP/2 over TLS. Empty: no TLS listener.
    tls: str = ""
    certificate: Path | None = None
    key: Path | None = None
    # If set, TLS callers must show a certificate that one of these CAs signed. Their credential is needed all the same.
    client_ca: Path | None = None

    @model_validator(mode="after")
    def _tls_has_files(self) -> Http:
        if self.tls and not (self.certificate and self.key):
            raise ValueError("a TLS listener needs `certificate` and `key`")
        if self.client_ca and not self.tls:
            raise ValueError(
                "`client_ca` needs the TLS listener `tls`: without TLS no caller shows a certificate"
            )
        return self


class Limits(config.Settings):
    """Limits on the cost of one client before any computation begins."""

    max_request_bytes: PositiveInt = 16 * 1024 * 1024
    max_rows: PositiveInt = 4096
    # Maximum number of values in one message. A value is what becomes an object: a field of a row, an element of JSON. A raw
    # tensor counts as one value.
    max_values: PositiveInt = 1_048_576
    # A message must be complete within this time, unless its caller sets a shorter deadline.
    max_body_s: PositiveFloat = 30.0
    # Maximum total bytes of messages that are arriving at the same time. One tenant may use half of it.
    max_arriving_bytes: PositiveInt = 256 * 1024 * 1024
    max_connections: PositiveInt = 4096
    # A stream without traffic for this long is closed.
    stream_idle_s: PositiveFloat = 60.0
    # Memory limit of Envoy, the Python in its process included. Envoy refuses new requests at 90 % of it and new connections at
    # 95 %. In the together shape each service adds 512 MiB.
    max_heap_bytes: PositiveInt = 2 * 1024 * 1024 * 1024


class Jwt(config.Settings):
    """Which JSON Web Tokens are accepted."""

    # File or https URL of the issuer's key set (JWKS).
    jwks: str
    issuer: str
    audience: str
    # Only asymmetric algorithms: a public key must never be usable as an HMAC secret.
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA"], ...] = (
        "RS256",
        "ES256",
    )
    # The claim that names the tenant, and the claim that holds the scopes (a list, or words in one string).
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    leeway_s: float = Field(default=10.0, ge=0, le=300)
    refresh_s: PositiveFloat = 300.0


class Traces(config.Settings):
    """The local store of request traces."""

    # Empty: no store.
    folder: Path | None = None
    # Requests that took longer than this are always kept; the ratio does not apply to them.
    slow_s: PositiveFloat = 0.5


class Security(config.Settings):
    """The log of security events."""

    # One file of JSON lines for all ingresses on the machine. Absent: no file; events are only counted in the metrics.
    file: Path | None = None


class Admission(config.Settings):
    """How many inferences may be in flight at once. Others are refused before their message is read."""

    # The limit while the system has not yet shown how much it can do in time, or when it has spare time again.
    # If it is lower than the number of calls in flight at a door that is being replaced, a restart refuses some of them: this
    # happened to 48 callers with 64 slots, of which 44 are open to every caller. If it is higher than what can be done in time,
    # the first second of a burst is lost: this happened with 1024.
    initial: PositiveInt = 256
    minimum: PositiveInt = 8
    maximum: PositiveInt = 4096
    # The limit adapts so that requests take, on average, this fraction of the time that their caller or pipeline allows.
    goal: float = Field(default=0.4, gt=0, le=1)


class Sharing(config.Settings):
    """Where doors of several machines share limits of tenants. Without `redis` the doors of each machine count for themselves."""

    # Such as redis://HOST:6379/0; redis+sentinel://HOST:26379,HOST:26379/MASTER; redis+cluster://HOST:6379,HOST:6379.
    redis: str = ""
    # An exchange that takes longer is given up. No request waits for it.
    timeout_s: PositiveFloat = 0.25


class IngressSettings(config.ServiceSettings):
    """All settings of the ingress. Of `server` only the times of a drain are used."""

    server: config.Server = config.Server(listen="unix:/tmp/headrace/ingress.sock")
    http: Http = Http()
    # Envoy's admin port; it can stop the process, so it is loopback only.
    admin: str = "127.0.0.1:9901"
    # Folder for the rendered configuration and other files of this one process.
    run_dir: Path
    # JSON access log: a file, or "/dev/stdout". Empty: no access log.
    access_log: str = "/dev/stdout"
    # Who may call and what is live, as control says it.
    resources: ResourceSettings
    # Client of control, which operators' changes go to, too. Absent: what the folder or the artifacts of `resources` have is
    # followed, and operators can change nothing here.
    control: config.CalleeSettings | None = None
    # Folder in which the ingresses of one machine count each tenant's use together. Absent: each counts separately.
    quotas: Path | None = None
    # Folder in which they count the different queries of today, for tenants that have a budget of them, and keep the key that
    # those are hashed with. The counts survive restarts. Absent: each ingress counts separately, from its start on.
    queries: Path | None = None
    # Where doors of several machines share both; then the folder `quotas` is not used.
    sharing: Sharing = Sharing()
    # The last day (UTC) for which its operators attest that every volume, database and bucket with data of this installation is
    # encrypted. Absent, or past: tenants that require encryption are refused.
    encrypted_until: date | None = None
    security: Security = Security()
    # Where the outcomes of calls with an idempotency key are kept.
    idempotency: Idempotency = Idempotency()
    jwt: Jwt | None = None
    # Interval at which files are checked for changes.
    reload_s: PositiveFloat = 1.0
    router: config.ClientSettings
    # Client of the service that stores outcomes. Absent: none are taken.
    monitoring: config.CalleeSettings | None = None
    limits: Limits = Limits()
    admission: Admission = Admission()
    traces: Traces = Traces()
    # Fraction of successful requests that get a log line. Failed requests always get one.
    log_ratio: float = Field(default=0.01, ge=0, le=1)
    # Number of ingress processes that share the listeners.
    workers: PositiveInt = 1
    # Attribute → header from which it is derived, for the rules of releases (`@attribute/NAME`). The caller chooses the header's
    # value, so it can be no permission.
    attributes: dict[str, str] = Field(default_factory=dict, max_length=8)
    # The together shape: services hosted in this process, by name, with their settings.
    together: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _admin_is_loopback(self) -> IngressSettings:
        if split_address(self.admin)[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("`admin` must be a loopback address: it can stop the process")
        return self

    @model_validator(mode="after")
    def _attributes_are_plain(self) -> IngressSettings:
        for name, header in self.attributes.items():
            if not _ATTRIBUTE.fullmatch(name):
                raise ValueError(f"`attributes`: {name!r} must have letters, digits, '_', '.' and '-' only")
            if not _HEADER.fullmatch(header) or header in _SECRET_HEADERS:
                raise ValueError(
                    f"`attributes`: {header!r} must be a header in lower case, and none that holds a credential"
                )
        return self


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port". Raises ValueError if it is neither."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
