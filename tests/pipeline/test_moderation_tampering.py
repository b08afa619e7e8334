"""A model's file is exchanged in a running home: nothing that is served changes, and nothing new is served from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.state.json_lines import entries
from tests.system import HOME, System, row_request, tried

MODEL = HOME / "models" / "flights_light"


@pytest.fixture
def exchanged() -> Iterator[Path]:
    """The newest version's file, exchanged for another model's; put back afterwards."""
    newest = max((p for p in MODEL.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    file = newest / "model.onnx"
    kept = file.read_bytes()
    file.write_bytes((HOME / "models" / "open_nsfw" / "1" / "model.onnx").read_bytes())
    try:
        yield file
    finally:
        file.write_bytes(kept)


def flights(system: System) -> str:
    [answer] = system.predict(row_request(system.rows[0])).predictions
    assert not answer.HasField("error"), answer.error
    return str(answer.outputs["probability"])


def test_an_exchanged_model_is_refused_and_the_old_one_goes_on(system: System, exchanged: Path) -> None:
    before = flights(system)
    service = "executor" if system.shape == "apart" else "ingress"

    restarted = tried("restart", service)
    verified = tried("models", "verify", "flights_light")

    assert restarted.returncode == 1
    assert "the old one goes on" in restarted.stderr
    assert "model.onnx is not what was signed" in " ".join(restarted.stderr.split())
    assert verified.returncode == 1
    assert "refused model 'flights_light'" in verified.stdout
    assert flights(system) == before
    refusals = [e for e in entries(HOME / "audit" / "models.jsonl") if e["event"] == "refused"]
    assert [(e["who"].partition(" ")[2], e["model"]) for e in refusals[-2:]] == [
        ("", "flights_light"),
        ("(headrace models)", "flights_light"),
    ]
