"""Settings of a person's own that can't be used: the service that has them waits and says why; mended, it comes back."""

import os
import signal
from collections.abc import Iterator

import pytest
import yaml

from headrace.cli.installation import layout
from tests.faults.test_killed_services import RECOVERY_S
from tests.system import HOME, System, headrace, override, poll, refused, row_request

SERVICE = "postprocessing"
FILE = layout.of(HOME).override(SERVICE)


@pytest.fixture(autouse=True)
def _mended() -> Iterator[None]:
    yield
    override(SERVICE, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server:\n  drain_s: 5\n  listen: [\n", f"{FILE}, line 4, near the key 'listen': "),
        ("server:\n  drain_s: soon\n", "server.drain_s: Input should be a valid number"),
    ],
)
def test_a_killed_service_waits_for_its_settings_and_comes_back(system: System, text: str, says: str) -> None:
    before = system.running(SERVICE)
    FILE.write_text(text)
    # What runs is not touched.
    said = refused("restart", SERVICE)
    assert says in said
    assert "so the old one goes on" in said
    assert system.pid(SERVICE) == before
    os.kill(before, signal.SIGKILL)
    found = poll("the reason is told", lambda: system.services()[SERVICE]["trouble"])
    assert says in found
    assert f"{FILE}, line " in found
    assert says in headrace("status")
    assert says in refused("restart", SERVICE)
    override(SERVICE, {"server": {"drain_s": 5}})
    poll("it is ready", lambda: system.services()[SERVICE]["state"] == "ready", within_s=RECOVERY_S)
    poll("predictions come", lambda: system.predict(row_request(system.rows[0])).predictions)
    assert system.services()[SERVICE]["trouble"] is None


@pytest.mark.parametrize("system", ["together"], indirect=True)
def test_settings_of_a_service_inside_the_door_are_told_the_same_way(system: System) -> None:
    file = layout.of(HOME).override("ingress")
    text, before = file.read_text(), system.running("ingress")
    try:
        broken = yaml.safe_load(text)
        broken["together"]["executor"] = {"no_such_setting": 1}
        file.write_text(yaml.safe_dump(broken, sort_keys=False))
        line = file.read_text().splitlines().index("    no_such_setting: 1") + 1
        os.kill(before, signal.SIGKILL)
        found = poll("the reason is told", lambda: system.services()["ingress"]["trouble"])
        assert "together.executor.no_such_setting: Extra inputs are not permitted" in found
        assert f"{file}, line {line}" in found
    finally:
        file.write_text(text)
    poll("it is ready", lambda: system.services()["ingress"]["state"] == "ready", within_s=RECOVERY_S)
    poll("predictions come", lambda: system.predict(row_request(system.rows[0])).predictions)
