"""kill -9 and SIGSTOP of real processes under load: fast failure or fallback, recovery without help."""

from __future__ import annotations

import os
import signal
import time

import grpc
import pytest

from tests.faults.traffic import Traffic
from tests.system import System, poll

LEAVES = ["router", "features", "preprocessing", "executor", "postprocessing"]
OK = grpc.StatusCode.OK


def healthy(traffic: Traffic, for_s: float = 1.0) -> bool:
    """Whether all that began in the last `for_s` seconds, and at least 20 requests, went well."""
    recent = traffic.since(time.monotonic() - for_s)
    return len(recent) >= 20 and all(o.code is OK and not o.fallbacks for o in recent)


@pytest.mark.parametrize("service", [*LEAVES, "ingress"])
def test_a_killed_service_is_restarted_and_errors_end(system: System, service: str) -> None:
    pid = system.status()["services"][service]["pid"]
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        poll("a new process", lambda: system.status()["services"][service]["pid"] not in (pid, None))
        poll("errors end", lambda: time.monotonic() - killed > 1.5 and healthy(traffic), within_s=30)
    failed = [o for o in traffic.since(killed - 0.1) if o.code is not OK]
    assert {o.code for o in failed} <= {grpc.StatusCode.UNAVAILABLE}
    assert all(o.took < 1.5 for o in failed)


@pytest.mark.parametrize("service", ["features", "executor"])
def test_a_stopped_service_costs_no_more_than_its_deadline(system: System, service: str) -> None:
    pid = system.status()["services"][service]["pid"]
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        stopped = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            poll("time passes", lambda: time.monotonic() - stopped > 4)
        finally:
            os.kill(pid, signal.SIGCONT)
        poll("errors end", lambda: healthy(traffic), within_s=30)
    while_stopped = [o for o in traffic.since(stopped) if o.began < stopped + 4]
    assert all(o.took < 2.5 for o in while_stopped)
    # With the breaker open, the answer (a fallback, or a refusal) comes at once.
    late = [o for o in while_stopped if o.began > stopped + 3]
    assert late
    assert sorted(o.took for o in late)[len(late) // 2] < 0.5
    if service == "features":
        answered = [o for o in late if o.code is OK]
        assert answered
        assert all(o.fallbacks for o in answered)


@pytest.mark.parametrize("service", [*LEAVES, "ingress"])
def test_a_restart_fails_no_request(system: System, service: str) -> None:
    from tests.system import headrace

    pid = system.status()["services"][service]["pid"]
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        began = time.monotonic()
        headrace("restart", service)
        poll("a new process", lambda: system.status()["services"][service]["pid"] != pid)
        poll("traffic flows", lambda: healthy(traffic))
    outcomes = traffic.since(began)
    assert len(outcomes) > 50
    assert {o.code for o in outcomes} == {OK}
    assert not any(o.fallbacks for o in outcomes)
