"""Processes that are killed, frozen, or out of memory."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.slo.rules import BURN
from tests.alerts.alarmed_system import Alarmed
from tests.chaos.chaos import Chaos, Moments, Way
from tests.chaos.expectation import Expectation
from tests.libs.slo.alert_world import until
from tests.stopped import stop
from tests.system import row_request

_MEMORY = Path("/sys/fs/cgroup/memory")
_LITTLE = 1 << 20


@contextmanager
def killed_thrice(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """SIGKILL, three times."""
    moments.begin()
    _three_ends(alarmed, moments, "preprocessing", lambda pid: os.kill(pid, signal.SIGKILL))
    yield


@contextmanager
def frozen(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """SIGSTOP, and nobody helps: the supervisor must notice."""
    pid = alarmed.pid("postprocessing")
    moments.begin()
    stop(pid)
    moments.mend()
    try:
        yield
        until("it is replaced", lambda: alarmed.system.pid("postprocessing") not in (pid, None))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def out_of_memory(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The kernel kills the executor, three times: its control group gives it one MiB beside what it has."""
    group = _MEMORY / f"headrace-chaos-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"memory can't be limited here (cgroup v1, root): {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(_LITTLE))
        moments.begin()
        _three_ends(alarmed, moments, "executor", partial(_starve, alarmed, group))
        yield
    finally:
        until("its control group is empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def _starve(alarmed: Alarmed, group: Path, pid: int) -> None:
    """What it has stays with its old group; what it takes from now on is counted here."""
    before = _kills(group)
    (group / "cgroup.procs").write_text(str(pid))
    large = row_request(*alarmed.system.rows[:2000])

    def killed() -> bool:
        with suppress(grpc.RpcError):
            alarmed.system.predict(large, timeout=2.0)
        return _kills(group) > before

    until("the kernel kills it", killed)


def _kills(group: Path) -> int:
    lines = (group / "memory.oom_control").read_text().splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])


def _three_ends(alarmed: Alarmed, moments: Moments, service: str, end: Callable[[int], None]) -> None:
    """Ends its process three times, each as soon as Prometheus has seen the one before."""
    started = f'changes(process_start_time_seconds{{instance="{service}"}}[15m])'
    first = sum(s.value for s in alarmed.real.prometheus.query(started))
    for count in (1, 2, 3):
        pid = alarmed.pid(service)
        end(pid)
        moments.mended = time.monotonic()
        until("a new process", partial(_replaced, alarmed, service, pid))
        alarmed.ready(service)
        until("Prometheus sees it", partial(_more, alarmed, started, first + count))


def _replaced(alarmed: Alarmed, service: str, pid: int) -> bool:
    return alarmed.system.pid(service) not in (pid, None)


def _more(alarmed: Alarmed, expression: str, least: float) -> bool:
    return any(sample.value >= least for sample in alarmed.real.prometheus.query(expression))


def _fault(way: Way, name: str, what: str, mended: str, alert: str, **more: Any) -> Chaos:
    """One that the supervisor ends. `more`: of the expectation."""
    return Chaos(Expectation(name, what, mended, alert, **more), way, real=alert == _CRASHES, by_itself=True)


_CRASHES = "HeadraceCrashLoop"
FAULTS = (
    _fault(
        killed_thrice,
        "killed",
        "preprocessing killed (SIGKILL) three times",
        "the supervisor starts it",
        _CRASHES,
        labels={"instance": "preprocessing"},
    ),
    _fault(
        frozen,
        "frozen",
        "postprocessing stopped (SIGSTOP)",
        "the supervisor replaces it (it hung: it was stopped)",
        BURN,
        labels={"pipeline": "flights", "objective": "availability", "level": "14.4x"},
        recovery_s=120.0,
    ),
    _fault(
        out_of_memory,
        "out of memory",
        "the kernel kills the executor three times (memory control group)",
        "the supervisor starts it",
        _CRASHES,
        labels={"instance": "executor"},
    ),
)
