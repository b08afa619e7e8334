"""What is counted as lost in a fault, and a sender that goes on whatever becomes of its requests."""

import argparse
import itertools
import time
from concurrent import futures

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from load.generator.poisson_client import PATH, PoissonClient, RequestResult
from load.scenarios.faults import Fault, services, told
from tests.system import poll

OK, AWAY, LATE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_was_hit_and_for_how_long() -> None:
    ended = [
        RequestResult(0, 99.0, 1.2, AWAY),  # due before, under way when it happened
        RequestResult(1, 100.1, 0.010, AWAY),
        RequestResult(2, 100.2, 0.020, OK),
        RequestResult(3, 101.5, 1.000, LATE),
        RequestResult(4, 102.5, 0.020, OK, fell_back=True),
        RequestResult(5, 104.0, 0.020, OK),
        RequestResult(6, 101.0, 0.001, BUSY),
    ]
    columns = told(Fault(100.0, 102.0), ended).split(" | ")
    assert columns == ["7", "3", "1", "1", "UNAVAILABLE 2, DEADLINE_EXCEEDED 1", "1000", "1200", "2.5", "0.5"]


def test_nothing_was_hit() -> None:
    assert told(Fault(100.0, 102.0), [RequestResult(0, 100.5, 0.01, OK)]).split(" | ")[1:] == [
        "0", "0", "0", "–", "–", "–", "–", "–",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "shape", "wanted", "found"),
    [
        ("kill", "together", [], ["ingress"]),
        ("stop", "together", [], []),
        ("kill", "apart", ["features", "ingress"], ["features", "ingress"]),
        ("stop", "apart", ["features", "ingress"], ["features"]),
    ],
)
def test_which_services(fault: str, shape: str, wanted: list[str], found: list[str]) -> None:
    assert services(fault, argparse.Namespace(shape=shape, services=wanted)) == found


class Door(grpc.GenericRpcHandler):
    """Answers every fourth call with UNAVAILABLE, and every fourth on a fallback."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        assert details.method == PATH
        return grpc.unary_unary_rpc_method_handler(
            self._answer, oip.ModelInferRequest.FromString, oip.ModelInferResponse.SerializeToString
        )

    def _answer(
        self, request: oip.ModelInferRequest, context: grpc.ServicerContext
    ) -> oip.ModelInferResponse:
        assert dict(context.invocation_metadata())["authorization"] == "Bearer key"
        number = next(self._numbers) % 4
        if number == 0:
            context.abort(AWAY, "away")
        reply = oip.ModelInferResponse(model_name=request.model_name)
        if number == 1:
            reply.parameters["fallbacks"].string_param = "features/weather:stale"
        return reply


def test_a_sender_keeps_its_rate_and_tells_how_each_ended() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Door(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    message = oip.ModelInferRequest(model_name="flights").SerializeToString()
    began = time.monotonic()
    try:
        with PoissonClient(f"127.0.0.1:{port}", "key", [message], 200.0, 5.0) as sending:
            poll("400 requests", lambda: len(sending.since(began)) >= 400)
            took = time.monotonic() - began
            server.stop(None).wait()
            poll(
                "failures",
                lambda: [e.code for e in sending.since(time.monotonic() - 0.2)][-20:] == [AWAY] * 20,
            )
    finally:
        server.stop(None)
    ended = sending.since(began)[:400]
    # Two seconds' worth; Poisson arrivals of 400 vary by 20, and a busy machine is late.
    assert 1.6 < took < 6
    assert sum(e.failed for e in ended) == pytest.approx(100, abs=5)
    assert sum(e.fell_back for e in ended) == pytest.approx(100, abs=5)
    assert len({e.number for e in ended}) == 400
