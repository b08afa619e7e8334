"""What is live changes by a command and at the door while requests come: none fails, and the new version answers in seconds."""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.installation import layout
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


class Callers:
    """Ask without a pause until `stop`; what failed is in `failed`."""

    def __init__(self, system: System) -> None:
        self.failed: list[str] = []
        self.count = 0
        self._system = system
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(3)]
        for thread in self._threads:
            thread.start()

    def _ask(self, first: int) -> None:
        for i in range(first, 1 << 30):
            if self._stop.is_set():
                return
            rows = self._system.rows
            try:
                self._system.predict(row_request(rows[i % len(rows)]), timeout=30)
                self.count += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                self.failed.append(repr(error))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_deployment_and_the_way_back_fail_no_request(system: System, second: str) -> None:
    before = version(system)
    # That it was added changes nothing.
    assert before != second
    callers = Callers(system)
    try:
        said = headrace("release", "deploy", "flights", "--models", f"flights_light={second}", "--yes")
        assert f"arms.live.models.flights_light  {before}" in said
        poll("the new version answers", lambda: version(system) == second, WITHIN_S)
        told = f"(arm live) names flights_light version {second}; change it first"
        assert told in refused("models", "remove", "flights_light", second)

        # As a CI system does it.
        status, reply = post(system, "RollBackRelease", {"pipeline": "flights", "options": {"reason": "CI"}})
        assert (status, reply["change"]["changed"]) == (200, True)
        poll("the old version answers", lambda: version(system) == before, WITHIN_S)
    finally:
        callers.stop()
    assert callers.failed == []
    assert callers.count > 0
    listed = json.loads(headrace("release", "history", "flights", "--json"))
    assert listed["audit_problem"] is None
    newest, older = listed["releases"][:2]
    assert (newest["reason"], newest["author"].split("/")[0], newest["recorded"]) == ("CI", "operator", True)
    assert (older["arms"]["live"]["models"]["flights_light"], older["recorded"]) == (second, True)
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
