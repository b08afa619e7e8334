"""Processes that hang and that nobody helps: each is replaced, and predictions work again."""

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.faults.test_killed_services import RECOVERY_S, SERVICES
from tests.stopped import stop
from tests.system import System, poll, row_request

# The supervisor's patience with its ordinary rules, and the start of the next process.
REPLACED_S = 60 + RECOVERY_S
# Nice value of the application's thread in Envoy (services/ingress/asgi.py).
NICE = 5
_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000


def serves(system: System) -> bool:
    try:
        return bool(system.predict(row_request(system.rows[0])).predictions)
    except grpc.RpcError:
        return False


def replaced(system: System, pids: dict[str, int]) -> bool:
    services = system.services()
    return all(
        services[s]["pid"] not in (pid, None) and services[s]["state"] == "ready" for s, pid in pids.items()
    )


def running(system: System, services: list[str]) -> dict[str, int]:
    found = {service: system.pid(service) for service in services}
    assert all(found.values())
    return {service: pid for service, pid in found.items() if pid is not None}


def test_processes_that_are_stopped_for_good_are_replaced(system: System) -> None:
    pids = running(system, SERVICES)
    for pid in pids.values():
        stop(pid)
    poll("all are replaced", lambda: replaced(system, pids), within_s=REPLACED_S)
    poll("predictions come", lambda: serves(system))


@contextmanager
def stopped_thread(thread: int) -> Iterator[None]:
    """Stops one thread of another process, as a debugger does. Skips by name without the right to."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if ptrace(_SEIZE, thread, None, None) != 0:
        pytest.skip(f"a thread can't be stopped here: ptrace: {os.strerror(ctypes.get_errno())}")
    assert ptrace(_INTERRUPT, thread, None, None) == 0
    os.waitpid(thread, _WALL)
    try:
        yield
    except BaseException:
        ptrace(_DETACH, thread, None, None)
        raise
    # Its process was killed: a debugger must take note of that before the process's parent can.
    deadline = time.monotonic() + REPLACED_S
    while os.waitpid(thread, _WALL | os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "the process with the stopped thread was not killed"
        time.sleep(0.1)


def application_thread(pid: int) -> int:
    """The thread of an Envoy process whose loop serves the calls."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        if int(fields[16]) == NICE:
            return int(task.name)
    raise AssertionError(f"no thread of {pid} has the nice value {NICE}")


@pytest.mark.parametrize("system", ["apart", "together"], indirect=True)
def test_an_event_loop_that_is_stuck_in_envoy_is_noticed(system: System) -> None:
    pids = running(system, ["ingress"])
    with stopped_thread(application_thread(pids["ingress"])):
        # Envoy's own threads and the metrics' thread go on all the while.
        poll("it is unready", lambda: system.services()["ingress"]["state"] != "ready")
    poll("it is replaced", lambda: replaced(system, pids), within_s=REPLACED_S)
    poll("predictions come", lambda: serves(system))
