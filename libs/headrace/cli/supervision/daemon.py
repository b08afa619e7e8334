"""How the commands start the supervisor, ask it, and stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.cli.installation import log_files, pid_lock, ports
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import control, pdeathsig

if TYPE_CHECKING:
    from headrace.cli.installation.settings import Shape

_ANSWER_S = 5.0
_CONTROL_S = 15.0
# Importing Feast sets it, in each process that prepares a home. Services that inherited it would keep their metrics in
# files of a folder that is deleted when that process ends.
_NOT_OURS = "PROMETHEUS_MULTIPROC_DIR"
# A stop drains the ingress, then the router, then the leaves.
_STOP_S = 120.0


class StartError(Exception):
    """The system did not come up, or did not go down; the text says what to look at."""


def start_supervisor(
    layout: Layout, shape: Shape, counts: Mapping[str, int] | None = None, *, tie: bool
) -> subprocess.Popen[bytes]:
    """Starts the supervisor in a session of its own.

    `counts`: number of processes by service; `tie`: it dies with this process.
    """
    # A supervisor that was killed leaves its socket, on which nobody answers; the new one makes it again.
    layout.supervisor.unlink(missing_ok=True)
    own = ["-m", "headrace.cli.supervision.supervisor", "--home", str(layout.home), "--shape", shape]
    each = [f"--count={service}={count}" for service, count in (counts or {}).items()]
    command = [sys.executable, *own, *each]
    if tie:
        command = [sys.executable, "-I", "-S", pdeathsig.__file__, str(os.getpid()), *command]
    log = layout.log("supervisor")
    with log.open("ab", buffering=0) as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=layout.root,
            env={name: value for name, value in os.environ.items() if name != _NOT_OURS},  # noqa: TID251 - what it inherits
        )


def wait_ready(
    layout: Layout,
    supervisor: subprocess.Popen[bytes],
    seen: Callable[[Mapping[str, Any]], None],
    within_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until every service is ready; calls `seen` with each state of the services.

    Raises StartError with the last log lines when none of them has become ready for `within_s`, and as soon as a service
    can't use its settings or ends again and again.
    """
    began = clock()
    deadline = began + within_s
    services: Mapping[str, Any] = {}
    been: set[str] = set()
    while clock() < deadline:
        if supervisor.poll() is not None:
            raise StartError(f"the supervisor ended at once:\n{_last(layout, 'supervisor')}")
        if layout.supervisor.exists():
            # A supervisor that does not answer may be held up, as all may on a busy machine: it is asked again.
            with contextlib.suppress(control.ControlError):
                services = status(layout)["services"]
            seen(services)
            ready = {name for name, service in services.items() if service["state"] == "ready"}
            if services and ready == set(services):
                return
            if troubles := {n: s["trouble"] for n, s in services.items() if s["trouble"]}:
                what = ", ".join(f"{name} will not be ready: {why}" for name, why in troubles.items())
                raise StartError(_with_logs(layout, what, list(troubles)))
            if ready - been:  # each service counts once: one that comes and goes is no progress
                been |= ready
                deadline = clock() + within_s
        time.sleep(0.05)
    late = [name for name, service in services.items() if service["state"] != "ready"] or ["supervisor"]
    raise StartError(_with_logs(layout, f"not ready after {clock() - began:.0f} s: {', '.join(late)}", late))


def abandon(supervisor: subprocess.Popen[bytes]) -> None:
    """Stops a supervisor that this process has just started, and with it what it started."""
    supervisor.terminate()
    try:
        supervisor.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()


def running(layout: Layout) -> bool:
    """Whether a supervisor runs here."""
    return pid_lock.holder(layout.lock) is not None


def door(layout: Layout) -> str:
    """host:port of the door, without TLS. Raises ControlError: nothing runs here."""
    port = ports.load(layout.ports).get("http")
    if port is None or not running(layout):
        raise control.ControlError(
            f"headrace is not running here; start it: headrace up --home {layout.home}"
        )
    return f"{ports.LOOPBACK}:{port}"


def status(layout: Layout) -> dict[str, Any]:
    """Shape and services, from the supervisor. Raises ControlError."""
    return control.ask(layout.supervisor, {"do": "status"}, _ANSWER_S)


def stop(layout: Layout) -> bool:
    """Stops everything; False if nothing ran. Raises StartError if something can't be stopped."""
    pid = pid_lock.holder(layout.lock)
    if pid is None:
        return False
    deadline = time.monotonic() + _STOP_S
    try:
        while not layout.supervisor.exists() and time.monotonic() < deadline and pid_lock.holder(layout.lock):
            time.sleep(0.05)  # it has just been started
        control.ask(layout.supervisor, {"do": "stop"}, _CONTROL_S)
    except control.ControlError:
        if pid_lock.holder(layout.lock) is not None:
            _kill(pid)
    while pid_lock.holder(layout.lock) is not None:
        if time.monotonic() > deadline:
            _kill(pid)  # its children go with it
            deadline += _CONTROL_S
        time.sleep(0.05)
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise StartError(
            f"the supervisor (pid {pid}) is another user's; let that user run headrace down"
        ) from error


def _with_logs(layout: Layout, what: str, services: Sequence[str]) -> str:
    texts = "\n".join(f"{name}:\n{_last(layout, name)}" for name in services)
    return f"{what}\n{texts}\nsee: headrace logs {services[0]} --home {layout.home}"


def _last(layout: Layout, service: str, lines: int = 12) -> str:
    return (
        "\n".join(f"  {line}" for line in log_files.tail(layout.log(service), lines))
        or "  (its log is empty)"
    )
