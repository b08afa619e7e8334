"""A home of the last landed version goes on with this one, service by service under traffic, and back again.

What is released stays released: no start trains, releases or changes an answer in a home that has a release.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from headrace.cli.installation import layout, services
from headrace.cli.supervision import deployed
from headrace.cli.supervision.deployed import Version
from tests import system as systems
from tests.faults.traffic import Traffic, kinds
from tests.generations import older
from tests.prepared import copy_prepared
from tests.released import store_at
from tests.system import System, row_request

# Four starts and fourteen restarts.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FLIGHTS, AT_ONCE = 500, 50
CLI = "from headrace.cli.main import app; app()"
NEW = Version(systems.ROOT)
# Of a refused start nothing may stay but what it says and the lock that it held.
OF_A_RUN = ("run", "prepare.lock")


class HomeSystem(System):
    """What runs in a home of its own, by whichever version."""

    def __init__(self, home: Path) -> None:
        super().__init__("apart")
        self.home = home

    def command(self, version: Version, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            version.command("-c", CLI, *arguments, "--home", str(self.home)),
            cwd=version.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=systems.COMMAND_S,
        )

    def done(self, version: Version, *arguments: str) -> str:
        done = self.command(version, *arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.done(NEW, "status", "--json")))

    @property
    def rows(self) -> list[dict[str, Any]]:
        lines = (self.home / "data" / "requests.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[:FLIGHTS]]

    def answers(self) -> list[tuple[Any, ...]]:
        """Of each flight its outputs to the bit, and what made them."""
        rows, found = self.rows, []
        for first in range(0, FLIGHTS, AT_ONCE):
            reply = self.predict(row_request(*rows[first : first + AT_ONCE]))
            made = (reply.revision, *((m.model, m.version, m.sha256) for m in reply.models))
            found += [(p.outputs["probability"], made) for p in reply.predictions]
        return found

    def released(self) -> tuple[Any, ...]:
        """The number and the content of what is live, and the models' files."""
        store = store_at(f"control:unix-dir:{layout.of(self.home).listed('control')}")
        live, _ = store.current("flights")
        return live, tree(self.home / "models")


def tree(folder: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The SHA-256 of each file, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in without
    }


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The last landed version, whose document allows a request as much time as a busy machine needs."""
    root = older.unpacked(tmp_path_factory.mktemp("old"))
    document = root / "deploy" / "pipelines" / "flights" / "pipeline.yaml"
    document.write_text(systems.deadline(document.read_text(), systems.PATIENT_MS))
    return Version(root, older.OLD)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, old: Version) -> Iterator[HomeSystem]:
    """A home that the old version made, stopped."""
    system = HomeSystem(tmp_path_factory.mktemp("home"))
    if systems.PREPARED is not None and systems.PREPARED.exists():
        copy_prepared(systems.PREPARED, system.home)
    (system.home / "settings").mkdir()
    for service, values in (("features", systems.PATIENT), ("router", systems.PATIENT_ROUTER)):
        (system.home / "settings" / f"{service}.yaml").write_text(yaml.safe_dump(values))
    system.done(old, "up")
    try:
        yield system
    finally:
        system.command(NEW, "down")


def test_a_home_goes_on_with_this_version_and_back(home: HomeSystem, old: Version) -> None:
    place = layout.of(home.home)
    released, answers = home.released(), home.answers()
    assert len(answers) == FLIGHTS
    home.done(old, "down")
    for service in services.start_order():
        deployed.put(place, service, old)
    home.done(NEW, "up")
    with Traffic(home) as traffic:
        for version in (None, old):
            for service in services.start_order():
                deployed.put(place, service, version)
                home.done(NEW, "restart", service, "--yes")
            assert home.released() == released
            assert home.answers() == answers
    assert {code for code, _, _ in kinds(traffic.outcomes)} == {grpc.StatusCode.OK.name}, kinds(
        traffic.outcomes
    )
    home.done(NEW, "down")
    for service in services.start_order():
        deployed.put(place, service, None)
    home.done(NEW, "up")
    assert (home.released(), home.answers()) == (released, answers)
    home.done(NEW, "down")
    _back(home, old, released, answers)


def _back(home: HomeSystem, old: Version, released: tuple[Any, ...], answers: list[tuple[Any, ...]]) -> None:
    """The old version starts as before, or it refuses before it has changed anything."""
    before = tree(home.home, OF_A_RUN)
    started = home.command(old, "up")
    if started.returncode:
        assert tree(home.home, OF_A_RUN) == before, started.stderr
        assert started.stderr.startswith("error: "), started.stderr
        home.done(NEW, "up")
    assert (home.released(), home.answers()) == (released, answers)
    home.done(old if not started.returncode else NEW, "down")
