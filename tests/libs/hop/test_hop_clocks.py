"""What a message waited on its way is known to those who share its sender's clock, and to nobody else."""

import pytest

from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Rows, encode, wire
from headrace.hop.call import LOCAL_PEER, Call
from headrace.hop.transport import clocks

NOW = 1000.0


def told(sent: float, deadline: float) -> dict[str, str]:
    return dict(clocks.stamp(sent, deadline))


def test_a_stamp_is_read_where_the_clock_is_the_same() -> None:
    stamp = told(NOW - 3, NOW - 1)
    assert clocks.read(stamp[clocks.CLOCK_KEY], stamp[clocks.SENT_KEY], NOW) == (NOW - 3, NOW - 1)


def test_nobody_has_more_time_for_being_sent_in_the_future() -> None:
    stamp = told(NOW + 5, NOW + 6)
    assert clocks.read(stamp[clocks.CLOCK_KEY], stamp[clocks.SENT_KEY], NOW) == (NOW, NOW + 1)


@pytest.mark.parametrize("clock", [None, "", "0123456789abcdef"])
def test_the_stamp_of_another_clock_means_nothing(clock: str | None) -> None:
    assert clocks.read(clock, told(NOW - 3, NOW - 1)[clocks.SENT_KEY], NOW) is None


@pytest.mark.parametrize("sent", [None, "", "1", "1 2 3", "-1 2", "1 x", "9" * 30 + " 1"])
def test_a_stamp_that_is_none_is_left_out(sent: str | None) -> None:
    assert clocks.read(clocks.clock(), sent, NOW) is None


def test_rows_have_the_time_that_they_had_when_they_were_sent() -> None:
    batch = Batch.of(Rows.one_request(1, "r", "t", NOW + 0.5), [])
    request = router_pb2.InferRequest(batch=encode(batch, NOW))
    waited, unknown = Call("/m", LOCAL_PEER), Call("/m", LOCAL_PEER)
    waited.sent = NOW
    assert wire.read_request(request, waited, NOW + 2).rows.deadlines == pytest.approx([NOW + 0.5])
    assert list(waited.request_ids) == ["r"]
    assert wire.read_request(request, unknown, NOW + 2).rows.deadlines == pytest.approx([NOW + 2.5])
