"""Clients that know nothing of headrace work unmodified: tritonclient, perf_analyzer, buf curl, curl, Connect's (gRPC-Web)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from connectrpc.client import ConnectClientSync
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.compression import Compression
from connectrpc.compression.gzip import GzipCompression
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.pipeline.flights_store import recomputed, stored
from tests.system import CLIENTS_PYTHON, PREDICT, ROOT, System, client_environment, row_request

BUF = Path(sys.executable).parent / "buf"
PERF_ANALYZER = CLIENTS_PYTHON.parent / "perf_analyzer"
INPUTS = ROOT / "load" / "flights_inputs.json"
ROWS = 3


def run(*command: str, timeout: float = 60) -> str:
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=client_environment(),
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # perf_analyzer is a script: what it has started would outlive it, and goes on asking with ever more memory.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"{' '.join(command)}\n{output[-3000:]}\n{errors[-3000:]}"
    return output


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_tritonclient(system: System, protocol: str) -> None:
    target = (
        system.endpoints["grpc_tls"]
        if protocol == "grpc"
        else system.endpoints["http"].removeprefix("http://")
    )
    _predicts(system, "triton_client.py", protocol, target)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="kserve has no release for Python 3.14")
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_client_of_kserve(system: System, protocol: str) -> None:
    target = system.endpoints["grpc_tls" if protocol == "grpc" else "http"]
    _predicts(system, "kserve_client.py", protocol, target)


def _predicts(system: System, script: str, *arguments: str) -> None:
    program = str(ROOT / "tests" / "clients" / script)
    given = [*arguments, str(system.ca_file), system.key, json.dumps(asked(system))]
    answer = json.loads(run(str(CLIENTS_PYTHON), program, *given))
    assert answer["model_name"] == "flights"
    assert answer["probabilities"] == pytest.approx(expected(system), abs=1e-6)


def asked(system: System) -> list[dict[str, Any]]:
    """Different flights, so that no constant answer could be right."""
    return system.rows[:ROWS]


def expected(system: System) -> list[float]:
    """Their probabilities, recomputed with no service between."""
    version = system.predict(row_request(system.rows[0])).models[0].version
    found = [recomputed(row, stored(row), version) for row in asked(system)]
    assert len(set(found)) == ROWS
    return found


@pytest.mark.parametrize("concurrency", [1, 64])
def test_perf_analyzer(system: System, concurrency: int, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    run(
        str(PERF_ANALYZER), "-m", "flights", "-i", "grpc", "-u", system.endpoints["grpc"],
        "--input-data", str(INPUTS), "--concurrency-range", str(concurrency), "-H", f"authorization:Bearer {system.key}",
        "--measurement-mode", "count_windows", "--measurement-request-count", "200", "--stability-percentage", "999",
        "--max-trials", "3", "-f", str(report),
    )  # fmt: skip
    header, line = report.read_text().splitlines()[:2]
    figures = dict(zip(header.split(","), line.split(","), strict=False))
    assert float(figures["Inferences/Second"]) > 0


def test_buf_curl_by_reflection(system: System) -> None:
    base = ["--protocol", "grpc", "--http2-prior-knowledge"]
    target = f"http://{system.endpoints['grpc']}"
    services = run(str(BUF), "curl", *base, "--list-services", target)
    assert "headrace.api.inference.v1.InferenceService" in services.split()
    assert "inference.GRPCInferenceService" in services.split()
    body = json.dumps({"pipeline": "flights", "rows": asked(system)})
    answer = run(
        str(BUF), "curl", *base, "-H", f"Authorization: Bearer {system.key}", "-d", body,
        f"{target}/headrace.api.inference.v1.InferenceService/Predict",
    )  # fmt: skip
    assert probabilities(json.loads(answer)) == pytest.approx(expected(system), abs=1e-6)


def probabilities(answer: dict[str, Any]) -> list[float]:
    """Of a PredictResponse as JSON; in the order of the rows."""
    assert all(prediction["features"] for prediction in answer["predictions"])
    return [prediction["outputs"]["probability"] for prediction in answer["predictions"]]


@pytest.mark.parametrize("compression", [None, GzipCompression()], ids=["plain", "gzip"])
def test_grpc_web_as_a_page_in_a_browser_sends_it(system: System, compression: Compression | None) -> None:
    service, _, name = PREDICT[1:].partition("/")
    method = MethodInfo(
        name=name,
        service_name=service,
        input=pb.PredictRequest,
        output=pb.PredictResponse,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    )
    request = row_request(*system.rows[:ROWS])
    with ConnectClientSync(
        system.endpoints["http"],
        protocol=ProtocolType.GRPC_WEB,
        codec=google_protobuf_binary_codec(),
        send_compression=compression,
    ) as client:
        headers = {"authorization": f"Bearer {system.key}"}
        answer = client.execute_unary(request=request, method=method, headers=headers, timeout_ms=5000)
    found, expected = (
        [p.outputs["probability"] for p in reply.predictions] for reply in (answer, system.predict(request))
    )
    assert found == expected
