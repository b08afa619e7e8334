"""`headrace keys revoke --wait`: it returns once every door has it, and names those that are not known to have it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from headrace.access import changes
from headrace.access.records import KEY, TENANT
from headrace.api.control.v1.resources_pb2 import WatchRequest
from headrace.cli.commands.access import control as asked
from headrace.cli.installation import layout
from headrace.hop.client.settings import ClientRules
from headrace.resources.bootstrap import follow
from headrace.resources.manifest import parse
from tests.hop_control import ThreadControl
from tests.libs.cli.released_home import run
from tests.live_access import Control, home_control
from tests.services.ingress.test_ingress_directory import ANYTHING


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Control]:
    with home_control(layout.of(tmp_path)) as control:
        yield control


def revoke(live: Control, key: str) -> Result:
    return run(live.folder, "keys", "revoke", "acme", key.split("_")[1], "--wait")


def watch(live: Control, service: str, name: str) -> None:
    """A process that has what is live now, and is never heard of again."""
    control = ThreadControl(ClientRules(live.target))
    found = parse(control.watch(WatchRequest(watcher=name, service=service), 30).manifest)
    request = WatchRequest(watcher=name, service=service, ready=True)
    at = found.position
    request.have.epoch, request.have.number, request.have.head = at.epoch, at.number, at.head
    control.watch(request, 30)
    control.close()


def test_it_returns_once_the_doors_have_it_and_names_those_that_have_not(
    live: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = live.put({"acme": ANYTHING})["acme"]
    control = ThreadControl(ClientRules(live.target))
    public = [(live.folder / "control.pub").read_bytes()]
    door = follow("ingress", "door that follows", public, control, data=(KEY, TENANT))
    try:
        watch(live, "router", "a router")  # which has no keys
        done = revoke(live, first)
        assert (done.exit_code, door.view.snapshot.names(KEY).count(f"acme/{first.split('_')[1]}")) == (0, 0)

        second = live.put({"acme": ANYTHING})["acme"]
        watch(live, "ingress", "door that is gone")
        monkeypatch.setattr(asked, "_PATIENCE_S", 0.3)
        late = revoke(live, second)
        assert late.exit_code == 1
        assert "is revoked" in late.stdout
        said = " ".join(late.stderr.split())
        assert "not known to have it yet: door that is gone (last heard of" in said
        assert "door that follows" not in said
        assert changes.keys_of(live.records, "acme") == []
    finally:
        door.close()
