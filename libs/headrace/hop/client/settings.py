"""What the client half asks of its settings, and plain defaults for programs without pydantic (the SDK).

`headrace.hop.config.ClientSettings` satisfies these protocols; a test keeps the defaults of both in step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class BreakerRules(Protocol):
    """See `config.BreakerSettings`."""

    @property
    def window_s(self) -> float: ...
    @property
    def min_calls(self) -> int: ...
    @property
    def failure_ratio(self) -> float: ...
    @property
    def slow_s(self) -> float: ...
    @property
    def slow_ratio(self) -> float: ...
    @property
    def open_s(self) -> float: ...
    @property
    def max_open_s(self) -> float: ...
    @property
    def probes(self) -> int: ...


class LimiterRules(Protocol):
    """See `config.LimiterSettings`."""

    @property
    def initial(self) -> int: ...
    @property
    def minimum(self) -> int: ...
    @property
    def maximum(self) -> int: ...


class RetryRules(Protocol):
    """See `config.RetrySettings`."""

    @property
    def attempts(self) -> int: ...
    @property
    def budget_ratio(self) -> float: ...
    @property
    def budget_reserve(self) -> float: ...
    @property
    def backoff_s(self) -> float: ...
    @property
    def max_backoff_s(self) -> float: ...


class CoalesceRules(Protocol):
    """See `config.CoalesceSettings`."""

    @property
    def enabled(self) -> bool: ...
    @property
    def window(self) -> int: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def max_waiting_rows(self) -> int: ...


class TlsFiles(Protocol):
    """See `config.Tls`."""

    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def ca(self) -> Path: ...


class ClientRules(Protocol):
    """See `config.ClientSettings`."""

    @property
    def target(self) -> str: ...
    @property
    def tls(self) -> TlsFiles | None: ...
    @property
    def server_name(self) -> str: ...
    @property
    def default_timeout_s(self) -> float: ...
    @property
    def deadline_margin_s(self) -> float: ...
    @property
    def resolve_every_s(self) -> float: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def exchange(self) -> bool: ...
    @property
    def breaker(self) -> BreakerRules: ...
    @property
    def limiter(self) -> LimiterRules: ...
    @property
    def retry(self) -> RetryRules: ...
    @property
    def coalesce(self) -> CoalesceRules: ...


@dataclass(frozen=True, slots=True)
class Breaker:
    """Plain `config.BreakerSettings`."""

    window_s: float = 5.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    slow_s: float = 2.0
    slow_ratio: float = 0.9
    open_s: float = 1.0
    max_open_s: float = 10.0
    probes: int = 2


@dataclass(frozen=True, slots=True)
class Limiter:
    """Plain `config.LimiterSettings`."""

    initial: int = 32
    minimum: int = 4
    maximum: int = 512


@dataclass(frozen=True, slots=True)
class Retry:
    """Plain `config.RetrySettings`."""

    attempts: int = 2
    budget_ratio: float = 0.1
    budget_reserve: float = 10.0
    backoff_s: float = 0.01
    max_backoff_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Plain `config.CoalesceSettings`."""

    enabled: bool = True
    window: int = 2
    max_rows: int = 256
    max_bytes: int = 8 * 1024 * 1024
    max_waiting_rows: int = 4096


@dataclass(frozen=True, slots=True)
class Client:
    """Plain `config.ClientSettings`; not validated."""

    target: str
    tls: TlsFiles | None = None
    server_name: str = ""
    default_timeout_s: float = 5.0
    deadline_margin_s: float = 0.002
    resolve_every_s: float = 5.0
    max_message_bytes: int = 64 * 1024 * 1024
    exchange: bool = True
    breaker: Breaker = field(default=Breaker())
    limiter: Limiter = field(default=Limiter())
    retry: Retry = field(default=Retry())
    coalesce: Coalesce = field(default=Coalesce())
