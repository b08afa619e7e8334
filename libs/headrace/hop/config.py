"""Settings of hop's servers and clients, and how any service's settings are read: one YAML file, then environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError


class Settings(BaseModel):
    """Base of every settings class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Settings):
    """Certificates for mTLS, as files; read again when they change."""

    certificate: Path
    key: Path
    ca: Path
    # Names (DNS or URI SANs) of peers that are believed; empty: any that the CA signed.
    peers: tuple[str, ...] = ()


class Telemetry(Settings):
    """Where logs, metrics and traces go."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    # host:port of the Prometheus endpoint; empty: none.
    metrics: str = ""
    # OTLP/gRPC collector, e.g. "http://127.0.0.1:4317"; empty: none.
    otlp_endpoint: str = ""
    # Share of batch RPCs (and, at the ingress, of requests) that get spans.
    trace_ratio: float = Field(default=0.01, ge=0, le=1)


class Server(Settings):
    """One hop server."""

    # "unix:/path" (its directory must be private) or "host:port" (needs `tls`).
    listen: str
    tls: Tls | None = None
    # Only for tests and for a sidecar that does mTLS: TCP without certificates, callers untrusted.
    allow_plaintext: bool = False
    max_message_bytes: PositiveInt = 64 * 1024 * 1024
    # Calls served at once; more are refused with RESOURCE_EXHAUSTED at once.
    max_concurrent_calls: PositiveInt = 1024
    # Deadline of a call that brings none.
    default_timeout_s: PositiveFloat = 10.0
    # A call with less time left than this is refused rather than begun.
    min_budget_s: float = Field(default=0.0005, ge=0)
    # How long NOT_SERVING is shown before the server stops accepting.
    drain_notice_s: float = Field(default=0.2, ge=0)
    # How long calls in flight may take to finish after that.
    drain_s: PositiveFloat = 20.0
    reflection: bool = True
    channelz: bool = True
    # Serves hop's clients over streams of theirs, too, which carry many calls each.
    exchange: bool = True


class ServiceSettings(Settings):
    """What the settings of every service hold."""

    server: Server
    telemetry: Telemetry = Telemetry()


class Breaker(Settings):
    """Circuit breaker of one replica."""

    window_s: PositiveFloat = 5.0
    min_calls: PositiveInt = 10
    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    # A call slower than this counts as slow; the breaker opens at `slow_ratio` of slow calls.
    slow_s: PositiveFloat = 2.0
    slow_ratio: float = Field(default=0.9, gt=0, le=1)
    open_s: PositiveFloat = 1.0
    # The open time doubles at each failed probe, up to this.
    max_open_s: PositiveFloat = 10.0
    probes: PositiveInt = 2


class Limiter(Settings):
    """Adaptive concurrency limit towards one replica (Vegas)."""

    initial: PositiveInt = 32
    minimum: PositiveInt = 4
    maximum: PositiveInt = 512


class Retry(Settings):
    """Retries of calls that failed as a whole."""

    attempts: PositiveInt = 2
    # Retries allowed per ordinary call, and the reserve that a quiet client may spend; time fills it in 10 s.
    budget_ratio: float = Field(default=0.1, ge=0, le=1)
    budget_reserve: float = Field(default=10.0, ge=0)
    backoff_s: PositiveFloat = 0.01
    max_backoff_s: PositiveFloat = 0.5


class Coalesce(Settings):
    """Natural batching at a client: idle, a call leaves at once; busy, what waits leaves together.

    With a window of one, a call also waits up to 12 ms for those who were just answered, where they come back at once.
    """

    enabled: bool = True
    # Calls in flight at once per key; while that many are out, rows gather.
    window: PositiveInt = 2
    max_rows: PositiveInt = 256
    max_bytes: PositiveInt = 8 * 1024 * 1024
    # Rows that may wait; beyond, RESOURCE_EXHAUSTED.
    max_waiting_rows: PositiveInt = 4096


class Client(Settings):
    """One hop client: how a service reaches another."""

    # "unix:/path", "local" (same process), "host:port[,host:port…]", or "dns:///name:port" (every address is a replica).
    target: str
    tls: Tls | None = None
    # Name to check in the callee's certificate, if it is not the host's.
    server_name: str = ""
    default_timeout_s: PositiveFloat = 5.0
    # Taken off the deadline handed to the callee, so that this side can still answer in time.
    deadline_margin_s: float = Field(default=0.002, ge=0)
    resolve_every_s: PositiveFloat = 5.0
    max_message_bytes: PositiveInt = 64 * 1024 * 1024
    # Carries calls over one stream to a callee that has it; else, and with a span, each is an RPC.
    exchange: bool = True
    breaker: Breaker = Breaker()
    limiter: Limiter = Limiter()
    retry: Retry = Retry()
    coalesce: Coalesce = Coalesce()


class ConfigError(Exception):
    """The settings are unusable; the text says where and why. Raised before anything binds."""


S = TypeVar("S", bound=Settings)
_PREFIX = "HEADRACE__"


def load(kind: type[S], path: Path | None, environ: Mapping[str, str] | None = None) -> S:
    """Settings of class `kind` from a YAML file, overlaid by `HEADRACE__SECTION__KEY=value` variables.

    Raises ConfigError naming each wrong key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read settings: {error}") from error
    env = os.environ if environ is None else environ  # noqa: TID251 - the one place that reads it
    for name, text in env.items():
        if name.startswith(_PREFIX):
            _overlay(values, name.removeprefix(_PREFIX).lower().split("__"), text)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or '(top)'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"settings for {kind.__module__}.{kind.__name__}: " + "; ".join(lines)) from error


def _overlay(values: dict[str, Any], keys: list[str], text: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    values[keys[-1]] = yaml.safe_load(text)
