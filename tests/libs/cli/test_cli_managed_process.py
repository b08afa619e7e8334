"""A real service under supervision: a killed process comes back, a restart hands over, nothing is left behind; versions of
services that were deployed beside the checkout.

With the two services that need no data; the whole system is in tests/pipeline and tests/faults.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.cli.installation import layout, ports, services
from headrace.cli.installation.settings import Installation, settings
from headrace.cli.supervision import deployed, probes
from headrace.cli.supervision.deployed import Version
from headrace.cli.supervision.managed_process import ManagedProcess, ReplaceError
from headrace.cli.supervision.process import Process
from headrace.cli.supervision.restart_policy import ProbeResult, RestartRules, State
from headrace.hop import config
from headrace.hop.config import ConfigError
from headrace.hop.process.logs import logger
from tests.children import ends_with_tests
from tests.services import waiting
from tests.stopped import state, stop

SERVICE = "preprocessing"
LOG = logger("supervisor", config.Telemetry(log_level="error"))


def installation(home: Path) -> Installation:
    place = layout.of(home)
    place.make()
    return Installation(place, "apart", ports.choose(ports.wanted(), {}, ports.free))


async def until(what: str, holds: Callable[[], object]) -> None:
    await waiting.until(holds, what=what)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie whose parent has not looked yet is as good as gone.
    return state(pid) == "Z"


@asynccontextmanager
async def kept(process: ManagedProcess) -> AsyncIterator[ManagedProcess]:
    """Begun, and stopped after the body."""
    process.begin()
    try:
        yield process
    finally:
        await process.stop()


@pytest.fixture
async def managed(tmp_path: Path) -> AsyncIterator[ManagedProcess]:
    async with kept(ManagedProcess(installation(tmp_path), SERVICE, RestartRules(), LOG)) as running:
        await until("ready", lambda: running.policy.state is State.READY)
        yield running


def sockets(tmp_path: Path) -> list[str]:
    """Without those of frames, which stand beside them."""
    found = layout.of(tmp_path).listed(SERVICE).iterdir()
    return sorted(path.name for path in found if path.suffix != ".frames")


def pid_of(managed: ManagedProcess) -> int:
    assert managed.current is not None
    return managed.current.pid


async def test_a_restart_lists_the_new_one_before_the_old_one_goes(
    managed: ManagedProcess, tmp_path: Path
) -> None:
    [socket], before, restarts = sockets(tmp_path), pid_of(managed), managed.policy.restarts
    seen: list[list[str]] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            seen.append(sockets(tmp_path))
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    await managed.replace()
    done.set()
    await watching

    assert pid_of(managed) != before
    assert gone(before)
    assert [] not in seen  # callers always had somebody
    assert len(sockets(tmp_path)) == 1
    assert socket not in sockets(tmp_path)
    assert managed.policy.restarts == restarts
    assert managed.policy.state is State.READY


async def test_a_new_process_that_fails_leaves_the_old_one_serving(
    managed: ManagedProcess, tmp_path: Path
) -> None:
    before, listed = pid_of(managed), sockets(tmp_path)
    override = layout.of(tmp_path).override(SERVICE)
    override.parent.mkdir()
    override.write_text("no_such_setting: 1\n")
    with pytest.raises(ReplaceError, match="no_such_setting"):
        await managed.replace()
    assert pid_of(managed) == before
    assert sockets(tmp_path) == listed
    assert managed.policy.state is State.READY


async def test_one_that_begins_anew_is_waited_for(
    managed: ManagedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, forget = pid_of(managed), Process.forget

    async def slowly(process: Process) -> None:
        if asyncio.current_task() is managed._task:
            await asyncio.sleep(1)
        await forget(process)

    monkeypatch.setattr(Process, "forget", slowly)
    monkeypatch.setattr(services, "ALONE", (SERVICE,))
    await managed.replace()
    assert pid_of(managed) != before
    assert managed.policy.state is State.READY


async def test_two_restarts_at_once_follow_each_other(managed: ManagedProcess, tmp_path: Path) -> None:
    """Of a process that is stopped, too."""
    before = pid_of(managed)
    stop(before)
    await asyncio.gather(managed.replace(), managed.replace())
    assert gone(before)
    assert len(sockets(tmp_path)) == 1
    assert managed.policy.state is State.READY


# The parent of a process that was made by vfork waits for it in state D, as for a disk.
WAITING = "import ctypes, sys, time; print(flush=True)\nif sys.argv[1] == 'D': ctypes.CDLL(None).vfork()\ntime.sleep(120)"


@pytest.mark.parametrize(("kind", "age"), [("S", 9.0), ("D", None)])
async def test_a_blocked_loop_does_not_count_while_the_process_waits_for_a_disk(
    managed: ManagedProcess, monkeypatch: pytest.MonkeyPatch, kind: str, age: float | None
) -> None:
    async def old(_metrics: str) -> float:
        return 9.0

    monkeypatch.setattr(probes, "heartbeat_age", old)
    assert managed.current is not None
    command = ends_with_tests(sys.executable, "-c", WAITING, kind)
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as waiting:
        try:
            assert waiting.stdout is not None
            await asyncio.to_thread(waiting.stdout.readline)
            await until("it waits", lambda: state(waiting.pid) == kind)
            monkeypatch.setattr(managed.current, "pid", waiting.pid)
            assert await managed.current.heartbeat_age() == age
        finally:
            os.killpg(waiting.pid, signal.SIGKILL)


async def test_the_heartbeat_of_a_process_that_was_replaced_does_not_count(
    managed: ManagedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def old_age() -> float:
        return 3600.0

    old = managed.current
    assert old is not None
    monkeypatch.setattr(old, "heartbeat_age", old_age)
    await managed.replace()
    await managed._listen(old, 0.0)
    await managed._listen(old, 0.0)
    assert await managed._watch(old) == ""
    assert managed.policy.must_end(0) == ""


async def test_a_probe_that_the_supervisor_was_late_to_read_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = 0

    async def late(_timeout_s: float) -> ProbeResult:
        nonlocal probed
        probed += 1
        time.sleep(probes.HEARTBEAT_TIMEOUT_S + 1.3)  # nothing of the supervisor runs meanwhile
        return ProbeResult.SILENT

    rules = RestartRules(every=0.1, timeout=0.1, silent=1)
    async with kept(ManagedProcess(installation(tmp_path), SERVICE, rules, LOG)) as managed:
        await until("ready", lambda: managed.policy.state is State.READY)
        monkeypatch.setattr(managed.current, "look", late)
        await until("probed twice", lambda: probed >= 2)
        assert managed.policy.must_end(time.monotonic()) == ""


async def test_who_waits_for_an_end_can_be_cancelled_when_it_comes(managed: ManagedProcess) -> None:
    # As `stop` does right after a restart; it waited for ever.
    process = managed.current
    assert process is not None
    waiting = asyncio.create_task(process.ended(60))
    os.kill(process.pid, signal.SIGKILL)
    assert await process.ended(60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_waits_for_an_end_leave_nothing_behind(managed: ManagedProcess) -> None:
    assert managed.current is not None
    before = len(asyncio.all_tasks())
    for _ in range(20):
        assert not await managed.current.ended(0.001)
    assert len(asyncio.all_tasks()) < before + 10


def test_a_service_runs_the_checkout_until_a_version_is_deployed(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    assert deployed.of(place, "router") is None
    version = Version(place.root, "1.0")
    deployed.put(place, "router", version)
    assert deployed.of(place, "router") == version
    assert deployed.of(place, "features") is None
    deployed.put(place, "router", None)
    assert deployed.of(place, "router") is None
    for text in ("", "[]", "{}", '{"root": 1}', '{"root": "/nowhere"}'):
        (place.deployed / "router.json").write_text(text)
        with pytest.raises(ConfigError, match=r"router\.json.*deploy router again, or remove the file"):
            deployed.of(place, "router")


async def test_a_version_makes_its_own_settings(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    chosen = ports.choose(ports.wanted(), {}, lambda _: True)
    installation = Installation(place, "apart", chosen)
    listen, run_dir = tmp_path / "router.sock", tmp_path / "run"
    made = await Version(place.root).settings(installation, "router", 0, listen, run_dir)
    own = settings(installation, "router", slot=0, listen=listen, run_dir=run_dir)
    assert made == json.loads(json.dumps(own, default=str))


async def test_a_version_that_can_not_make_them_says_why(tmp_path: Path) -> None:
    root = tmp_path / "other"
    (root / "libs" / "headrace").mkdir(parents=True)
    (root / "libs" / "headrace" / "__init__.py").write_text("raise RuntimeError('it is broken')")
    installation = Installation(layout.of(tmp_path), "apart", {})
    with pytest.raises(ConfigError, match="can't make settings of router: RuntimeError: it is broken"):
        await Version(root).settings(installation, "router", 0, tmp_path / "x", tmp_path)
