"""Two executors and two preprocessings: their callers use both, and go on with one."""

import os
import signal
import time

import grpc
import pytest

from tests.faults.traffic import Traffic, healthy, kinds
from tests.gauges import samples
from tests.system import System, headrace, poll

REPLICATED = ("executor", "preprocessing")
ENOUGH = 300
OK = grpc.StatusCode.OK


@pytest.fixture(autouse=True)
def _apart(system: System) -> None:
    if system.shape == "together":
        pytest.skip("together, a service has no process of its own")


def served(system: System, instance: str) -> int:
    """Calls that a process has answered, health checks aside."""
    series = samples(system, "headrace_hop_server_calls_total", [instance])
    return int(
        sum(
            value
            for labels, value in series
            if labels["method"].rpartition("/")[2] in ("Execute", "Transform")
        )
    )


def test_the_router_picks_both_evenly(system: System) -> None:
    names = [(s, f"{s}.2") for s in REPLICATED]
    before = {name: served(system, name) for pair in names for name in pair}

    def pairs() -> list[list[int]]:
        return [[served(system, name) - before[name] for name in pair] for pair in names]

    with Traffic(system):
        # So many that a fair pick all but never leaves one of them a third (five deviations).
        poll("enough calls", lambda: all(sum(pair) >= ENOUGH for pair in pairs()), within_s=120)
    for pair in pairs():
        assert min(pair) > 0.35 * sum(pair), f"{names}: {pairs()}"


@pytest.mark.parametrize("service", REPLICATED)
def test_a_killed_replica_fails_no_request(system: System, service: str) -> None:
    pid = system.pid(f"{service}.2")
    assert pid is not None
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        poll("a new process", lambda: system.pid(f"{service}.2") not in (pid, None))
        poll("traffic flows", lambda: healthy(traffic), within_s=60)
    assert kinds(o for o in traffic.since(killed) if o.code is not OK or o.fallbacks) == {}


def test_a_restart_of_a_service_is_one_of_each_replica(system: System) -> None:
    before = {name: system.pid(name) for name in ("executor", "executor.2", "preprocessing")}
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        began = time.monotonic()
        headrace("restart", "executor", timeout=120)
        poll("traffic flows", lambda: healthy(traffic))
    changed = {name for name, pid in before.items() if system.pid(name) != pid}
    assert changed == {"executor", "executor.2"}
    assert kinds(o for o in traffic.since(began) if o.code is not OK or o.fallbacks) == {}
