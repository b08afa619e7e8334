"""One trace per request, made afterwards from the timings that came back with its batch.

Rows travel in shared batches, so no service can record a span for a single request while it works. The router reports
how long each stage took. The request's own spans are made here from these times, only if the trace is wanted: if the
request was sampled, failed or slow. All other requests cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from headrace.columns import Batch, RowError, Timing
from headrace.hop.errors import reason_name
from services.ingress.faults import http_status
from services.ingress.request_context import RequestContext, new_span_id

Failure: TypeAlias = tuple[RowError, int]
"""The first error of some rows, and how many there are."""
REST = "/v2/"
"""Where the paths of the Open Inference Protocol's REST form begin; others are those of RPCs."""
_MAX_PATH = 256


def record(context: RequestContext, started_unix_us: int, duration_us: int) -> dict[str, Any]:
    """The trace of one finished request.

    {request_id, trace_id, spans: [{name, service, span_id, parent_id, start_unix_us, duration_us, status, attributes}]}
    """
    trace, answer, fault = context.trace, context.result, context.fault
    failed = {} if answer is None else _failed(answer.batch)
    attributes = {
        "request_id": context.request_id,
        "tenant": context.tenant,
        "pipeline": context.pipeline,
        **_http(context),
    }
    if context.client_id:
        attributes["client_request_id"] = context.client_id
    if fault is not None:
        attributes |= {"reason": reason_name(fault.reason), "message": fault.message}
    root = _span(
        context.method,
        "ingress",
        trace.span_id,
        trace.parent,
        started_unix_us,
        duration_us,
        "OK" if fault is None else fault.code.name,
        attributes,
    )
    spans = [root]
    if answer is not None:
        if failed and fault is None:
            # Answered, but some rows failed. The request as a whole failed only if all rows failed.
            _mark(root, failed.values(), whole=len(answer.batch.errors) == len(answer.batch))
        start = started_unix_us + int(answer.router_start_s * 1e6)
        rows = str(len(answer.batch))
        # Named like the spans within a stage: the call, and the service that did the work. A stage may also be named `router`.
        call = _span(
            "Infer",
            "router",
            new_span_id(),
            trace.span_id,
            start,
            int(answer.router_s * 1e6),
            "OK",
            {"rows": rows},
        )
        spans.append(call)
        behind = {stage: failure for stage, failure in failed.items() if stage}
        if behind:
            _mark(call, behind.values())
        spans += _stages(answer.batch.timings, start, call, behind)
    return {"request_id": context.request_id, "trace_id": trace.trace_id, "spans": spans}


def _http(context: RequestContext) -> dict[str, str]:
    """The request as HTTP has it, whatever its protocol; nothing if its path is not known."""
    path, fault, kind = context.path, context.fault, context.headers.get(b"content-type", b"")
    if not path:
        return {}
    grpc = kind.startswith(b"application/grpc") or not (kind or path.startswith(REST))
    status = 200 if grpc or fault is None else http_status(fault)
    return {"url.path": path[:_MAX_PATH], "http.response.status_code": str(status)}


def _failed(batch: Batch) -> dict[str, Failure]:
    """For each stage ("": the door itself), the first error of the request's rows there, and the number of failed rows."""
    found: dict[str, Failure] = {}
    for _, error in sorted(batch.errors.items()):
        first, rows = found.get(error.stage, (error, 0))
        found[error.stage] = first, rows + 1
    return found


def _mark(span: dict[str, Any], failures: Iterable[Failure], *, whole: bool = True) -> None:
    """Records in a span that rows failed in it: the first error and their number. `whole`: the span itself failed, too."""
    failures = list(failures)
    error = failures[0][0]
    if whole:
        span["status"] = error.code.name
    told = {"reason": reason_name(error.reason), "message": error.message}
    span["attributes"] = {**span["attributes"], **told, "failed_rows": str(sum(n for _, n in failures))}


def _stages(
    timings: Sequence[Timing],
    origin: int,
    call: Mapping[str, Any],
    failed: Mapping[str, Failure],
) -> list[dict[str, Any]]:
    """Spans of the stages; the parent of "a/b" is "a"."""
    spans: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    # The batch may have started after this request began to wait for it: shift its times so that it ends with the call.
    end = max((t.start_us + t.duration_us for t in timings), default=0)
    origin += max(int(call["duration_us"]) - end, 0)
    for timing in sorted(timings, key=lambda t: t.stage.count("/")):
        identity = new_span_id()
        ids.setdefault(timing.stage, identity)
        parent = ids.get(timing.stage.rpartition("/")[0], call["span_id"])
        attributes = {**timing.attributes, "batch_rows": str(timing.row_count)}
        name = timing.stage.rpartition("/")[2]
        start = origin + timing.start_us
        span = _span(name, timing.service, identity, parent, start, timing.duration_us, "OK", attributes)
        if timing.stage in failed:
            _mark(span, [failed[timing.stage]])
        spans.append(span)
    return spans


def _span(
    name: str,
    service: str,
    identity: str,
    parent: str,
    start_us: int,
    duration_us: int,
    status: str,
    attributes: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "name": name,
        "service": service,
        "span_id": identity,
        "parent_id": parent,
        "start_unix_us": start_us,
        "duration_us": duration_us,
        "status": status,
        "attributes": dict(attributes),
    }
