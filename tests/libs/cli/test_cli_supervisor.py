"""The supervisor's own process, where only some services can start; its socket; what keeps a service from running."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout, pid_lock
from headrace.cli.installation.settings import Installation
from headrace.cli.supervision import control, daemon, process
from headrace.cli.supervision.managed_process import ManagedProcess, ReplaceError
from headrace.cli.supervision.process import Process
from headrace.cli.supervision.restart_policy import RestartRules, State
from headrace.cli.supervision.supervisor import SupervisorSettings
from tests.alerts.stopped_thread import stopped_thread
from tests.libs.cli.test_cli_managed_process import LOG, SERVICE, gone, installation, pid_of, sockets, until
from tests.stopped import stop


@pytest.fixture
def supervisor(tmp_path: Path) -> subprocess.Popen[bytes]:
    place = layout.of(tmp_path)
    place.make()
    return daemon.start_supervisor(place, "apart", tie=True)


def targets(place: layout.Layout) -> dict[str, str]:
    groups = json.loads(place.targets.read_text())
    return {group["labels"]["instance"]: group["targets"][0] for group in groups}


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def ready(place: layout.Layout, service: str) -> bool:
    if not place.control.exists():
        return False
    told = await asyncio.to_thread(daemon.status, place)
    return bool(told["services"][service]["state"] == "ready")


async def poll(what: str, probe: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not await probe():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.05)


async def test_down_ends_the_supervisor_and_all_it_started(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    place = layout.of(tmp_path)
    await poll("ready", lambda: ready(place, SERVICE))
    assert pid_lock.holder(place.lock) == supervisor.pid
    started = children(supervisor.pid)
    assert started
    told = await asyncio.to_thread(daemon.status, place)
    assert targets(place)[SERVICE] == told["services"][SERVICE]["metrics"].split("/")[2]
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0
    assert all(gone(pid) for pid in started)
    assert not list(place.sockets.rglob("*.sock*"))
    assert targets(place) == {}
    assert not await asyncio.to_thread(daemon.stop, place)


async def test_what_a_library_left_in_our_environment_reaches_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Feast's import does in an `up` that prepares the home.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_TEST_KEPT", "1")
    place = layout.of(tmp_path)
    place.make()
    supervisor = daemon.start_supervisor(place, "apart", tie=True)
    await poll("ready", lambda: ready(place, SERVICE))
    told = await asyncio.to_thread(daemon.status, place)
    inherited = Path(f"/proc/{told['services'][SERVICE]['pid']}/environ").read_bytes().split(b"\0")
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0
    assert b"HEADRACE_TEST_KEPT=1" in inherited
    assert not [line for line in inherited if line.startswith(b"PROMETHEUS_MULTIPROC_DIR")]


async def test_a_killed_supervisor_takes_its_services_with_it(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    place = layout.of(tmp_path)
    await poll("ready", lambda: ready(place, SERVICE))
    started = children(supervisor.pid)
    supervisor.kill()
    supervisor.wait(60)
    await until("all are gone", lambda: all(gone(pid) for pid in started))
    assert not daemon.running(place)


async def test_a_second_supervisor_in_one_home_gives_up(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    place = layout.of(tmp_path)
    await poll("the first has begun", lambda: asyncio.to_thread(place.control.exists))
    command = [sys.executable, "-m", "headrace.cli.supervision.supervisor", "--home", str(tmp_path)]
    command += ["--shape", "apart"]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert second.returncode == 1
    assert b"another supervisor" in second.stderr
    assert place.control.exists()
    assert await asyncio.to_thread(daemon.stop, place)
    supervisor.wait(60)


async def test_each_process_of_a_service_is_kept_and_listed_beside_the_others(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.make()
    names = [SERVICE, f"{SERVICE}.2"]
    supervisor = daemon.start_supervisor(place, "apart", {SERVICE: 2}, tie=True)
    for name in names:
        await poll("ready", lambda name=name: ready(place, name))  # type: ignore[misc]  # bound now, not later
    assert len(sockets(tmp_path)) == 2
    told = await asyncio.to_thread(daemon.status, place)
    assert told["counts"] == {SERVICE: 2}
    first, second = (told["services"][name]["pid"] for name in names)
    os.kill(second, signal.SIGKILL)
    await until("its socket is not listed", lambda: len(sockets(tmp_path)) == 1)
    await until("a new one is", lambda: len(sockets(tmp_path)) == 2)
    told = await asyncio.to_thread(daemon.status, place)
    assert told["services"][SERVICE]["pid"] == first
    assert len({targets(place)[name] for name in names}) == 2
    assert await asyncio.to_thread(daemon.stop, place)
    assert supervisor.wait(60) == 0
    assert gone(first)


async def echoed(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"got": dict(request)}


async def test_a_request_is_answered_and_the_socket_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with control.serving(path, echoed):
        assert await asyncio.to_thread(control.ask, path, {"do": "it"}, 10) == {"got": {"do": "it"}}
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_supervisor_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    for left in (path, tmp_path / "control.sock.new"):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(left))
    async with control.serving(path, echoed):
        assert await asyncio.to_thread(control.ask, path, {}, 10) == {"got": {}}


async def test_who_sees_the_socket_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    seen: list[bool] = []
    listen = socket.socket.listen

    def late(own: socket.socket, *backlog: int) -> None:
        seen.append(path.exists())  # who waits for the socket may look at this moment
        listen(own, *backlog)

    monkeypatch.setattr(socket.socket, "listen", late)
    async with control.serving(path, echoed):
        assert seen == [False]
        assert path.exists()


async def test_a_process_that_hangs_is_replaced(tmp_path: Path) -> None:
    rules = RestartRules(every=0.2, timeout=2, silent=2)
    hanging = ManagedProcess(installation(tmp_path), SERVICE, rules, LOG)
    hanging.begin()
    try:
        await until("ready", lambda: hanging.policy.state is State.READY)
        before = pid_of(hanging)
        stop(before)
        await until("unready", lambda: hanging.policy.state is State.UNREADY)
        await until("killed", lambda: "it hung" in hanging.reason)
        assert gone(before)
        await until("ready again", lambda: hanging.policy.state is State.READY)
        assert pid_of(hanging) != before
        assert hanging.reason == ""
    finally:
        await hanging.stop()


async def test_a_stopped_process_needs_no_probe_to_be_replaced(tmp_path: Path) -> None:
    # The next probe would come after an hour.
    hanging = ManagedProcess(installation(tmp_path), SERVICE, RestartRules(every=3600.0, stopped=2.0), LOG)
    hanging.begin()
    try:
        await until("ready", lambda: hanging.policy.state is State.READY)
        before = pid_of(hanging)
        stop(before)
        await until("unready", lambda: hanging.policy.state is State.UNREADY)
        await until("killed", lambda: "stopped (SIGSTOP)" in hanging.reason)
        await until("ready again", lambda: hanging.policy.state is State.READY)
        assert pid_of(hanging) != before
    finally:
        await hanging.stop()


async def test_a_blocked_loop_is_seen_by_its_heartbeat_long_before_probes_are_missed(tmp_path: Path) -> None:
    # Answers to probes are waited for an hour.
    rules = RestartRules(every=0.2, timeout=3600.0, still=2.0)
    hanging = ManagedProcess(installation(tmp_path), SERVICE, rules, LOG)
    hanging.begin()
    try:
        await until("ready", lambda: hanging.policy.state is State.READY)
        before = pid_of(hanging)
        with traced(before):
            await until("killed", lambda: gone(before))
        await until("said", lambda: "its event loop has stood still for" in hanging.reason)
        await until("ready again", lambda: hanging.policy.state is State.READY)
        assert pid_of(hanging) != before
    finally:
        await hanging.stop()


@contextmanager
def traced(pid: int) -> Iterator[None]:
    """The first thread of the process stands still, and no other. Skips by name without the right to do that."""
    with ExitStack() as stack:
        try:
            stack.enter_context(stopped_thread(pid))
        except OSError as error:
            pytest.skip(f"a thread can't be stopped here: ptrace: {error.strerror}")
        yield


def test_patience_with_missed_probes_is_patience_with_a_blocked_loop() -> None:
    assert SupervisorSettings().rules() == RestartRules()
    assert SupervisorSettings(probes_silent=6).rules().still == 2 * RestartRules().still
    # A heartbeat counts as old after five seconds at the earliest.
    assert SupervisorSettings(probe_timeout_s=0.1).rules().still == 5


async def test_what_was_missed_while_the_supervisor_was_stopped_does_not_count(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.make()
    place.override("supervisor").parent.mkdir()
    place.override("supervisor").write_text("probe_every_s: 0.2\nprobe_timeout_s: 2\nprobes_silent: 1\n")
    supervisor = daemon.start_supervisor(place, "apart", tie=True)
    await poll("ready", lambda: ready(place, SERVICE))
    told = await asyncio.to_thread(daemon.status, place)
    pid = told["services"][SERVICE]["pid"]
    # As a laptop that is closed, and opened again.
    stop(supervisor.pid)
    stop(pid)
    await asyncio.sleep(5)
    os.kill(supervisor.pid, signal.SIGCONT)
    await asyncio.sleep(0.2)  # less than the answer to a probe may take
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(5)
    told = (await asyncio.to_thread(daemon.status, place))["services"][SERVICE]
    assert (told["pid"], told["state"], told["restarts"]) == (pid, "ready", 0)
    # Stopped alone, it is missed.
    stop(pid)
    await until("it is gone", lambda: gone(pid))
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
    failing.begin()
    try:
        await until("it is told", lambda: failing.reason == "no space left on device (a file)")
        await until("trouble", lambda: bool(failing.trouble))
        with pytest.raises(ReplaceError, match=r"no space left on device \(a file\)"):
            await asyncio.wait_for(failing.replace(), 30)
        broken[0] = RuntimeError("of a kind that nobody thought of")
        await until("it is told", lambda: "RuntimeError: of a kind" in failing.reason)
        broken.clear()
        await until("ready", lambda: failing.policy.state is State.READY)
        assert (failing.reason, failing.trouble) == ("", "")
        broken.append(OSError(errno.ENOSPC, "No space left on device", "a file"))
        before = pid_of(failing)
        with pytest.raises(ReplaceError, match="so the old one goes on"):
            await failing.replace()
        assert pid_of(failing) == before
        assert failing.policy.state is State.READY
    finally:
        await failing.stop()
