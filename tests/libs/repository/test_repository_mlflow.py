"""Importing from MLflow: a real server where there is one, and answers as one would rather not get them."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.repository import RepositoryError
from headrace.repository.model_import.mlflow import Registry
from tests.children import ends_with_tests
from tests.web_server import Answer, Request, web_server

# `make test` does not install it: 90 packages. `uv venv .venv/mlflow` and `uv pip install mlflow onnx onnxruntime` do.
MLFLOW = Path(__file__).parents[3] / ".venv" / "mlflow" / "bin"
API = "/api/2.0/mlflow/"
PLACE = "mlflow-artifacts:/0/models/m-1/artifacts"
FILES = "/api/2.0/mlflow-artifacts/artifacts/0/models/m-1/artifacts/"
VERSION = {"model_version": {"name": "double", "version": "1", "run_id": "r1"}}
# As MLflow 3.17 answers.
ANSWERS: dict[str, Any] = {
    f"{API}model-versions/get?name=double&version=1": VERSION,
    f"{API}registered-models/alias?name=double&alias=champion": VERSION,
    f"{API}model-versions/get-download-uri?name=double&version=1": {"artifact_uri": PLACE},
    f"{API}runs/get?run_id=r1": {
        "run": {
            "data": {"metrics": [{"key": "auc", "value": 0.75}], "params": [{"key": "depth", "value": "3"}]}
        }
    },
    f"{FILES}MLmodel": b"flavors:\n  onnx: {data: model.onnx}\n",
    f"{FILES}model.onnx": b"the model",
}


@contextmanager
def answering(changes: dict[str, Any] | None = None) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server on a free port; yields its address and the Authorization headers that it saw."""
    answers, seen = {**ANSWERS, **(changes or {})}, []

    def answer(request: Request) -> Answer:
        seen.append(request.headers.get("authorization", ""))
        content = answers.get(request.path)
        status = content if isinstance(content, int) else 200 if content is not None else 404
        if status == 404:
            content = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return status, {"Location": "http://127.0.0.1:1/elsewhere"}, body

    with web_server(answer) as address:
        yield address, seen


@pytest.mark.parametrize("reference", ["models:/double/1", "models:/double@champion"])
def test_a_model_comes_with_what_is_known_about_it(reference: str) -> None:
    with answering() as (address, seen):
        found = Registry(address, "secret").fetch(reference)
    assert (found.name, found.version, found.content) == ("double", "1", b"the model")
    assert found.metrics == {"auc": 0.75}
    assert found.lineage["mlflow"] == {"name": "double", "version": "1", "run_id": "r1"}
    assert found.lineage["parameters"] == {"depth": "3"}
    assert set(seen) == {"Bearer secret"}


def test_credentials_of_the_address_are_sent_and_not_kept() -> None:
    with answering() as (address, seen):
        found = Registry(address.replace("//", "//me:pass@")).fetch("models:/double/1")
    assert set(seen) == {"Basic bWU6cGFzcw=="}
    assert "pass" not in json.dumps(found.lineage)


MLMODEL = f"{FILES}MLmodel"
URI = f"{API}model-versions/get-download-uri?name=double&version=1"
GET = f"{API}model-versions/get?name=double&version=1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({GET: 404}, "MLflow answered 404: not found"),
        ({GET: 302}, "MLflow answered 302"),
        ({GET: b"<html>"}, "answered no JSON"),
        ({GET: b"[]"}, "lacks what it should have"),
        ({GET: {"model_version": {}}}, "lacks what it should have"),
        ({URI: {"artifact_uri": "/srv/mlflow/0"}}, "which is the server's own"),
        ({URI: {"artifact_uri": "file:///etc"}}, "which is the server's own"),
        ({MLMODEL: b"flavors: {sklearn: {}}"}, "has no ONNX flavour"),
        ({MLMODEL: b"{{"}, "has no ONNX flavour"),
        ({MLMODEL: b"flavors: {onnx: {data: ../../../../etc/passwd}}"}, "is no file name"),
        ({f"{FILES}model.onnx": 403}, "MLflow answered 403"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], says: str) -> None:
    with answering(changes) as (address, _), pytest.raises(RepositoryError, match=says):
        Registry(address).fetch("models:/double/1")


@pytest.mark.skipif(not MLFLOW.exists(), reason="MLflow is not installed in .venv/mlflow (make peers)")
def test_a_real_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [str(MLFLOW / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(ends_with_tests(*command), stdout=log, stderr=log, cwd=tmp_path)
        try:
            _answers(address, server)
            subprocess.run(
                [str(MLFLOW / "python"), Path(__file__).with_name("mlflow_logging.py"), address],
                check=True,
                capture_output=True,
                timeout=120,
            )
            found = Registry(address).fetch("models:/double@champion")
        finally:
            server.terminate()
            server.wait(30)
    assert (found.name, found.version, found.metrics) == ("double", "1", {"auc": 0.75})
    assert found.lineage["parameters"] == {"depth": "3"}
    assert found.content.startswith(b"\x08\x08")


def _answers(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")
