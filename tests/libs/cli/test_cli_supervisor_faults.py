"""What keeps a service from running, a hang or something that is missing, and its end without a command."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from headrace.cli.installation import layout
from headrace.cli.installation.settings import Installation
from headrace.cli.supervision import daemon, process
from headrace.cli.supervision.managed_process import ManagedProcess, ReplaceError
from headrace.cli.supervision.process import Process
from headrace.cli.supervision.restart_policy import RestartRules, State
from tests.libs.cli.test_cli_managed_process import LOG, SERVICE, gone, installation, pid_of, until
from tests.libs.cli.test_cli_supervisor import poll, ready
from tests.stopped import stop


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
