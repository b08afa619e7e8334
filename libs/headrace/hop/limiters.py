"""Who refuses what: the registry of every limiter in headrace.

A limiter refuses a call because something is full or used up, not because the call is wrong. Each refusal is made by
`Limiter.refusal`, so its metadata always has the key `limiter` with the name that stands here. LIMITERS.md is this registry
as a table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headrace.api.errors.v1 import errors_pb2
from headrace.hop.errors import Code, Fault, Reason, reason_name

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
    """One limiter. `bounds`: what it limits; `setting`: where the limit is set; `file`: the code that decides;
    `advice`: what a caller can do.

    `metadata_sent` is False where Envoy refuses by itself and sends an HTTP status without metadata.
    """

    name: str
    bounds: str
    setting: str
    file: str
    code: Code
    reason: errors_pb2.Reason
    advice: str
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
_AFTER_HINT = "retry after the hint"
_LESS = "retry after the hint, send less, or ask for a higher limit"

# The ingress, in the order in which a request meets them.
ENVOY_CONNECTIONS = Limiter(
    "envoy_connections",
    "connections to one ingress",
    "ingress `limits.max_connections`",
    "services/ingress/envoy/templates/door.yaml",
    _GONE,
    _OVERLOADED,
    "reuse connections",
    metadata_sent=False,
)
ENVOY_MEMORY = Limiter(
    "envoy_memory",
    "memory of Envoy and of what runs in its process",
    "ingress `limits.max_heap_bytes`",
    "services/ingress/envoy/templates/door.yaml",
    _GONE,
    _OVERLOADED,
    "retry with backoff",
    metadata_sent=False,
)
OPEN_CALLS = Limiter(
    "open_calls",
    "calls without a credential (health, reflection) in one ingress",
    "fixed: 256",
    "services/ingress/protocols/connect/streams.py",
    _GONE,
    _OVERLOADED,
    "retry after a second",
)
TENANT_CONCURRENCY = Limiter(
    "tenant_concurrency",
    "requests of a tenant in flight",
    "tenant's record `limits.concurrency`",
    "services/ingress/admission/quotas.py",
    _FULL,
    _QUOTA,
    _LESS,
)
ADMISSION = Limiter(
    "admission",
    "inferences in flight in one ingress; beside other tenants one of many rows counts as several",
    "ingress `admission`; tenant's record `priority`",
    "services/ingress/admission/admission_control.py",
    _FULL,
    _OVERLOADED,
    _AFTER_HINT,
)
ARRIVING_BYTES = Limiter(
    "arriving_bytes",
    "bytes of request bodies that are not complete",
    "ingress `limits.max_arriving_bytes`; one tenant: half",
    "services/ingress/protocols/body/bodies.py",
    _FULL,
    _OVERLOADED,
    _AFTER_HINT,
)
TENANT_ROWS = Limiter(
    "tenant_rows",
    "rows per second of a tenant",
    "tenant's record `limits.rows_per_s`, `rows_burst`",
    "services/ingress/admission/quotas.py",
    _FULL,
    _QUOTA,
    _LESS,
)
TENANT_BYTES = Limiter(
    "tenant_bytes",
    "bytes per second of a tenant",
    "tenant's record `limits.bytes_per_s`, `bytes_burst`",
    "services/ingress/admission/quotas.py",
    _FULL,
    _QUOTA,
    _LESS,
)
IDEMPOTENCY_KEYS = Limiter(
    "idempotency_keys",
    "idempotency keys of a tenant that are kept, and the bytes of their outcomes",
    "ingress `idempotency.max_keys`, `max_bytes`",
    "services/ingress/idempotency/calls.py",
    _FULL,
    # Not QUOTA_EXCEEDED, which is repeated to calls that have no key.
    Reason.REASON_IDEMPOTENCY_KEYS_FULL,
    "send no key, or wait until older ones end",
)
TENANT_QUERIES = Limiter(
    "tenant_queries",
    "different rows of a tenant per pipeline and UTC day (extraction guard)",
    "tenant's record `limits.distinct_queries_per_day`",
    "services/ingress/admission/extraction_guard.py",
    _FULL,
    Reason.REASON_QUERY_BUDGET_EXCEEDED,
    "wait for the next UTC day, or ask for a higher limit",
)
# Every client of hop.
BREAKER = Limiter(
    "breaker",
    "calls of a method to a callee that fails them or is silent",
    "caller's client settings `breaker`",
    "libs/headrace/hop/resilience/breaker.py",
    _GONE,
    Reason.REASON_BREAKER_OPEN,
    "retry after some seconds",
)
CLIENT_CONCURRENCY = Limiter(
    "client_concurrency",
    "calls of a method in flight to one replica, when they are not batched",
    "caller's client settings `limiter`",
    "libs/headrace/hop/resilience/limiter.py",
    _FULL,
    _OVERLOADED,
    "retry later, or send less",
)
CLIENT_QUEUE = Limiter(
    "client_queue",
    "rows that wait in a client for their batch; the lowest priority is refused first, then the tenant with most rows",
    "caller's client settings `coalesce.max_waiting_rows`",
    "libs/headrace/hop/batching/queue.py",
    _FULL,
    _OVERLOADED,
    "retry later, or send less",
)
# Every server of hop.
SERVER_CONCURRENCY = Limiter(
    "server_concurrency",
    "calls in flight in one service",
    "service's `server.max_concurrent_calls`",
    "libs/headrace/hop/server/stack.py",
    _FULL,
    _OVERLOADED,
    _AFTER_HINT,
)
STREAM_CALLS = Limiter(
    "stream_calls",
    "calls in flight on one stream between two processes",
    "fixed: 16384",
    "libs/headrace/hop/transport/stream_server.py",
    _FULL,
    _OVERLOADED,
    "wait for answers before sending more",
)
# The router, by a pipeline's release.
SESSION_ROWS = Limiter(
    "session_rows",
    "rows per second of one session (a value of the column `session_by`) in one router; in all with `caps.shared`",
    "release `caps.session_rows_per_s`",
    "services/router/routes/caps.py",
    _FULL,
    _QUOTA,
    _LESS,
)
PIPELINE_IN_FLIGHT = Limiter(
    "pipeline_in_flight",
    "rows of a pipeline in flight in one router; in all with `caps.shared`",
    "release `caps.rows_in_flight`",
    "services/router/routes/caps.py",
    _FULL,
    _QUOTA,
    _AFTER_HINT,
)
PIPELINE_ROWS = Limiter(
    "pipeline_rows",
    "rows per second of a pipeline in one router; in all with `caps.shared`",
    "release `caps.rows_per_s`",
    "services/router/routes/caps.py",
    _FULL,
    _QUOTA,
    _AFTER_HINT,
)
EXPLANATIONS = Limiter(
    "explanations",
    "rows that wait in one router until they are explained on request",
    "router `explanations.max_asked_rows`; one tenant: half",
    "services/router/explanations/turns.py",
    _FULL,
    _OVERLOADED,
    _AFTER_HINT,
)
# The executor.
MODEL_QUEUE = Limiter(
    "model_queue",
    "rows that wait for one model; the lowest priority is refused first",
    "executor `defaults` or `overrides.MODEL`: `max_queue_rows`",
    "services/executor/scheduling/queue.py",
    _FULL,
    _OVERLOADED,
    _AFTER_HINT,
)

# The console of the monitoring service.
CONSOLE_SIGN_IN = Limiter(
    "console_sign_in",
    "keys that open nothing, per address and in all, at the operator console",
    "fixed: 5 and one each 12 s an address, 30 and one each 2 s in all",
    "services/monitoring/console/access/attempts.py",
    _FULL,
    _QUOTA,
    "wait for the hint",
)

# Every limiter above; a new one cannot be forgotten here.
LIMITERS: Mapping[str, Limiter] = MappingProxyType(
    {found.name: found for found in tuple(globals().values()) if isinstance(found, Limiter)}
)


def table(limiters: Iterable[Limiter]) -> str:
    """The registry as a table in Markdown, in the order in which a request meets the limiters."""
    lines = [
        "| limiter | what it bounds | where it is set | who decides | code and reason | what a caller can do |",
        "|---|---|---|---|---|---|",
    ]
    for each in limiters:
        answer = f"{each.code.name} `{reason_name(each.reason)}`" if each.metadata_sent else "HTTP 503"
        file = f"[{each.file.rpartition('/')[2]}](../../../{each.file})"
        lines.append(
            f"| `{each.name}` | {each.bounds} | {each.setting} | {file} | {answer} | {each.advice} |"
        )
    return "\n".join(lines) + "\n"
