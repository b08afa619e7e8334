"""Operators load and unload models through the real door, with tritonclient: router, executor, signatures and audit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout
from headrace.state.json_lines import entries
from tests.live_access import same_tenants_after
from tests.pipeline.test_other_peoples_clients import run
from tests.system import CLIENTS_PYTHON, HOME, ROOT, System, headrace, poll, row_request

SCRIPT = ROOT / "tests" / "clients" / "triton_repository.py"
EXTRA = HOME / "models" / "extra"
Ask = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def operator(system: System) -> Iterator[str]:
    """A key that may load and unload, and nothing else. The tenants are as before afterwards."""
    with same_tenants_after(layout.of(HOME)):
        yield headrace("keys", "create", "ops", "--scope", "operate").strip()


@pytest.fixture(params=["grpc", "http"])
def ask(request: pytest.FixtureRequest, system: System, operator: str) -> Ask:
    """Does steps with tritonclient over either protocol, as the operator unless told otherwise."""
    grpc = request.param == "grpc"
    target = system.endpoints["grpc_tls"] if grpc else system.endpoints["http"].removeprefix("http://")

    def steps(*steps: str, key: str = operator) -> list[Any]:
        printed = run(
            str(CLIENTS_PYTHON), str(SCRIPT), request.param, target, str(system.ca_file), key, *steps
        )
        return [json.loads(line) for line in printed.splitlines()]

    poll("the door knows the operator", lambda: isinstance(steps("index")[0], list))
    return steps


@pytest.fixture(scope="module")
def versions(system: System) -> Iterator[Path]:
    """A model that no pipeline knows: two signed versions, the second altered on the disk."""
    content = HOME / "models" / "flights_light" / "1" / "model.onnx"
    for _ in range(2):
        headrace("models", "add", "extra", str(content))
    altered = EXTRA / "2" / "model.onnx"
    kept = altered.read_bytes()
    altered.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        yield EXTRA
    finally:
        altered.write_bytes(kept)
        for version in "12":
            headrace("models", "remove", "extra", version)


@pytest.fixture
def extra(ask: Ask, versions: Path) -> Iterator[Path]:
    """That model, loaded by nobody before the test and after it."""
    yield versions
    ask("unload extra")


def audit() -> list[dict[str, str]]:
    """The lines about `extra`; raises if the chain is broken."""
    return [e for e in entries(HOME / "audit" / "models.jsonl") if e["model"] == "extra"]


def state(index: list[list[str]], version: str) -> str:
    [found] = [state for name, v, state in index if (name, v) == ("extra", version)]
    return found


def test_an_operator_loads_and_unloads(system: System, ask: Ask, extra: Path) -> None:
    before, loaded, during, unloaded, after = ask("index", "load extra:1", "index", "unload extra:1", "index")
    assert (state(before, "1"), state(during, "1"), state(after, "1")) == (
        "UNAVAILABLE",
        "READY",
        "UNAVAILABLE",
    )
    assert loaded is unloaded is None
    assert ["flights_light", "1", "READY"] in before
    told = [(e["event"], e["version"], e["operator"].partition("/")[0]) for e in audit()[-2:]]
    assert told == [("loaded", "1", "ops"), ("unloaded", "1", "ops")]


def test_an_altered_model_is_refused_and_recorded(system: System, ask: Ask, extra: Path) -> None:
    newest, named, unknown, index = ask("load extra", "load extra:2", "load extra:3", "index")
    for refused in (newest, named):
        assert refused["status"] in ("StatusCode.FAILED_PRECONDITION", "400")
        assert "model.onnx is not what was signed" in refused["message"]
        assert str(HOME) not in refused["message"]
    assert unknown["status"] in ("StatusCode.NOT_FOUND", "404")
    assert "there are: 1, 2" in unknown["message"]
    assert state(index, "2") == "UNAVAILABLE"
    told = [(e["event"], e["version"], e["operator"].partition("/")[0]) for e in audit()[-3:]]
    assert told == [("refused", "2", "ops"), ("refused", "2", "ops"), ("refused", "3", "ops")]
    assert system.predict(row_request(system.rows[0])).predictions[0].outputs["probability"] > 0
