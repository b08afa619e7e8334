"""Settings of the client half: their fields, defaults and bounds, defined once and without pydantic.

Programs that must not need pydantic (the SDK) use these classes as they are; nothing is validated then. `config.py`
makes pydantic models of them, which read a settings file and check the bounds. A ClassVar is no setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar


@dataclass(frozen=True)
class Bounds:
    """Allowed range of a number (None: no limit on that side): an annotation that pydantic finds by its method."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        given = {"gt": self.gt, "ge": self.ge, "le": self.le}
        return {**handler(source), **{name: value for name, value in given.items() if value is not None}}


_POSITIVE = Bounds(gt=0)
# A frame and what may wait to be written beside it.
LEAST_MESSAGE_BYTES = 1024 * 1024
_NOT_NEGATIVE = Bounds(ge=0)


@dataclass(frozen=True)
class TlsFiles:
    """Certificates for mTLS, as files; read again when they change."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class BreakerRules:
    """Circuit breaker of one method at one replica."""

    window_s: Annotated[float, _POSITIVE] = 5.0
    min_calls: Annotated[int, _POSITIVE] = 10
    failure_ratio: Annotated[float, Bounds(gt=0, le=1)] = 0.5
    # A call slower than this counts as slow, if it had one row or took several times as long as others of as many; the breaker
    # opens at `slow_ratio` of slow calls. A process that answers neither a call nor health for as long (2 s at most) is silent.
    slow_s: Annotated[float, _POSITIVE] = 2.0
    slow_ratio: ClassVar = 0.9
    open_s: Annotated[float, _POSITIVE] = 1.0
    # The open time doubles at each failed probe, up to this.
    max_open_s: Annotated[float, _POSITIVE] = 10.0
    probes: Annotated[int, _POSITIVE] = 2


@dataclass(frozen=True)
class LimiterRules:
    """Adaptive concurrency limit of one method at one replica (Vegas)."""

    initial: Annotated[int, _POSITIVE] = 32
    minimum: Annotated[int, _POSITIVE] = 4
    maximum: Annotated[int, _POSITIVE] = 512


@dataclass(frozen=True)
class RetryRules:
    """Retries of calls that failed as a whole."""

    attempts: Annotated[int, _POSITIVE] = 2
    # Retries allowed per ordinary call, and the reserve that a quiet client may spend; time refills it in 10 s.
    budget_ratio: Annotated[float, Bounds(ge=0, le=1)] = 0.1
    budget_reserve: ClassVar = 10.0
    # A call is sent to another replica too when its own has answered no call for this long, and no health check for as long;
    # within the budget as well.
    silent_s: ClassVar = 0.1
    # Doubles with each retry, up to 1 s.
    backoff_s: Annotated[float, _POSITIVE] = 0.01


@dataclass(frozen=True)
class CoalesceRules:
    """Natural batching at a client: when idle, a call is sent at once; when busy, waiting items are sent together.

    With a window of one, a batch also waits up to 12 ms for the callers that were just answered, if these usually
    call again at once.
    """

    # Calls in flight at once per key; while there are that many, rows wait and form a batch.
    window: Annotated[int, _POSITIVE] = 2
    # Calls beside the window per key, at most, while others last four times as long as usual: these hold up nobody.
    long_calls: Annotated[int, _NOT_NEGATIVE] = 16
    max_rows: Annotated[int, _POSITIVE] = 256
    max_bytes: Annotated[int, _POSITIVE] = 8 * 1024 * 1024
    # Rows that may wait; beyond, RESOURCE_EXHAUSTED.
    max_waiting_rows: Annotated[int, _POSITIVE] = 16_384


@dataclass(frozen=True)
class ClientRules:
    """One hop client: how a service reaches another."""

    # "unix:/path[,unix:/path…]", "unix-dir:/path" (each *.sock in it is a replica), "local" (same process),
    # "host:port[,host:port…]", or "dns:///name:port" (every address is a replica).
    target: str
    tls: TlsFiles | None = None
    # Name to check in the callee's certificate, if it is not the host's.
    server_name: str = ""
    default_timeout_s: Annotated[float, _POSITIVE] = 5.0
    resolve_every_s: Annotated[float, _POSITIVE] = 5.0
    max_message_bytes: Annotated[int, Bounds(ge=LEAST_MESSAGE_BYTES)] = 64 * 1024 * 1024
    # On one machine calls share a connection, if the callee offers it; otherwise they are an RPC each.
    exchange: bool = True
    breaker: BreakerRules = BreakerRules()
    limiter: LimiterRules = LimiterRules()
    retry: RetryRules = RetryRules()
    coalesce: CoalesceRules = CoalesceRules()
