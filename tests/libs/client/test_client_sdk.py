"""The SDK against a real server, also with TLS: what it sends, what it gives back, when it tries again and when not."""

import asyncio
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import (
    AsyncHeadrace,
    DeadlineExceededError,
    FeatureAge,
    Field,
    Headrace,
    HeadraceError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from headrace.client.options import Options
from headrace.client.prometheus import PrometheusHook
from headrace.client.stats import Recorder
from headrace.client.values import from_struct, to_struct
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness
from tests.libs.client.client_server import Inference, exhausted, unavailable
from tests.libs.hop.hop_certificates import Authority


async def test_rows_become_predictions(client: AsyncHeadrace, inference: Inference) -> None:
    rows: list[dict[str, Any]] = [
        {"x": 2, "carrier": "UA"},
        {"x": np.float32(0.5), "tail": None, "image": b"\x00\xff", "late": True},
    ]
    result = await client.predict("flights", rows, version=7, request_id="r-1", priority=5)

    sent = inference.seen[0]
    assert (sent.pipeline, sent.version, sent.request_id, sent.priority) == ("flights", 7, "r-1", 5)
    assert inference.keys == ["Bearer secret"]
    assert (result.request_id, result.version, result.revision) == ("r-1", 7, "abc")
    assert result.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert [(m.model, m.version, m.sha256, m.stage) for m in result.models] == [("light", "1", "ff", "light")]
    first, second = result.predictions
    assert first.outputs["y"] == 4.0
    assert second.outputs["echo"] == {"x": 0.5, "tail": None, "image": "AP8=", "late": True}
    assert first.fallbacks == ("weather:default",)
    assert first.feature_ages == {
        "planes": FeatureAge("present", 1500),
        "weather": FeatureAge("not_found", None),
    }
    assert first.error is None
    result.raise_for_errors()


async def test_one_row_and_a_request_id_of_its_own(client: AsyncHeadrace, inference: Inference) -> None:
    result = await client.predict("flights", {"x": 1.0})

    assert len(result.predictions) == 1
    assert result.request_id == inference.seen[0].request_id
    assert len(result.request_id) == 32


async def test_a_failed_row_fails_alone(client: AsyncHeadrace) -> None:
    result = await client.predict("flights", [{"x": 1}, {"x": -1}], request_id="r-2")

    assert result.predictions[0].error is None
    failure = result.predictions[1].error
    assert failure is not None
    assert (failure.code, failure.reason, failure.metadata) == (
        Code.INVALID_ARGUMENT,
        "INPUT_RANGE",
        {"input": "x"},
    )
    with pytest.raises(InvalidArgumentError, match="x is negative") as caught:
        result.raise_for_errors()
    assert caught.value.request_id == "r-2"


async def test_columns_keep_their_types_and_lists_take_the_pipelines(
    client: AsyncHeadrace, inference: Inference
) -> None:
    result = await client.predict_columns(
        "flights",
        {"x": [1, 2, 3], "z": np.arange(6, dtype=np.int64).reshape(3, 2), "carrier": ["UA", None, "é"]},
    )

    assert result.columns["x"].dtype == np.float32
    assert result.columns["z"].tolist() == [[0, 1], [2, 3], [4, 5]]
    carrier = result.columns["carrier"]
    assert isinstance(carrier, np.ma.MaskedArray)
    assert carrier.tolist() == ["UA", None, "é"]
    assert {row: e.reason for row, e in result.errors.items()} == {1: "FEATURE_UNAVAILABLE"}
    with pytest.raises(NotFoundError):
        result.raise_for_errors()
    await client.predict_columns("flights", {"x": [None, 2.5], "n": np.zeros(2)})
    assert inference.seen[1].columns[0].validity == b"\x02"
    assert inference.lists == 1
    with pytest.raises(ValueError, match="same number of rows"):
        await client.predict_columns("flights", {"x": np.zeros(2), "z": np.zeros(3)})


async def test_pipelines_are_described(client: AsyncHeadrace) -> None:
    (flights,) = await client.pipelines()

    assert (flights.name, flights.version, flights.description) == ("flights", 3, "late?")
    assert flights.inputs[0] == Field("x", "FLOAT32", (), False, "a number")
    assert flights.outputs[0].row_shape == (2,)


async def test_keys_may_come_from_functions(server: Harness, inference: Inference) -> None:
    async def asynchronous() -> str:
        return "from afar"

    for key in (lambda: "fresh", asynchronous, None):
        async with AsyncHeadrace(server.target, key=key) as client:
            await client.predict("flights", {"x": 1})
    assert inference.keys == ["Bearer fresh", "Bearer from afar", ""]


async def test_unavailable_is_tried_again(client: AsyncHeadrace, inference: Inference) -> None:
    inference.script = [unavailable(), unavailable()]
    await client.predict("flights", {"x": 1})

    assert len({r.request_id for r in inference.seen}) == 1
    stats = client.stats()
    assert (stats.calls, dict(stats.codes), stats.retries) == (1, {"OK": 1}, 2)


async def test_what_must_not_be_tried_again_is_not(client: AsyncHeadrace, inference: Inference) -> None:
    inference.script = [exhausted(), exhausted(-1), exhausted(60.0)]
    for hint in (None, -0.001, 60.0):
        with pytest.raises(ResourceExhaustedError) as caught:
            await client.predict("flights", {"x": 1}, request_id="r-3")
        error = caught.value
        assert (error.code, error.reason, error.metadata) == (
            Code.RESOURCE_EXHAUSTED,
            "QUOTA_EXCEEDED",
            {"q": "1"},
        )
        assert (error.retry_after_s, error.request_id) == (hint, "r-3")
        assert str(error) == "RESOURCE_EXHAUSTED QUOTA_EXCEEDED: quota (request r-3)"
    inference.script = [Fault(Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN, "no such pipeline")]
    with pytest.raises(NotFoundError):
        await client.predict("nothing", {"x": 1})
    assert len(inference.seen) == 4
    assert client.stats().retries == 0


async def test_a_journal_that_refuses_some_predictions_does_not_stop_the_others(
    server: Harness, inference: Inference
) -> None:
    refused = Fault(Code.UNAVAILABLE, Reason.REASON_JOURNAL_UNAVAILABLE, "regulated, and the disk is full")
    async with AsyncHeadrace(server.target, attempts=1) as client:
        inference.script.extend([refused] * 30)
        for _ in range(30):
            with pytest.raises(HeadraceError, match="the disk is full"):
                await client.predict("flights", [{"x": 1.0}])
        await client.predict("flights", [{"x": 1.0}])


async def test_every_call_has_a_deadline(server: Harness, inference: Inference) -> None:
    inference.script = [5.0, 5.0]
    async with AsyncHeadrace(server.target, timeout_s=0.05) as client:
        for timeout in (None, 0.02):
            with pytest.raises(DeadlineExceededError) as caught:
                await client.predict("flights", {"x": 1}, timeout_s=timeout)
            assert caught.value.reason == "DEADLINE_PASSED"
        assert dict(client.stats().codes) == {"DEADLINE_EXCEEDED": 2}


async def test_the_sync_client_serves_threads(server: Harness, inference: Inference) -> None:
    def work() -> list[float]:
        with Headrace(server.target, key="secret") as client:
            results: list[float] = []
            threads = [
                threading.Thread(
                    target=lambda i=i: results.append(  # i is bound now, not later
                        client.predict("flights", {"x": i}).predictions[0].outputs["y"]
                    )
                )
                for i in range(16)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.pipelines()[0].name == "flights"
            assert client.predict_columns("flights", {"x": np.ones(2)}).columns["x"].tolist() == [1.0, 1.0]
            assert client.stats().calls == 18
        with pytest.raises(RuntimeError, match="closed"):
            client.predict("flights", {"x": 1})
        client.close()
        return sorted(results)

    assert await asyncio.to_thread(work) == [2.0 * i for i in range(16)]


async def test_a_hook_hears_of_every_call(server: Harness, inference: Inference) -> None:
    registry = CollectorRegistry()
    inference.script = [unavailable()]
    async with AsyncHeadrace(server.target, hook=PrometheusHook(registry)) as client:
        await client.predict("flights", {"x": 1})

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headrace_client_{name}", labels)

    assert value("calls_total", method="Predict", code="OK") == 1
    assert value("retries_total", method="Predict") == 1
    assert value("call_seconds_count", method="Predict") == 1


def test_quantiles_are_right_to_five_percent() -> None:
    recorder = Recorder(None)
    assert math.isnan(recorder.snapshot().latency.p50)
    for i in range(1, 1001):
        recorder.finished("Predict", Code.OK, i / 1000)
    latency = recorder.snapshot().latency

    assert latency.p50 == pytest.approx(0.5, rel=0.06)
    assert latency.p90 == pytest.approx(0.9, rel=0.06)
    assert latency.p99 == pytest.approx(0.99, rel=0.06)
    assert (latency.max, latency.mean) == (1.0, pytest.approx(0.5005))


@pytest.mark.parametrize(
    ("target", "options", "secure"),
    [
        ("unix:/run/x", Options(), False),
        ("localhost:80,127.0.0.9:81,[::1]:82", Options(), False),
        ("localhost:80,10.0.0.1:81", Options(), True),
        ("predict.example.com:443", Options(), True),
        ("dns:///predict.example.com:443", Options(), True),
        ("predict.example.com:443", Options(tls=False), False),
        ("localhost:443", Options(tls=True), True),
    ],
)
def test_plaintext_only_on_this_machine_or_when_asked_for(
    target: str, options: Options, secure: bool
) -> None:
    assert (options.credentials(target) is not None) == secure


def test_contradictions_are_named() -> None:
    with pytest.raises(ValueError, match="drop one"):
        Options(tls=False, ca="ca.pem").credentials("localhost:1")


async def test_a_keyword_that_there_is_not_is_named() -> None:
    async with AsyncHeadrace("localhost:1") as client:
        with pytest.raises(TypeError, match="no keyword 'timeout'"):
            await client.predict("p", {}, timeout=3)  # type: ignore[call-arg]  # the point of the test


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_values_come_back_as_they_went(row: dict[str, object]) -> None:
    assert from_struct(to_struct(row)) == row


def test_integers_that_a_number_would_round_go_as_text() -> None:
    sent = from_struct(to_struct({"x": [2**53 - 1, 2**53, -(2**53) - 1]}))
    assert sent == {"x": [2**53 - 1, "9007199254740992", "-9007199254740993"]}


def test_values_that_cannot_be_sent_are_named() -> None:
    with pytest.raises(TypeError, match="x: a object can't be sent"):
        to_struct({"x": object()})


_LIGHT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "opentelemetry", "structlog", "yaml", "pydantic", "prometheus_client",
                                      "onnxruntime", "pandas", "uvloop", "google.rpc"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
from headrace.client import Headrace, UnavailableError
with Headrace("unix:/nonexistent/socket", key="k") as client:
    try:
        client.predict("flights", {"x": 1}, timeout_s=2)
    except UnavailableError as error:
        print("light", error.reason, len(error.request_id), client.stats().calls)
"""


def test_grpc_and_protobuf_are_enough() -> None:
    done = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True, timeout=60)

    assert done.stdout == "light UNREACHABLE 32 1\n", done.stderr


async def _predict(request: pb.PredictRequest, context: object) -> pb.PredictResponse:
    return pb.PredictResponse(request_id=request.request_id, pipeline=request.pipeline)


async def test_the_certificate_is_checked(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("door", "predict.example.com")
    stranger = Authority(tmp_path, "stranger")
    handler = grpc.unary_unary_rpc_method_handler(
        _predict, pb.PredictRequest.FromString, pb.PredictResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "headrace.api.inference.v1.InferenceService", {"Predict": handler}
            )
        ]
    )
    credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        target, name = f"127.0.0.1:{port}", "predict.example.com"
        async with AsyncHeadrace(target, ca=files.ca, server_name=name, key="k") as client:
            assert (await client.predict("flights", {"x": 1})).pipeline == "flights"
        for ca, wrong in ((stranger.ca, name), (files.ca, "other.example.com")):
            async with AsyncHeadrace(target, ca=ca, server_name=wrong) as client:
                with pytest.raises(UnavailableError):
                    await client.predict("flights", {"x": 1}, timeout_s=2)
    finally:
        await server.stop(None)
