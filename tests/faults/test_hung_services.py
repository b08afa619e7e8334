"""Processes that hang and that nobody helps: each is replaced, and predictions work again."""

import os
from pathlib import Path

import grpc
import pytest

from tests.faults.test_killed_services import RECOVERY_S, SERVICES
from tests.stopped import ALL_THREADS, stop, stopped_thread
from tests.system import System, poll, row_request

# The supervisor's patience with its ordinary rules, and the start of the next process.
REPLACED_S = 60 + RECOVERY_S
# Nice value of the application's thread in Envoy (services/ingress/asgi.py).
NICE = 5


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
    thread = application_thread(pids["ingress"])
    with stopped_thread(thread):
        # Envoy's own threads and the metrics' thread go on all the while.
        poll("it is unready", lambda: system.services()["ingress"]["state"] != "ready")
        poll("it is killed", lambda: os.waitpid(thread, ALL_THREADS | os.WNOHANG)[0], within_s=REPLACED_S)
    poll("it is replaced", lambda: replaced(system, pids), within_s=REPLACED_S)
    poll("predictions come", lambda: serves(system))
