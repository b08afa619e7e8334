"""In the place of a process that died: nothing is measured twice, and what is ready serves while the rest is loaded."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.errors import Code, Fault, Reason
from headrace.repository import Artifact, Repository
from headrace.repository.records import MEASURED, Checked, Records
from services.executor.backends import onnxruntime
from services.executor.check import fingerprint
from services.executor.config import ModelSettings
from services.executor.execution.model import Model
from services.executor.lifecycle.activation import Activator
from tests.children import ends_with_tests
from tests.services.executor.executor_caller import WITHIN_S, Caller, batch, calling, codes, ys
from tests.services.executor.executor_models import put

_SERVING = """
import sys, time
from pathlib import Path
from headrace.repository.records import Records
Records(Path(sys.argv[1])).begin()
print("serves", flush=True)
time.sleep(600)
"""


@pytest.fixture
async def state(models: Path, tmp_path: Path) -> Path:
    """Of an executor that has served two models, and ended as it should."""
    state = tmp_path / "state"
    for name in ("double", "held"):
        put(models, name)
        known = fingerprint(Repository(models).read(name, "1"), ModelSettings())
        Records(state).note(known, Checked(good=True))
    async with calling(models, state=state, start_s=WITHIN_S) as caller:
        assert {m.name for m in await caller.models()} == {"double", "held"}
    return state


def die(state: Path) -> None:
    """An executor with this state is killed."""
    command = ends_with_tests(sys.executable, "-c", _SERVING, str(state))
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"serves\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


class Gate(threading.Event):
    """Until it is set, but at most so long, the load of the model "held" goes no further."""

    patience_s = 2.0


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, activate = Gate(), Activator.activate

    def wait(self: Activator, artifact: Artifact, *rest: Any) -> Model:
        if artifact.metadata.name == "held":
            gate.wait(gate.patience_s)
        return activate(self, artifact, *rest)

    monkeypatch.setattr(Activator, "activate", wait)
    return gate


async def test_what_is_ready_serves_while_the_rest_is_loaded(models: Path, state: Path, gate: Gate) -> None:
    die(state)
    gate.patience_s = WITHIN_S
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        for version in ("", "1"):
            with pytest.raises(Fault, match="still being loaded") as caught:
                await caller(batch(1.0), "held", version)
            assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.REASON_MODEL_LOADING)
            assert caught.value.retry_after_s
        gate.set()
        assert ys(await loaded(caller, "held")) == [2.0]


async def loaded(caller: Caller, *model: str) -> Any:
    """The answer of the model, once it is loaded."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with suppress(Fault):
                return await caller(batch(1.0), *model)
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("gate")
async def test_beside_a_process_that_serves_it_serves_when_all_are_loaded(models: Path, state: Path) -> None:
    other = Records(state)
    assert not other.begin()
    die(state)
    try:
        async with calling(models, state=state) as caller:
            assert ys(await caller(batch(1.0), "held")) == [2.0]
    finally:
        other.end()


async def test_after_a_clean_end_it_serves_when_all_are_loaded(models: Path, state: Path, gate: Gate) -> None:
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0), "held")) == [2.0]


async def test_nothing_is_measured_twice(models: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = json.loads((state / MEASURED).read_text())
    assert [[sorted(one["run_s"]) for one in each] for each in measured.values()] == 2 * [
        [["1", "256", "64", "8"]]
    ]
    # By these times a run takes a minute: nobody has so much.
    slow = {
        key: [{"threads": 1, "run_s": {"1": 60.0, "8": 60.0, "64": 60.0, "256": 60.0}}] for key in measured
    }
    (state / MEASURED).write_text(json.dumps(slow))
    die(state)
    monkeypatch.setattr(onnxruntime, "fewest", pytest.fail)
    async with calling(models, state=state, start_s=WITHIN_S) as caller:
        assert codes((await loaded(caller)).errors.values()) == {
            (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)
        }
    monkeypatch.undo()
    # It had no time to measure; the next one has.
    assert json.loads((state / MEASURED).read_text()) == slow
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
    assert json.loads((state / MEASURED).read_text()) != slow


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"KEY": 7}', b'{"KEY": [{"threads": "x", "run_s": []}]}'])
async def test_broken_measurements_are_made_again_and_named(
    models: Path, state: Path, capfd: pytest.CaptureFixture[str], broken: bytes
) -> None:
    key = next(iter(json.loads((state / MEASURED).read_text())))
    (state / MEASURED).write_bytes(broken.replace(b"KEY", key.encode()))
    die(state)
    async with calling(models, state=state) as caller:
        assert ys(await loaded(caller, "double")) == [2.0]
        assert ys(await loaded(caller, "held")) == [2.0]
    assert MEASURED in capfd.readouterr().err
    async with calling(models, state=state):
        pass
    assert len(json.loads((state / MEASURED).read_text())) == 2
