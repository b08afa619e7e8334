"""Batches as messages: nothing is lost on the way, and nothing that comes can crash the reader."""

import math
import time
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.api.batch.v1 import batch_pb2 as pb
from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Column, DType, RowError, Rows, Timing, decode, encode, wire
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.columns.wire import MAX_ROWS
from headrace.hop.call import LOCAL_PEER, Call, InProcessPayload
from headrace.hop.errors import Code, Fault, Reason

T = TypeVar("T")
Item = BatchCall[tuple[str, int]]
CODEC: ColumnCodec[tuple[str, int], router_pb2.InferRequest, router_pb2.InferResponse] = ColumnCodec(
    lambda header: router_pb2.InferRequest(pipeline=header[0], version=header[1]), lambda: 100.0, "router"
)


@st.composite
def columns(draw: st.DrawFn, name: str, rows: int) -> Column:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    dtype = draw(st.sampled_from(list(DType)))
    valid = draw(
        st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows).map(lambda v: np.array(v, bool))
    )
    count = rows * math.prod(shape)
    if dtype is DType.BYTES:
        items = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        column = Column.of_bytes(name, items, shape)
        return Column(name, dtype, column.values, shape, valid)
    size = count * dtype.numpy.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    values = np.frombuffer(data, np.uint8).view(dtype.numpy if dtype is not DType.BOOL else np.uint8)
    return Column(
        name,
        dtype,
        (values & 1 if dtype is DType.BOOL else values).astype(dtype.numpy).reshape(rows, *shape),
        shape,
        valid,
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rows = draw(st.integers(0, 5))

    def each(values: st.SearchStrategy[T]) -> list[T]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    context = Rows(
        each(st.text(max_size=4)),
        each(st.text(max_size=4)),
        each(st.integers(0, 10)),
        each(st.integers(0, 3600).map(lambda s: 100.0 + s)),
        each(st.text(max_size=4)),
    )
    names = draw(st.sets(st.text(min_size=1, max_size=5), max_size=4))
    failed = draw(st.sets(st.integers(0, rows - 1))) if rows else set()
    errors = {
        i: RowError(Code.NOT_FOUND, Reason.REASON_INPUT_MISSING, "gone", "s", {"a": "b"}) for i in failed
    }
    timings = [Timing("stage", "service", 3, 4, rows, {"k": "v"})]
    return Batch(context, {n: draw(columns(n, rows)) for n in names}, errors, timings)


@given(batch=batches())
def test_a_batch_survives_the_wire(batch: Batch) -> None:
    message = pb.Batch.FromString(encode(batch, 100.0).SerializeToString())
    back = decode(message, 100.0)

    assert back.rows == batch.rows
    assert (dict(back.errors), list(back.timings)) == (dict(batch.errors), list(batch.timings))
    assert set(back.columns) == set(batch.columns)
    for name, column in batch.columns.items():
        found = back.columns[name]
        assert (found.dtype, found.row_shape, found.is_valid().tolist()) == (
            column.dtype,
            column.row_shape,
            column.is_valid().tolist(),
        )
        if column.dtype is DType.BYTES:
            assert found.ragged.to_list() == column.ragged.to_list()
        else:
            assert found.array.tobytes() == column.array.tobytes()


@given(batch=batches(), data=st.data())
def test_a_slice_survives_the_wire(batch: Batch, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(batch)))
    stop = data.draw(st.integers(start, len(batch)))
    part = batch.slice(start, stop)
    again = decode(encode(part, 100.0), 100.0)
    assert encode(again, 100.0) == encode(part, 100.0)


COLUMN = st.builds(
    pb.Column,
    name=st.sampled_from(["", "a", "b"]),
    data_type=st.integers(-1, 20),
    row_shape=st.lists(st.sampled_from([0, 1, 2, 1 << 16, (1 << 32) - 1]), max_size=4) | st.just([1] * 70),
    data=st.binary(max_size=32),
    offsets=st.lists(st.integers(0, 40) | st.just((1 << 32) - 1), max_size=6).map(
        lambda o: np.array(o, "<u4").tobytes()
    )
    | st.binary(max_size=9),
    validity=st.binary(max_size=2),
)
MESSAGE = st.builds(
    pb.Batch,
    rows=st.builds(
        pb.Rows,
        request_ids=st.lists(st.just("r"), max_size=3),
        tenants=st.lists(st.just("t"), max_size=3),
        priorities=st.lists(st.integers(0, (1 << 32) - 1), max_size=3),
        budgets_us=st.lists(st.integers(0, (1 << 64) - 1), max_size=3),
        traceparents=st.lists(st.just(""), max_size=3),
    )
    | st.integers(0, 3).map(
        lambda n: pb.Rows(
            request_ids=["r"] * n,
            tenants=["t"] * n,
            priorities=[1] * n,
            budgets_us=[1] * n,
            traceparents=[""] * n,
        )
    ),
    columns=st.lists(COLUMN, max_size=3),
    errors=st.lists(
        st.builds(pb.RowError, row=st.integers(0, 4), code=st.integers(0, 20), reason=st.integers(-1, 99)),
        max_size=2,
    ),
)


@given(message=MESSAGE)
@example(
    pb.Batch(
        columns=[pb.Column(name="a", data_type="DATA_TYPE_BOOL", row_shape=[0, 1 << 31, 1 << 31, 1 << 31])]
    )
)
@example(pb.Batch(columns=[pb.Column(name="a", data_type="DATA_TYPE_FLOAT64", row_shape=[1 << 31, 1 << 31])]))
@example(pb.Batch(columns=[pb.Column(name="a", data_type="DATA_TYPE_BYTES")]))
@example(
    pb.Batch(columns=[pb.Column(name="a", data_type="DATA_TYPE_BYTES", row_shape=[0], offsets=b"\0" * 4)])
)
def test_a_malformed_message_is_refused_and_nothing_else(message: pb.Batch) -> None:
    try:
        batch = decode(message, 0.0)
    except Fault as fault:
        assert fault.code is Code.INVALID_ARGUMENT  # noqa: PT017 - it may also be a good batch
        return
    assert {len(c) for c in batch.columns.values()} <= {len(batch)}
    decode(encode(batch, 0.0), 0.0)


def good() -> pb.Batch:
    rows = Rows.one_request(2, "r", "t", 1.0)
    return encode(
        Batch.of(rows, [Column.of("n", np.zeros(2, np.int32)), Column.of_text("t", ["a", "b"])]), 0.0
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: setattr(m.columns[0], "data", b"123"), "n"),
        (lambda m: setattr(m.columns[0], "data_type", 0), "n"),
        (lambda m: setattr(m.columns[0], "offsets", b"1234"), "n"),
        (lambda m: setattr(m.columns[0], "validity", b"12"), "n"),
        (lambda m: setattr(m.columns[0], "name", "t"), "t"),
        (lambda m: setattr(m.columns[1], "offsets", np.array([0, 2, 1], "<u4").tobytes()), "t"),
        (lambda m: setattr(m.columns[1], "offsets", np.array([0, 2, 2**32 - 1], "<u4").tobytes()), "t"),
        (lambda m: setattr(m.columns[1], "data", b"abc"), "t"),
    ],
)
def test_what_does_not_fit_is_named(change: object, named: str) -> None:
    message = good()
    assert callable(change)
    change(message)
    with pytest.raises(Fault) as caught:
        decode(message)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.metadata["column"] == named


def test_too_many_rows_are_refused_with_the_limit() -> None:
    count = MAX_ROWS + 1
    with pytest.raises(Fault) as caught:
        decode(pb.Batch(rows=pb.Rows(request_ids=[""] * count)))
    assert (caught.value.code, caught.value.metadata["limit"]) == (Code.RESOURCE_EXHAUSTED, str(MAX_ROWS))


def test_no_deadline_becomes_an_hour_and_a_passed_one_nothing() -> None:
    rows = Rows(["a", "b"], ["", ""], [1, 1], [math.inf, 5.0], ["", ""])
    assert list(encode(Batch(rows, {}), 10.0).rows.budgets_us) == [3_600_000_000, 0]


def call(*texts: str, deadline: float = 101.0, priority: int = 1, dtype: type = np.int32) -> Item:
    rows = Rows.one_request(len(texts), "-".join(texts), "tenant", deadline, priority, "trace")
    numbers: NDArray[Any] = np.arange(len(texts)).astype(dtype)
    return BatchCall(
        ("flights", 3), Batch.of(rows, [Column.of_text("t", list(texts)), Column.of("n", numbers)])
    )


def test_merged_call_deals_each_caller_its_own_rows() -> None:
    calls = [call("a"), call("bb", "", "cc"), call("d", deadline=103.0)]
    request = CODEC.merge(calls)

    assert (request.pipeline, request.version) == ("flights", 3)
    assert list(request.batch.rows.budgets_us) == [950_000] * 4 + [2_950_000]
    replies = CODEC.split(calls, router_pb2.InferResponse(batch=request.batch))
    assert [r.batch.columns["t"].text() for r in replies] == [["a"], ["bb", "", "cc"], ["d"]]
    assert [r.batch.columns["n"].array.tolist() for r in replies] == [[0], [0, 1, 2], [0]]
    assert [r.batch.rows for r in replies] == [c.batch.rows for c in calls]


def test_the_caller_keeps_some_of_each_rows_time() -> None:
    budgets = CODEC.merge([call("a", deadline=100.01), call("b", deadline=160.0)]).batch.rows.budgets_us

    assert list(budgets) == pytest.approx([9_500, 59_950_000], abs=1)


def test_row_errors_follow_their_rows() -> None:
    calls = [call("a"), call("b", "c")]
    message = CODEC.merge(calls).batch
    message.errors.add(row=2, code=int(Code.INVALID_ARGUMENT), reason=Reason.REASON_INPUT_RANGE, message="no")
    first, second = CODEC.split(calls, router_pb2.InferResponse(batch=message))

    assert dict(first.batch.errors) == {}
    assert {row: e.reason for row, e in second.batch.errors.items()} == {1: Reason.REASON_INPUT_RANGE}


@pytest.mark.parametrize(
    ("code", "reason", "stage", "share"),
    [
        (Code.INTERNAL, Reason.REASON_INTERNAL, "router", 0.5),
        (Code.UNAVAILABLE, Reason.REASON_DRAINING, "", 0.5),
        (Code.UNAVAILABLE, Reason.REASON_BREAKER_OPEN, "a stage of the pipeline", 0),
        (Code.INTERNAL, Reason.REASON_STEP_FAILED, "router", 0),
        (Code.INTERNAL, Reason.REASON_MODEL_FAILED, "router", 0),
        (Code.UNAVAILABLE, Reason.REASON_MODEL_FAILED, "router", 0.5),
        (Code.UNAVAILABLE, Reason.REASON_JOURNAL_UNAVAILABLE, "router", 0),
        (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, "router", 0),
        (Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, "router", 0),
        (Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "", 0),
    ],
)
def test_only_what_the_callee_itself_failed_counts_against_it(
    code: Code, reason: Reason, stage: str, share: float
) -> None:
    items = [call("a", "b"), call("c", "d")]
    reply = router_pb2.InferResponse(batch=CODEC.merge(items).batch)
    assert CODEC.failed(CODEC.split(items, reply)) == 0
    for row in (1, 3):
        reply.batch.errors.add(row=row, code=int(code), reason=reason, stage=stage)
    assert CODEC.failed(CODEC.split(items, reply)) == share


def test_within_a_process_the_same_goes_round_unwritten() -> None:
    items = [call("a", deadline=100.5), call("b", "c", priority=7)]
    written, (request, brought) = CODEC.merge(items), CODEC.load(items)

    assert (request.pipeline, request.version) == (written.pipeline, written.version)
    assert len(request.batch.rows.request_ids) == 0
    assert encode(brought, 100.0) == written.batch
    reply = router_pb2.InferResponse()
    wire = router_pb2.InferResponse(batch=written.batch)
    for mine, others in zip(CODEC.unload(items, reply, brought), CODEC.split(items, wire), strict=True):
        assert encode(mine.batch, 100.0) == encode(others.batch, 100.0)


def test_a_servicer_reads_and_answers_in_the_form_of_its_caller() -> None:
    batch = call("a", "b").batch
    request = CODEC.merge([call("a", "b")])
    afar, near = Call("/m", LOCAL_PEER), Call("/m", LOCAL_PEER, payload=InProcessPayload(batch))
    wanted, reply, empty = encode(batch, 100.0), router_pb2.InferResponse(), router_pb2.InferResponse()

    assert wire.read_request(request, near, 100.0) is batch
    assert list(wire.read_request(request, afar, 100.0).columns) == list(batch.columns)
    wire.write_reply(reply, batch, afar, 100.0)
    wire.write_reply(empty, batch, near, 100.0)
    assert reply.batch == wanted
    assert not empty.HasField("batch")
    assert near.payload is not None
    assert near.payload.returned is batch


def test_only_like_batches_share_a_call() -> None:
    key = CODEC.describe(call("a"))[0]
    assert key == CODEC.describe(call("b", "c"))[0]
    assert key != CODEC.describe(call("a", dtype=np.int64))[0]
    assert key != CODEC.describe(BatchCall(("flights", 4), call("a").batch))[0]
    assert key != CODEC.describe(BatchCall(("flights", 3), call("a").batch.select(["t"])))[0]


def test_an_item_is_as_large_and_as_urgent_as_its_rows() -> None:
    item = call("a", "bcd", deadline=time.monotonic(), priority=4)

    deadline = item.batch.rows.deadlines[0]
    assert CODEC.describe(item)[1:] == ("tenant", 2, 4 + 2 * 4, deadline, 4)
    assert CODEC.describe(BatchCall(item.header, item.batch.slice(1, 2)))[3] == 3 + 4
    item.batch.rows.tenants[1] = "other"
    assert CODEC.describe(item)[1] is None


def test_a_reply_that_has_other_rows_or_is_malformed_is_the_callees_fault() -> None:
    longer, malformed = (encode(call(*texts).batch, 100.0) for texts in ("ab", "a"))
    malformed.columns[1].data = b"x"
    for batch in (longer, malformed):
        with pytest.raises(Fault) as caught:
            CODEC.split([call("a")], router_pb2.InferResponse(batch=batch))
        assert caught.value.code is Code.INTERNAL
