"""What is live changes by a command and at the door while requests come: none fails, and the new version answers in seconds."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from headrace.cli.installation import layout
from tests.faults.traffic import Traffic, kinds
from tests.system import HOME, System, headrace, poll, refused, row_request

WITHIN_S = 60.0
SERVICE = "headrace.api.releases.v1.ReleaseService"


@pytest.fixture
def second(system: System) -> Iterator[str]:
    """Another version of the model that is live, of the same bytes."""
    before = version(system)
    said = headrace(
        "models", "add", "flights_light", str(HOME / "models" / "flights_light" / before / "model.onnx")
    )
    added = said.split(" version ")[1].split(",")[0]
    yield added
    headrace("release", "deploy", "flights", "--models", f"flights_light={before}", "--yes")
    poll("the first version answers", lambda: version(system) == before, WITHIN_S)
    headrace("models", "remove", "flights_light", added)


def version(system: System) -> str:
    return str(system.predict(row_request(system.rows[0]), timeout=30).models[0].version)


def test_a_deployment_and_the_way_back_fail_no_request(system: System, second: str) -> None:
    before = version(system)
    # That it was added changes nothing.
    assert before != second
    with Traffic(system, workers=3) as traffic:
        said = headrace("release", "deploy", "flights", "--models", f"flights_light={second}", "--yes")
        assert f"arms.live.models.flights_light  {before}" in said
        poll("the new version answers", lambda: version(system) == second, WITHIN_S)
        told = f"(arm live) names flights_light version {second}; change it first"
        assert told in refused("models", "remove", "flights_light", second)

        # As a CI system does it.
        status, reply = post(system, "RollBackRelease", {"pipeline": "flights", "options": {"reason": "CI"}})
        assert (status, reply["change"]["changed"]) == (200, True)
        poll("the old version answers", lambda: version(system) == before, WITHIN_S)
    assert kinds(o for o in traffic.outcomes if o.code is not grpc.StatusCode.OK) == {}
    assert traffic.outcomes
    listed = json.loads(headrace("release", "history", "flights", "--json"))
    newest, older = listed["releases"][:2]
    assert (newest["reason"], newest["author"].split("/")[0]) == ("CI", "operator")
    assert older["arms"]["live"]["models"]["flights_light"] == second
    assert newest["restores"] < older["number"]


def post(system: System, name: str, body: object) -> tuple[int, dict]:
    """The status and the reply of a call with the operator's key, by curl."""
    key = Path(layout.of(HOME).operator_key).read_text().strip()
    command = ["curl", "-s", "-w", "\n%{http_code}", "-H", f"authorization: Bearer {key}"]
    command += ["-H", "content-type: application/json", "-d", json.dumps(body)]
    url = f"{system.endpoints['http']}/{SERVICE}/{name}"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=60, check=True)
    content, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(content)
