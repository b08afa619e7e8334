"""Resources that end real processes: each process is started again, as a supervisor does, until it lives."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.resources.trials import CRASHED
from tests.children import ends_with_tests
from tests.libs.resources.control_history import History, SmallControl, key

SCRIPT = Path(__file__).with_name("crashing_process.py")


class Supervisor:
    """Starts the process again when it ends. `ends`: how often it did, `most` at most."""

    most = 20

    def __init__(self, target: str, root: Path, proof_s: float) -> None:
        self._command = ends_with_tests(sys.executable, str(SCRIPT), target, str(root), str(proof_s))
        self.ends = 0
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def until(self, wanted: dict[str, Any]) -> None:
        """Until the process serves so."""
        self.until_so(lambda found: found == wanted)

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
def control() -> SmallControl:
    history = History()
    history.change(*(key(f"k{i}", "good") for i in range(6)))
    return SmallControl(history)


@pytest.fixture
def supervisor(target: str, tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(target, tmp_path / "process", 1.0)
    supervisor.until({"keys": good(), "problems": {}})
    # It has proven itself once this is written.
    trials = tmp_path / "process" / "0" / "trials.json"
    while len(json.loads(trials.read_bytes())["proven"]) < 6:
        pass
    yield supervisor
    supervisor.kill()


def good(**others: str) -> dict[str, str]:
    return {**{f"k{i}": "good" for i in range(6)}, **others}


@pytest.mark.parametrize(("poison", "ends"), [("abort", 1), ("exit", 2)])
def test_ends_by_a_poison(poison: str, ends: int, control: SmallControl, supervisor: Supervisor) -> None:
    control.change(key("k1", poison))
    supervisor.until({"keys": good(), "problems": {"k1": CRASHED}})
    assert supervisor.ends == ends
    control.change(key("k2", "better"))
    supervisor.until({"keys": good(k2="better"), "problems": {"k1": CRASHED}})
    control.wait_for(lambda requests: [r.problem for r in requests[-1].rejected] == [CRASHED])
    control.change(key("k1", "mended"))
    supervisor.until({"keys": good(k1="mended", k2="better"), "problems": {}})
    assert supervisor.ends == ends


def test_several_poisons_at_once_are_all_found(control: SmallControl, supervisor: Supervisor) -> None:
    control.change(key("k0", "abort"), key("k1", "exit 1"), key("k2", "exit 2"), key("k3", "better"))
    wanted = good(k3="better")
    supervisor.until({"keys": wanted, "problems": dict.fromkeys(["k0", "k1", "k2"], CRASHED)})
    # The one that is compiled, all again, then the groups of one, of which two end a process.
    assert supervisor.ends <= 5
