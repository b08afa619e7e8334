"""Requests that leave in groups get what each would get alone: answers, errors, counts, log lines, spans. A form is recognized by
its bytes only where the message means what it says."""

import asyncio
import random
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Column, RowError, decode, encode
from headrace.hop.call import Call
from headrace.hop.errors import Code, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import REGULATED, parse
from services.ingress import wiring
from services.ingress.documents.catalog import Catalog
from services.ingress.oip.groups.calls import GroupedInfer
from services.ingress.oip.groups.form import Forms
from services.ingress.oip.request import read_columns
from services.ingress.oip.response import raw_contents
from services.ingress.protocols.arrivals import Arrivals
from services.ingress.protocols.body.codecs import Codec
from services.ingress.request_context import RequestContext
from tests.services.ingress.ingress_asgi import Opened, ask, opened
from tests.services.ingress.ingress_calls import OIP
from tests.services.ingress.ingress_door import PIPELINE, FakeRouter, infer_request
from tests.services.ingress.test_ingress_decisions import DECISIONS

CATALOG = Catalog({"double": parse(PIPELINE, "double.yaml")})
# So many lines and traces of these are written in a second, and no more.
_LIMITED = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


class ManyWays(FakeRouter):
    """What each row gets depends on its `n`: the arm, models, fallbacks, feature, age of a kept answer, an error for 7."""

    async def Infer(self, request: router_pb2.InferRequest, call: Call) -> router_pb2.InferResponse:
        batch = decode(request.batch)
        n = batch.columns["n"].array
        columns = [
            Column.of("y", batch.columns["x"].array * np.float32(2)),
            Column.of("big", n > 4),
            batch.columns["word"].renamed("said"),
            Column.of("@source/weather", np.where(n % 4 == 1, 3, 1).astype(np.uint8)),
            Column.of("@age_us/weather", np.full(len(batch), 5000, np.int64)),
            Column.of("@fallbacks", (n % 4).astype(np.uint64)),
            Column.of("@decision", (n % 3).astype(np.uint32)),
            Column.of("@models/m", np.where(n == 2, 1, 3).astype(np.uint32)),
        ]
        if (n == 5).any():
            columns.append(Column.of("@cached_us", np.where(n == 5, 9_000_000, -1).astype(np.int64)))
        said = "its events are on the disk" if REGULATED in batch.columns else "no weather"
        failed = RowError(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, said, "store")
        errors = dict.fromkeys(np.flatnonzero(n == 7).tolist(), failed)
        reply = Batch(batch.rows, {c.name: c for c in columns}, errors)
        return router_pb2.InferResponse(
            batch=encode(reply), fallbacks=["store_down", "late"], decisions=DECISIONS
        )


class Recorder:
    """In place of the log and of the exporter of spans."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.traces: list[Mapping[str, Any]] = []

    def bind(self, **_: Any) -> "Recorder":
        return self

    def is_enabled_for(self, _: int) -> bool:
        return False

    def info(self, event: str, **fields: Any) -> None:
        if event == "request" and fields["code"] not in _LIMITED:
            self.lines.append(
                {k: _timeless(v) for k, v in fields.items() if k not in ("trace_id", "duration_ms")}
            )

    warning = error = debug = info

    def write(self, traces: Sequence[Mapping[str, Any]]) -> None:
        self.traces += traces

    def spans(self) -> Counter[str]:
        """Each without what differs in each run: identities and times; and how many rows left together."""
        return Counter(
            str(
                (
                    trace["request_id"],
                    span["name"],
                    span["service"],
                    span["status"],
                    _steady(span["attributes"]),
                )
            )
            for trace in self.traces
            for span in trace["spans"]
            if trace["spans"][0]["status"] not in _LIMITED
        )


def _steady(attributes: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted((k, _timeless(v)) for k, v in attributes.items() if k not in ("batch_rows", "request_id"))


def _timeless(text: Any) -> Any:
    return re.sub(r"(try again in )?[0-9.:]+( m?s)?", "", text) if isinstance(text, str) else text


class Door:
    """A door in this process."""

    def __init__(self, door: Opened, recorder: Recorder) -> None:
        self._door, self.recorder = door, recorder

    def counts(self) -> dict[tuple[str, str], float]:
        samples = [s for m in self._door.runtime.telemetry.registry.collect() for s in m.samples]
        return {
            (s.name, str(sorted(s.labels.items()))): s.value
            for s in samples
            if re.match(r"headrace_ingress_(requests|rows|refusals)|headrace_request_seconds_count", s.name)
            and not s.name.endswith("_created")
        }

    async def ask(self, one: "Asked") -> tuple[Any, ...]:
        """Status, reason and message of a failure; else the message."""
        headers = {**one.headers, "authorization": f"Bearer {getattr(self._door.keys, one.tenant)}"}
        _, found, body = await ask(self._door.application, OIP + "ModelInfer", one.body, headers)
        del found[b"content-type"]
        status = found.pop(b"grpc-status")
        if status == b"0":
            return found, str(pb.ModelInferResponse.FromString(body[5:]))
        details = found.pop(b"grpc-status-details-bin", None)
        message = _timeless(found.pop(b"grpc-message").decode())
        return status, message, details is not None, found.get(b"x-request-id")


class Asked:
    """One drawn request."""

    def __init__(self, draw: random.Random, number: int) -> None:
        rows = draw.choice([1, 1, 1, 1, 2, 3])
        x = [
            [draw.choice([1.5, -2.0, 1001.0, float("nan")] if draw.random() < 0.2 else [3.0, 4.5])] * 2
            for _ in range(rows)
        ]
        n = [draw.choice([0, 1, 2, 3, 4, 5, 6, 7, 12]) for _ in range(rows)]
        word = draw.choice(
            [None, [draw.choice([b"ab", b"", "ü".encode(), b"\xff", b"w" * 17]) for _ in range(rows)]]
        )
        request = infer_request(x, n, word, id=draw.choice(["", f"own-{number}", "not a token"]))
        if draw.random() < 0.3:
            for name in draw.choice([["y"], ["said", "big"], ["nothing"]]):
                request.outputs.add(name=name)
        if draw.random() < 0.2:
            request.parameters["priority"].uint64_param = draw.choice([1, 9])
        if draw.random() < 0.1:
            request.model_version = draw.choice(["3", "8", "x"])
        data = request.SerializeToString()
        self.tenant = draw.choice(["demo"] * 6 + ["rowwise", "readonly", "other", "regulated", "budgeted"])
        self.body = struct.pack(">BI", 0, len(data)) + data
        self.headers = {"content-type": "application/grpc", "x-request-id": f"r-{number}", "te": "trailers"}
        if draw.random() < 0.1:
            self.headers["traceparent"] = f"00-{draw.getrandbits(128):032x}-{draw.getrandbits(64):016x}-01"
        if draw.random() < 0.1:
            self.headers["x-plan"] = draw.choice(["gold", "w" * 300])
        if draw.random() < 0.05:
            self.headers["grpc-timeout"] = "1u"
        if draw.random() < 0.1:
            self.headers["idempotency-key"] = f"key-{number % 3}"


@asynccontextmanager
async def recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    recorder = Recorder()
    monkeypatch.setattr(wiring, "_exporters", lambda _: [recorder])
    # No trace because a request took long.
    traces = {"folder": str(path / "traces"), "slow_s": 600.0}
    options: dict[str, Any] = {"traces": traces, "attributes": {"plan": "x-plan"}, "log_ratio": 1.0}
    async with opened(path, ManyWays(), log=recorder, deadline_ms=60_000, **options) as found:
        yield Door(found, recorder)


@pytest.mark.asyncio
async def test_a_group_answers_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, served = random.Random(22), Counter[str]()
    read = GroupedInfer.read

    async def noted(self: GroupedInfer, message: bytes, codec: Codec, context: RequestContext) -> Any:
        if grouping:
            found = await read(self, message, codec, context)
            served[type(found).__name__] += 1
            return found
        return await codec.read(message, pb.ModelInferRequest)

    monkeypatch.setattr(GroupedInfer, "read", noted)
    async with (
        recorded(tmp_path / "one", monkeypatch) as alone,
        recorded(tmp_path / "all", monkeypatch) as together,
    ):
        for first in range(0, 2000, 50):
            several = [Asked(draw, number) for number in range(first, first + 50)]
            grouping = False
            expected = [await alone.ask(one) for one in several]
            grouping = True
            found = await asyncio.gather(*(together.ask(one) for one in several))
            for one, wanted, got in zip(several, expected, found, strict=True):
                assert got == wanted, one.body
        assert together.counts() == alone.counts()
    assert served["FormedRequest"] > 1000
    assert Counter(map(str, together.recorder.lines)) == Counter(map(str, alone.recorder.lines))
    assert together.recorder.spans() == alone.recorder.spans()


bits = st.binary(max_size=6)


@given(
    st.integers(1, 3),
    st.binary(min_size=1, max_size=20),
    st.sampled_from(["", "a", "ab" * 80, "ü"]),
    st.integers(0, 400),
    bits,
    st.booleans(),
)
def test_a_form_reads_what_the_parser_reads(
    rows: int, word: bytes, request_id: str, at: int, put: bytes, instead: bool
) -> None:
    """Of any message near to one of a known form."""
    forms = Forms(CATALOG, lambda: 0.0)
    for name in ("first", ""):
        request = infer_request([[1, 2]] * rows, [3] * rows, [b"w"] * rows, id=name)
        forms.learn(request.SerializeToString(), request, "t")
    message = infer_request([[5, 6]] * rows, [7] * rows, [word] * rows, id=request_id).SerializeToString()
    assert forms.find(message, "t") is not None or len(request_id.encode()) > 127 or not request_id.isascii()
    at %= len(message)
    changed = message[:at] + put + message[at + len(put) * instead :]
    found = forms.find(changed, "t")
    if found is None:
        return
    parsed = pb.ModelInferRequest.FromString(changed)
    columns, count = read_columns(parsed, found.form.entry, 100)
    read = found.form.lanes[False].columns([found])
    assert (parsed.id, parsed.model_name, count) == (found.id, "double", found.form.rows)
    assert list(read) == list(columns)
    for name, column in columns.items():
        assert values_of(read[name]) == values_of(column)


def values_of(column: Column) -> tuple[object, ...]:
    return column.name, column.dtype, column.row_shape, raw_contents(column)


class Counted(bytes):
    """Counts how often it is read."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)


def test_a_length_that_never_ends_is_not_read_to_its_end() -> None:
    forms = Forms(CATALOG, lambda: 0.0)
    request = infer_request([[1, 2]], [3], [b"w"])
    message = request.SerializeToString()
    forms.learn(message, request, "t")
    endless = Counted(message[: message.index(b"\x3a") + 1] + b"\xff" * 1000)
    assert forms.find(endless, "t") is None
    assert endless.reads < 100


def test_forms_of_one_tenant_are_bounded_and_forgotten() -> None:
    now = [0.0]
    forms = Forms(CATALOG, lambda: now[0])

    def knows(number: int) -> bool:
        request = infer_request([[1, 2]], [3], [b"w"])
        request.parameters["number"].int64_param = number
        message = request.SerializeToString()
        forms.learn(message, request, "greedy")
        return forms.find(message, "greedy") is not None

    assert [knows(i) for i in range(40)] == [True] * 32 + [False] * 8
    now[0] = 31.0
    assert knows(39)


def test_a_message_is_waited_for_as_long_as_its_tenant_s_come_soon() -> None:
    arrivals = Arrivals()
    first = arrivals.begin("shop", 1.0)
    assert arrivals.soon(1.003)
    assert not arrivals.soon(1.004)
    arrivals.end(first, 1.2)
    for late in range(100):
        now = 2.0 + late
        arrival = arrivals.begin("slow", now)
        if not arrivals.soon(now):
            break
        arrivals.end(arrival, now + 0.1)
    assert 5 < late < 20
    arrivals.begin("shop", now)
    assert arrivals.soon(now)


def test_a_tenant_whose_messages_come_soon_again_is_waited_for_again() -> None:
    arrivals = Arrivals()
    for i in range(300):
        arrivals.end(arrivals.begin("slow", float(i)), i + (0.1 if i < 100 else 0.001))
    arrivals.begin("slow", 300.0)
    assert arrivals.soon(300.0)
    assert not arrivals._prompt
