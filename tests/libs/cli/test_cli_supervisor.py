"""The supervisor's own process, where only some services can start; its socket; what keeps a service from running. And
`headrace up` waits for services as long as there is hope, and says why where there is none."""

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout, pid_lock
from headrace.cli.installation.settings import Installation
from headrace.cli.supervision import control, daemon, probes, process, prometheus_targets
from headrace.cli.supervision.managed_process import ManagedProcess, ReplaceError
from headrace.cli.supervision.process import Process
from headrace.cli.supervision.restart_policy import RestartRules, State
from headrace.cli.supervision.supervisor import SupervisorSettings
from headrace.state import deployments
from tests.libs.cli.released_home import run
from tests.libs.cli.test_cli_managed_process import LOG, SERVICE, gone, installation, kept, pid_of, until
from tests.stopped import stop, stopped_thread

WRONG, RIGHT = "preprocessing", "postprocessing"
NAMES = ("first", "second", "third")


@pytest.fixture
def place(tmp_path: Path) -> layout.Layout:
    made = layout.of(tmp_path)
    made.make()
    return made


@pytest.fixture
def supervisor(place: layout.Layout) -> subprocess.Popen[bytes]:
    return daemon.start_supervisor(place, "apart", tie=True)


def targets(place: layout.Layout) -> dict[str, str]:
    return prometheus_targets.read(place.targets)


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def ready(place: layout.Layout, service: str) -> bool:
    if not place.supervisor.exists():
        return False
    told = await asyncio.to_thread(daemon.status, place)
    return bool(told["services"][service]["state"] == "ready")


async def test_down_ends_the_one_supervisor_and_all_it_started(
    supervisor: subprocess.Popen[bytes], place: layout.Layout
) -> None:
    await until("ready", lambda: ready(place, SERVICE))
    assert pid_lock.holder(place.lock) == supervisor.pid
    started = children(supervisor.pid)
    assert started
    told = await asyncio.to_thread(daemon.status, place)
    assert targets(place)[SERVICE] == told["services"][SERVICE]["metrics"].split("/")[2]
    # A second one in this home gives up.
    command = [sys.executable, "-m", "headrace.cli.supervision.supervisor", "--home", str(place.home)]
    command += ["--shape", "apart"]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert second.returncode == 1
    assert b"another supervisor" in second.stderr
    assert place.supervisor.exists()
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0
    assert all(gone(pid) for pid in started)
    assert not list(place.sockets.rglob("*.sock*"))
    assert targets(place) == {}
    assert not await asyncio.to_thread(daemon.stop, place)


async def test_a_killed_supervisor_takes_its_services_with_it(
    supervisor: subprocess.Popen[bytes], place: layout.Layout
) -> None:
    await until("ready", lambda: ready(place, SERVICE))
    started = children(supervisor.pid)
    supervisor.kill()
    supervisor.wait(60)
    await until("all are gone", lambda: all(gone(pid) for pid in started))
    assert not daemon.running(place)


async def test_each_process_of_a_service_is_kept_and_listed_beside_the_others(
    place: layout.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [SERVICE, f"{SERVICE}.2"]
    # As Feast's import does in an `up` that prepares the home: it reaches no service.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(place.home))
    monkeypatch.setenv("HEADRACE_TEST_KEPT", "1")
    supervisor = daemon.start_supervisor(place, "apart", {SERVICE: 2}, tie=True)
    for name in names:
        await until("ready", lambda name=name: ready(place, name))  # type: ignore[misc]  # bound now, not later
    assert len([*place.listed(SERVICE).glob("*.sock")]) == 2
    told = await asyncio.to_thread(daemon.status, place)
    assert told["counts"] == {SERVICE: 2}
    first, second = (told["services"][name]["pid"] for name in names)
    inherited = Path(f"/proc/{first}/environ").read_bytes().split(b"\0")
    assert b"HEADRACE_TEST_KEPT=1" in inherited
    assert not [line for line in inherited if line.startswith(b"PROMETHEUS_MULTIPROC_DIR")]
    os.kill(second, signal.SIGKILL)
    await until("its socket is not listed", lambda: len([*place.listed(SERVICE).glob("*.sock")]) == 1)
    await until("a new one is", lambda: len([*place.listed(SERVICE).glob("*.sock")]) == 2)
    told = await asyncio.to_thread(daemon.status, place)
    assert told["services"][SERVICE]["pid"] == first
    assert len({targets(place)[name] for name in names}) == 2
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0
    assert gone(first)


async def echoed(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"got": dict(request)}


async def test_who_sees_the_socket_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes with its server; what a killed one left is no hindrance."""
    path = tmp_path / "control.sock"
    seen: list[bool] = []
    listen = socket.socket.listen
    early = tmp_path / "control.sock.new"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(early))

    def late(own: socket.socket, *backlog: int) -> None:
        seen.append(path.exists())  # who waits for the socket may look at this moment
        listen(own, *backlog)

    monkeypatch.setattr(socket.socket, "listen", late)
    async with control.serving(path, echoed):
        assert seen == [False]
        assert await asyncio.to_thread(control.ask, path, {"do": "it"}, 10) == {"got": {"do": "it"}}
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    monkeypatch.undo()
    async with control.serving(path, echoed):
        assert await asyncio.to_thread(control.ask, path, {}, 10) == {"got": {}}


@asynccontextmanager
async def replaced(folder: Path, rules: RestartRules) -> AsyncIterator[tuple[ManagedProcess, int]]:
    """A process that is ready, and its pid; after the body another one must be ready instead."""
    async with kept(ManagedProcess(installation(folder), SERVICE, rules, LOG)) as process:
        await until("ready", lambda: process.policy.state is State.READY)
        before = pid_of(process)
        yield process, before
        await until("ready again", lambda: process.policy.state is State.READY)
        assert pid_of(process) != before
        assert process.policy.reason == ""


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (RestartRules(every=0.2, timeout=2, silent=2), "it hung"),
        # It needs no probe: the next one would come after an hour.
        (RestartRules(every=3600.0, stopped=2.0), "stopped (SIGSTOP)"),
    ],
    ids=["hangs", "stopped"],
)
async def test_a_process_that_does_nothing_is_replaced(tmp_path: Path, rules: RestartRules, why: str) -> None:
    async with replaced(tmp_path, rules) as (hanging, pid):
        stop(pid)
        await until("unready", lambda: hanging.policy.state is State.UNREADY)
        await until("killed", lambda: why in hanging.policy.reason and gone(pid))


async def test_a_blocked_loop_is_seen_by_its_heartbeat_long_before_probes_are_missed(tmp_path: Path) -> None:
    # Answers to probes are waited for an hour.
    rules = RestartRules(every=0.2, timeout=3600.0, still=2.0)
    async with replaced(tmp_path, rules) as (hanging, pid):
        with stopped_thread(pid):
            await until("killed", lambda: gone(pid))
        await until("said", lambda: "its event loop has stood still for" in hanging.policy.reason)


def test_the_state_of_a_process_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    (tmp_path / "stat").write_bytes(b"7 (\xff) D) T 1 7")
    assert probes.kernel_state(tmp_path) == "T"
    assert probes.kernel_state(tmp_path / "ended") == ""


def test_patience_with_missed_probes_is_patience_with_a_blocked_loop() -> None:
    assert SupervisorSettings().rules() == RestartRules()
    assert SupervisorSettings(probes_silent=6).rules().still == 2 * RestartRules().still
    # A heartbeat counts as old after five seconds at the earliest.
    assert SupervisorSettings(probe_timeout_s=0.1).rules().still == 5


async def test_a_service_is_deployed_from_another_checkout_and_put_back_where_that_fails(
    supervisor: subprocess.Popen[bytes], place: layout.Layout, tmp_path: Path
) -> None:
    await until("ready", lambda: ready(place, SERVICE))

    async def deployed_from(checkout: Path) -> tuple[int, str, str]:
        result = await asyncio.to_thread(run, place.home, "restart", SERVICE, "--checkout", str(checkout))
        version = (await asyncio.to_thread(daemon.status, place))["services"][SERVICE]["version"]
        return result.exit_code, " ".join(result.stderr.split()), version

    good, bad = tmp_path / "good", tmp_path / "bad"
    for root in (good, bad):
        shutil.copytree(place.root / "services" / SERVICE, root / "services" / SERVICE)
        (root / "services" / "__init__.py").touch()
        (root / "libs").symlink_to(place.root / "libs")
    (bad / "services" / SERVICE / "__main__.py").write_text("raise SystemExit('broken')\n")
    assert await deployed_from(good) == (0, "", "good")
    code, said, version = await deployed_from(bad)
    assert (code, version) == (1, "good")
    assert f"{SERVICE} runs the version before again" in said
    assert (await deployed_from(place.root))[2] is None
    assert "has no services/" in (await deployed_from(tmp_path))[1]
    recorded = deployments.read(place.deployment_log)
    assert [(d.version, str(d.result)) for d in recorded] == [
        ("good", "succeeded"),
        ("bad", "rolled_back"),
        (place.root.name, "succeeded"),
    ]
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0


async def test_one_that_cannot_be_started_is_tried_until_it_can(tmp_path: Path) -> None:
    broken: list[Exception] = [OSError(errno.ENOSPC, "No space left on device", "a file")]

    async def start(home: Installation, service: str, slot: int, generation: int) -> Process:
        if broken:
            raise broken[0]
        return await process.start(home, service, slot, generation)

    rules = RestartRules(first_delay=0.01, max_delay=0.02)
    failing = ManagedProcess(installation(tmp_path), SERVICE, rules, LOG, start)
    async with kept(failing):
        await until("it is told", lambda: failing.policy.reason == "no space left on device (a file)")
        await until("trouble", lambda: bool(failing.policy.trouble))
        with pytest.raises(ReplaceError, match=r"no space left on device \(a file\)"):
            await asyncio.wait_for(failing.replace(), 30)
        broken[0] = RuntimeError("of a kind that nobody thought of")
        await until("it is told", lambda: "RuntimeError: of a kind" in failing.policy.reason)
        broken.clear()
        await until("ready", lambda: failing.policy.state is State.READY)
        assert (failing.policy.reason, failing.policy.trouble) == ("", "")
        broken.append(OSError(errno.ENOSPC, "No space left on device", "a file"))
        before = pid_of(failing)
        with pytest.raises(ReplaceError, match="so the old one goes on"):
            await failing.replace()
        assert pid_of(failing) == before
        assert failing.policy.state is State.READY


class Told:
    """What a supervisor tells of its services, and a clock on which each answer takes 50 s. `fails`: the next so many answers."""

    def __init__(self, *ready: tuple[str, ...], fails: int) -> None:
        self.now = 1000.0
        self._fails, self._ready = fails, iter(ready)
        self._last: tuple[str, ...] = ()

    async def answer(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self.now += 50.0
        if self._fails:
            self._fails -= 1
            raise OSError("held up")
        # No wait may be that long: it ends, and the test sees that it did not fail.
        self._last = NAMES if self.now > 20_000 else next(self._ready, self._last)
        states = {name: "ready" if name in self._last else "starting" for name in NAMES}
        return {"services": {name: {"state": state, "trouble": None} for name, state in states.items()}}

    async def waited(self, place: layout.Layout, supervisor: subprocess.Popen[bytes]) -> None:
        async with control.serving(place.supervisor, self.answer):
            wait = partial(daemon.wait_ready, clock=lambda: self.now)
            await asyncio.to_thread(wait, place, supervisor, lambda _: None, 120.0)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until the test ends: that is all that the wait looks at."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_waiting_ends_at_once_for_a_service_that_cannot_use_its_settings(place: layout.Layout) -> None:
    place.override(WRONG).parent.mkdir()
    place.override(WRONG).write_text("no_such_setting: 1\n")
    supervisor = daemon.start_supervisor(place, "apart", tie=True)
    states: list[Mapping[str, Any]] = []
    try:
        # Others fail in this empty home, too, and the first to do so ends the wait: until ours has.
        while True:
            with pytest.raises(daemon.StartError) as caught:
                await asyncio.to_thread(daemon.wait_ready, place, supervisor, states.append, 600)
            assert "not ready after" not in str(caught.value)
            if WRONG in str(caught.value):
                break
            await asyncio.sleep(0.05)
        assert f"{WRONG} will not be ready: it can't use its settings" in str(caught.value)
        told = f"no_such_setting: Extra inputs are not permitted (set in {place.override(WRONG)}, line 1)"
        assert told in str(caught.value)
        assert states[-1][RIGHT]["trouble"] is None
    finally:
        await asyncio.to_thread(daemon.abandon, supervisor)


@pytest.mark.parametrize(
    ("ready", "fails", "after_s", "late"),
    [
        # It is asked again; a failed answer takes its time, too.
        ([(), NAMES], 1, 3 * 50, ""),
        # Each service that becomes ready gives the others time …
        ([(), ("first",), ("first",), ("first", "second"), ("first", "second"), NAMES], 0, 6 * 50, ""),
        ([(), ("first",)], 0, 250, "second, third"),
        # … but not one that comes and goes.
        ([("first",), ()] * 100, 0, 200, "first, second, third"),
        # It never answers.
        ([()], 1000, 150, "supervisor"),
    ],
)
async def test_the_wait_ends_when_none_becomes_ready_any_more(
    place: layout.Layout,
    running: subprocess.Popen[bytes],
    ready: Any,
    fails: int,
    after_s: float,
    late: str,
) -> None:
    told = Told(*ready, fails=fails)
    said = pytest.raises(daemon.StartError, match=f"not ready after {after_s} s: {late}\n")
    with said if late else nullcontext():
        await told.waited(place, running)
    assert told.now == 1000.0 + after_s
