"""Causes in models: errors, quarantine, lost backends, cold starts, queues."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.installation import control_place
from headrace.columns import DType
from headrace.repository import TensorSpec, changes, publish
from tests.alerts.alarmed_system import PLACE, Alarmed
from tests.alerts.causes import Causes
from tests.libs.slo.alert_world import until
from tests.pipeline.test_rollouts import DOCUMENT as TABLE
from tests.repeated import repeated
from tests.services.executor.executor_models import lookup
from tests.services.executor.remote_servers import RemoteProcess, oip_server
from tests.system import HOME, add_document, headrace, remove_document, remove_models, restarted, tried

CAUSES = Causes()

_BROKEN = """\
pipeline: broken
version: 1
deadline_ms: 2000
inputs: {x: {type: float32, shape: [3]}}
stages:
  - {model: m, name: broken, inputs: {x: x}, outputs: {y: {column: y, type: float32, shape: [3]}}}
outputs: [y]
"""
_X, _Y = TensorSpec("x", DType.FLOAT32, (3,)), TensorSpec("y", DType.FLOAT32, (3,))


@contextmanager
def table(entries: int) -> Iterator[None]:
    """A pipeline of its own, whose model knows this many of its eight inputs."""
    file = HOME / "run" / "table.onnx"
    file.write_bytes(lookup(entries))
    headrace("models", "add", "table", str(file), "--version", "1")
    add_document("table", TABLE)
    try:
        yield
    finally:
        remove_document("table")
        remove_models("table", "1")


@CAUSES.add(ModelErrors={"model": "table"})
def half_a_table(alarmed: Alarmed) -> Iterator[None]:
    """A model that raises for rows that callers ask for."""
    with table(4), repeated(lambda: alarmed.asks("table", {"x": 7}, 4), 0.1):
        yield


@CAUSES.add(ModelQuarantined={"model": "broken"})
def not_a_model(_: Alarmed) -> Iterator[None]:
    """A file that is no model is signed, published and released, past `headrace models add`, which would refuse it."""
    about = publish(PLACE.models, "broken", "1", b"no model", inputs=[_X], outputs=[_Y], key=PLACE.model_key)
    with control_place.records(PLACE) as records:
        changes.add(records, about, "tests")
    add_document("broken", _BROKEN)
    tried("models", "load", "broken")
    try:
        yield
    finally:
        remove_document("broken")
        remove_models("broken", "1")


@contextmanager
def remote_first(alarmed: Alarmed, *standby: str, patience_s: float = 0.5) -> Iterator[RemoteProcess]:
    """The light model runs on another server."""
    file = HOME / "models" / "flights_light" / "1" / "model.onnx"
    with oip_server("flights_light", file) as server:
        client = {"target": server.target}
        models = {"flights_light": {"backends": ["remote:edge", *standby]}}
        servers = {"edge": {"client": client}}
        waits = {"patience_s": patience_s, "probe_s": 0.5}
        with restarted("executor", {"overrides": models, "servers": servers, **waits}, {}):
            yield server


@CAUSES.add(
    BackendFailover={"model": "flights_light"},
    Fallbacks={"pipeline": "flights"},
    BreakerOpen={"instance": "executor"},
)
def lost_backend(alarmed: Alarmed) -> Iterator[None]:
    """The server of the light model is killed; its standby takes over."""
    with remote_first(alarmed, "onnxruntime") as server:
        until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0]))
        server.process.kill()
        yield


@CAUSES.add(ColdStarts={})
def little_memory(alarmed: Alarmed) -> Iterator[None]:
    """Memory for one model only, and callers of two in turns."""
    small = restarted("executor", {"memory_budget_mib": 1}, {})
    with small, alarmed.traffic.of(None), table(8):
        row = alarmed.system.rows[0]

        def ask() -> None:
            alarmed.asks("table", {"x": 1})
            alarmed.asks("flights", row)

        with repeated(ask, 0.1):
            yield
