"""Who refuses what: the registry of every limiter in headrace.

A limiter refuses a call because something is full or used up, not because the call is wrong. Each refusal is made by
`Limiter.refusal`, so its metadata always has the key `limiter` with the name that stands here. LIMITERS.md says of each what it
bounds, where it is set, who decides and what a caller can do; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headrace.api.errors.v1 import errors_pb2
from headrace.hop.errors import Code, Fault, Reason

KEY = "limiter"
# The reasons that only limiters give.
REASONS = frozenset(
    {
        Reason.REASON_QUOTA_EXCEEDED,
        Reason.REASON_QUERY_BUDGET_EXCEEDED,
        Reason.REASON_OVERLOADED,
        Reason.REASON_BREAKER_OPEN,
        Reason.REASON_IDEMPOTENCY_KEYS_FULL,
    }
)


@dataclass(frozen=True, slots=True)
class Limiter:
    """One limiter. `metadata_sent` is False where Envoy refuses by itself and sends an HTTP status without metadata."""

    name: str
    code: Code
    reason: errors_pb2.Reason
    metadata_sent: bool = True

    def metadata(self, **more: str) -> dict[str, str]:
        """The metadata of a refusal: the limiter's name, then `more`."""
        return {KEY: self.name, **more}

    def refusal(self, message: str, /, *, retry_after_s: float | None = None, **metadata: str) -> Fault:
        """The Fault of a refusal. `retry_after_s`: hint when to try again."""
        return Fault(
            self.code, self.reason, message, metadata=self.metadata(**metadata), retry_after_s=retry_after_s
        )


_FULL, _GONE = Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE
_QUOTA, _OVERLOADED = Reason.REASON_QUOTA_EXCEEDED, Reason.REASON_OVERLOADED

# The ingress, in the order in which a request meets them.
ENVOY_CONNECTIONS = Limiter("envoy_connections", _GONE, _OVERLOADED, metadata_sent=False)
ENVOY_MEMORY = Limiter("envoy_memory", _GONE, _OVERLOADED, metadata_sent=False)
OPEN_CALLS = Limiter("open_calls", _GONE, _OVERLOADED)
TENANT_CONCURRENCY = Limiter("tenant_concurrency", _FULL, _QUOTA)
ADMISSION = Limiter("admission", _FULL, _OVERLOADED)
ARRIVING_BYTES = Limiter("arriving_bytes", _FULL, _OVERLOADED)
TENANT_ROWS = Limiter("tenant_rows", _FULL, _QUOTA)
TENANT_BYTES = Limiter("tenant_bytes", _FULL, _QUOTA)
# Not QUOTA_EXCEEDED, which is repeated to calls that have no key.
IDEMPOTENCY_KEYS = Limiter("idempotency_keys", _FULL, Reason.REASON_IDEMPOTENCY_KEYS_FULL)
TENANT_QUERIES = Limiter("tenant_queries", _FULL, Reason.REASON_QUERY_BUDGET_EXCEEDED)
# Every client of hop.
BREAKER = Limiter("breaker", _GONE, Reason.REASON_BREAKER_OPEN)
CLIENT_CONCURRENCY = Limiter("client_concurrency", _FULL, _OVERLOADED)
CLIENT_QUEUE = Limiter("client_queue", _FULL, _OVERLOADED)
# Every server of hop.
SERVER_CONCURRENCY = Limiter("server_concurrency", _FULL, _OVERLOADED)
# The router, by a pipeline's release.
SESSION_ROWS = Limiter("session_rows", _FULL, _QUOTA)
PIPELINE_IN_FLIGHT = Limiter("pipeline_in_flight", _FULL, _QUOTA)
PIPELINE_ROWS = Limiter("pipeline_rows", _FULL, _QUOTA)
EXPLANATIONS = Limiter("explanations", _FULL, _OVERLOADED)
# The executor.
MODEL_QUEUE = Limiter("model_queue", _FULL, _OVERLOADED)
# The console of the monitoring service.
CONSOLE_SIGN_IN = Limiter("console_sign_in", _FULL, _QUOTA)

# Every limiter above; a new one cannot be forgotten here.
LIMITERS: Mapping[str, Limiter] = MappingProxyType(
    {found.name: found for found in tuple(globals().values()) if isinstance(found, Limiter)}
)
