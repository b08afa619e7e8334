"""The SDK for programs on asyncio."""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import messages, tracing
from headrace.client.errors import of_fault
from headrace.client.options import CallValues, Key, Options
from headrace.client.results import Field, Outcome, OutcomeCounts, Pipeline, PredictResult
from headrace.client.stats import Recorder, Stats
from headrace.client.values import to_struct
from headrace.hop.call import Method, unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault

if TYPE_CHECKING:
    from headrace.client.options import OptionValues
    from headrace.client.results import ColumnsResult

Req = TypeVar("Req", pb.PredictRequest, pb.ListPipelinesRequest, pb.RecordOutcomesRequest)
Resp = TypeVar("Resp", pb.PredictResponse, pb.ListPipelinesResponse, pb.RecordOutcomesResponse)
Row = Mapping[str, Any]
# The server takes no more in one call.
_OUTCOMES_PER_CALL = 1000

# A prediction changes nothing on the server, so it may be retried.
_PREDICT = unary(pb.PredictRequest, pb.PredictResponse, idempotent=True)
_LIST = unary(pb.ListPipelinesRequest, pb.ListPipelinesResponse, idempotent=True)
# The first value of a prediction and name stays, so a repetition changes nothing.
_OUTCOMES = unary(pb.RecordOutcomesRequest, pb.RecordOutcomesResponse, idempotent=True)


class AsyncHeadrace:
    """A client of one headrace installation. Use it on one event loop; `async with` closes it.

    `target`: "host:port" (several with commas), "dns:///name:port" or "unix:/path". `key`: an API key, a token,
    or a function that gives one. Further keywords: see `Options`.
    """

    def __init__(self, target: str, *, key: Key | None = None, **options: Unpack[OptionValues]) -> None:
        self._target = target
        self._key = key
        self._options = Options(**options)
        self._credentials = self._options.credentials(target)
        self._recorder = Recorder(self._options.hook)
        self._client: Client | None = None
        self._fields: dict[str, dict[str, Field]] = {}

    async def predict(
        self, pipeline: str, rows: Row | Sequence[Row], **call: Unpack[CallValues]
    ) -> PredictResult:
        """Predictions for one row or several; further keywords: see `CallValues`.

        A row that fails has its `error` set; the other rows are not affected. Raises HeadraceError if the call fails,
        ValueError and TypeError for values that cannot be sent.
        """
        request = _request(pipeline, call)
        given = [rows] if isinstance(rows, Mapping) else rows
        request.rows.extend(to_struct(row) for row in given)
        reply = await self._predict(request, call)
        return messages.predict_result(reply)

    async def predict_columns(
        self, pipeline: str, columns: Mapping[str, Any], **call: Unpack[CallValues]
    ) -> ColumnsResult:
        """As `predict`, with one array or list per input, all of the same length: far cheaper for many rows. Needs numpy.

        Lists get the data type that the pipeline declares (requested once); arrays are sent with their own dtype.
        """
        from headrace.client import arrays

        request = _request(pipeline, call)
        untyped = any(not hasattr(values, "dtype") for values in columns.values())
        fields = await self._fields_of(pipeline, call.get("timeout_s")) if untyped else {}
        arrays.fill(request, columns, fields)
        reply = await self._predict(request, call)
        try:
            return arrays.columns_result(reply, request.row_count)
        except Fault as fault:
            broken = Fault(Code.INTERNAL, fault.reason, f"the reply can't be read: {fault.message}")
            raise of_fault(broken, request.request_id) from None

    async def pipelines(self, *, timeout_s: float | None = None) -> list[Pipeline]:
        """The pipelines that this key may use. Raises HeadraceError."""
        reply = await self._call(_LIST, pb.ListPipelinesRequest(), timeout_s, tracing.headers(None))
        return [messages.pipeline(message) for message in reply.pipelines]

    async def record_outcomes(
        self, outcomes: Iterable[Outcome], *, timeout_s: float | None = None
    ) -> OutcomeCounts:
        """Reports what became known of predictions, a thousand a call.

        Reporting the same twice is harmless: the first value of a prediction and name stays. Raises HeadraceError; what was
        stored by the calls before stays. Raises ValueError and TypeError for values that cannot be sent.
        """
        given, counts = list(outcomes), OutcomeCounts(0, 0)
        for start in range(0, len(given), _OUTCOMES_PER_CALL):
            request = messages.outcomes_request(given[start : start + _OUTCOMES_PER_CALL])
            reply = await self._call(_OUTCOMES, request, timeout_s, tracing.headers(None))
            counts = OutcomeCounts(counts.stored + reply.accepted_count, counts.unknown + reply.unknown_count)
        return counts

    def stats(self) -> Stats:
        """Calls, codes, retries and latency since the client was created."""
        return self._recorder.snapshot()

    async def close(self) -> None:
        """Closes the connections; calls in flight are cut off."""
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _predict(self, request: pb.PredictRequest, call: CallValues) -> pb.PredictResponse:
        headers, key = tracing.headers(call.get("traceparent")), call.get("idempotency_key")
        if key is not None:
            headers = (*headers, ("idempotency-key", key))
        return await self._call(_PREDICT, request, call.get("timeout_s"), headers, request.request_id)

    async def _call(
        self,
        method: Method[Req, Resp],
        request: Req,
        timeout_s: float | None,
        headers: tracing.Headers,
        request_id: str = "",
    ) -> Resp:
        deadline = time.monotonic() + (self._options.timeout_s if timeout_s is None else timeout_s)
        try:
            call = self._connected().unary(method)
            return await call(request, deadline=deadline, metadata=(*await self._authorization(), *headers))
        except Fault as fault:
            if fault.code is Code.INVALID_ARGUMENT:
                self._fields.clear()  # the cached inputs may belong to an older revision
            raise of_fault(fault, request_id) from None

    def _connected(self) -> Client:
        # Not in __init__: a client belongs to the running event loop, and this object may be created before it runs.
        if self._client is None:
            self._client = Client(
                "headrace",
                self._options.settings(self._target),
                observer=self._recorder,
                credentials=self._credentials,
            )
        return self._client

    async def _authorization(self) -> Sequence[tuple[str, str]]:
        key: str | Awaitable[str] | Callable[[], Any] | None = self._key
        if callable(key):
            key = key()
        if inspect.isawaitable(key):
            key = await key
        return (("authorization", f"Bearer {key}"),) if key else ()

    async def _fields_of(self, pipeline: str, timeout_s: float | None) -> Mapping[str, Field]:
        if pipeline not in self._fields:
            for found in await self.pipelines(timeout_s=timeout_s):
                self._fields[found.name] = {field.name: field for field in found.inputs}
        return self._fields.get(pipeline, {})


def _request(pipeline: str, call: CallValues) -> pb.PredictRequest:
    """Raises TypeError: there is no such keyword."""
    if unknown := sorted(call.keys() - CallValues.__annotations__.keys()):
        raise TypeError(f"a prediction has no keyword {unknown[0]!r}")
    return pb.PredictRequest(
        pipeline=pipeline,
        version=call.get("version", 0),
        # Created here, so that even a call without an answer has an id in all logs.
        request_id=call.get("request_id") or uuid.uuid4().hex,
        priority=call.get("priority") or 0,
    )
