import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Column, Rows, encode, wire
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.hop.call import LOCAL_PEER, Call, InProcessPayload
from headrace.hop.errors import Code, Fault, Reason

Item = BatchCall[tuple[str, int]]

CODEC: ColumnCodec[tuple[str, int], router_pb2.InferRequest, router_pb2.InferResponse] = ColumnCodec(
    lambda header: router_pb2.InferRequest(pipeline=header[0], version=header[1]), lambda: 100.0, "router"
)


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


def test_a_reply_with_another_number_of_rows_is_the_callees_fault() -> None:
    response = router_pb2.InferResponse(batch=encode(call("a", "b").batch, 100.0))
    with pytest.raises(Fault) as caught:
        CODEC.split([call("a")], response)
    assert caught.value.code is Code.INTERNAL


def test_a_malformed_reply_is_the_callees_fault() -> None:
    response = router_pb2.InferResponse(batch=encode(call("a").batch, 100.0))
    response.batch.columns[1].data = b"x"
    with pytest.raises(Fault) as caught:
        CODEC.split([call("a")], response)
    assert caught.value.code is Code.INTERNAL
