"""A model moves to its standby: every form of answer says so, and which backend ran it."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.cli.installation import layout
from headrace.client import Headrace
from headrace.oip import open_inference_pb2 as oip
from headrace.state import traces
from tests.pipeline.refusals import oip_request
from tests.services.executor.remote_servers import RemoteProcess, oip_server
from tests.system import HOME, System, headrace, poll, restarted, row_request

MODEL = HOME / "models" / "flights_light" / "1" / "model.onnx"
FALLBACK = "model/light:standby"


@pytest.fixture
def remote(system: System) -> Iterator[RemoteProcess]:
    """Another server, on which the light model runs first."""
    with oip_server("flights_light", MODEL) as server:
        settings = {
            "overrides": {"flights_light": {"backends": ["remote:edge", "onnxruntime"]}},
            "servers": {"edge": {"client": {"target": server.target}}},
            "patience_s": 0.5,
        }
        with restarted("executor", settings, {}):
            yield server


def test_a_failover_reaches_the_caller(system: System, remote: RemoteProcess) -> None:
    row = calm_row(system)
    poll("the other server runs it", lambda: ran(system, row) == ("remote:edge", False, []))
    assert parameters(system, row)["backends"] == "remote:edge"
    remote.process.send_signal(signal.SIGKILL)
    remote.process.wait()
    assert ran(system, row) == ("onnxruntime", True, [FALLBACK])
    told = parameters(system, row)
    assert (told["backends"], told["fallbacks"]) == ("onnxruntime", FALLBACK)
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        answer = client.predict("flights", [row])
        assert (answer.models[0].backend, answer.models[0].standby) == ("onnxruntime", True)
        assert answer.predictions[0].fallbacks == (FALLBACK,)
    inputs = [part for name, value in row.items() for part in ("-i", f"{name}={json.dumps(value)}")]
    assert "onnxruntime (standby)" in headrace("predict", "flights", *inputs)
    shown = json.loads(headrace("predict", "flights", "--json", *inputs))
    assert shown["models"][0]["standby"] is True
    trace = poll("the trace is written", lambda: traces.find(layout.of(HOME).traces, shown["trace_id"]))
    light = next(span for span in trace["spans"] if span["name"] == "light")
    assert light["attributes"]["standby"] == "true"


def calm_row(system: System) -> dict[str, Any]:
    """A row that needs no fallback while all is well."""
    rows = system.rows[:200]
    answers = system.predict(row_request(*rows)).predictions
    return next(
        r for r, a in zip(rows, answers, strict=True) if set(a.fallbacks) <= {FALLBACK} and all(r.values())
    )


def ran(system: System, row: dict[str, Any]) -> tuple[str, bool, list[str]]:
    answer = system.predict(row_request(row))
    [model] = answer.models
    return model.backend, model.standby, list(answer.predictions[0].fallbacks)


def parameters(system: System, row: dict[str, Any]) -> dict[str, str]:
    answer: oip.ModelInferResponse = system.infer(oip_request(row))
    return {name: value.string_param for name, value in answer.parameters.items()}
