"""The supervisor's own process, in a home in which only some services can start: that is enough for its life."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headrace.cli.installation import layout, pid_lock
from headrace.cli.supervision import daemon
from tests.libs.cli.test_cli_managed_process import SERVICE, gone, sockets, until


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
    command = [
        sys.executable,
        "-m",
        "headrace.cli.supervision.supervisor",
        "--home",
        str(tmp_path),
        "--shape",
        "apart",
    ]
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
