"""Thirty resources that crash, hang or are refused: each stops itself alone, and ends processes of one replica at most."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import TenantSpec, new_key
from headrace.catalog.remote import RemoteRecords
from services.control import wiring
from services.control.resources.followers import Followers
from tests.children import ends_with_tests
from tests.control_service import Here, control_here
from tests.libs.resources.control_history import PRIVATE, PUBLIC
from tests.live_access import CREATED

SCRIPT = Path(__file__).parents[2] / "libs" / "resources" / "crashing_process.py"
REPLICAS = 3
# How often one process ends by it, at most: also by what was new beside it.
ENDS = {"abort": 4, "exit": 8, "refuse": 0, "hang": 0}
ME = By("tests")
SPEC = TenantSpec(pipelines=("*",), scopes=("operate",))


class Supervisor:
    """Starts the process again when it ends. `ends`: how often it did, `most` at most."""

    most = 20

    def __init__(self, target: str, root: Path, proof_s: float) -> None:
        self._command = ends_with_tests(sys.executable, str(SCRIPT), target, str(root), str(proof_s))
        self.ends = 0
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def until_so(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until it is so, over the ends of processes."""
        while True:
            line = self._process.stdout.readline()
            if line and wanted(json.loads(line)):
                return
            if not line:
                self._process.stdout.close()
                assert self._process.wait(60) in (3, 4)
                self.ends += 1
                assert self.ends < self.most, "it ends again and again"
                self._process = self._start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    # However long a process takes to be back.
    monkeypatch.setattr(wiring, "Followers", partial(Followers, first_s=120.0))
    monkeypatch.setattr(Supervisor, "most", 200)
    with control_here(tmp_path / "control", keys=(PRIVATE, PUBLIC)) as found:
        yield found


@pytest.fixture
def replicas(control: Here, tmp_path: Path) -> Iterator[list[Supervisor]]:
    found = [Supervisor(control.target, tmp_path / "processes", 0.3) for _ in range(REPLICAS)]
    yield found
    for each in found:
        each.kill()


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    """They start processes again, which end with them."""
    with ThreadPoolExecutor(REPLICAS) as pool:
        yield pool


def added(records: RemoteRecords, text: str) -> str:
    """The name of a new key, which says this."""
    key = new_key(created=CREATED)[1].model_copy(update={"scopes": (f"operate:{text}",)})
    changes.add_key(records, "acme", key, lambda spec: spec or SPEC, ME)
    return f"acme/{key.id}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_each_ends_one_replica_and_nothing_else(
    control: Here, replicas: list[Supervisor], threads: ThreadPoolExecutor, rounds: int
) -> None:
    def until(where: str, name: str) -> None:
        """Until each says so of the key."""
        list(threads.map(lambda each: each.until_so(lambda found: name in found[where]), replicas))

    with closing(RemoteRecords(control.target)) as records:
        good = added(records, "good")
        until("keys", good)
        for poison in [*ENDS, *("abort" for _ in range(rounds > 1))] * rounds:
            before = [each.ends for each in replicas]
            bad = added(records, poison)
            until("problems", bad)
            good = added(records, "good")
            until("keys", good)
            ends = [each.ends - count for each, count in zip(replicas, before, strict=True)]
            # What ends a process only while it serves may reach others, if that takes longer than they wait for it.
            touched = sum(map(bool, ends))
            assert poison == "exit" or touched == bool(ENDS[poison]), (poison, ends)
            assert max(ends) <= ENDS[poison], (poison, ends)
