"""kill -9 and SIGSTOP of real processes under load: fast failure or fallback, recovery without help."""

import statistics
import time

import grpc
import pytest

from headrace.cli.installation import services
from tests.faults.traffic import HURRIED, Outcome, Traffic, healthy, kinds
from tests.stopped import stopped
from tests.system import System, headrace, poll

SERVICES = list(services.start_order())
# No prediction waits for the other two: test_lost_monitoring.py, test_broken_documents.py.
ASKED = [s for s in SERVICES if s not in services.ASIDE]
OK, UNAVAILABLE, LATE = (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# A new process imports its libraries on processors that the traffic keeps busy.
RECOVERY_S = 60
# Well below what the supervisor bears, on a machine that is late by a second, too.
STOPPED_S = 4


def seconds(outcomes: list[Outcome]) -> float:
    """The median time they took."""
    return statistics.median(o.took for o in outcomes)


@pytest.mark.parametrize("service", ASKED)
def test_a_killed_service_is_restarted_and_errors_end(system: System, service: str) -> None:
    killed(system, service)


@pytest.mark.parametrize("system", ["together"], indirect=True)
def test_a_killed_door_is_restarted_and_errors_end(system: System) -> None:
    killed(system, "ingress")


def killed(system: System, service: str) -> None:
    """kill -9 under load, and what has to become of it."""
    # With a second for a request, a busy machine would be too late by itself.
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        calm = traffic.calm()
        killed = time.monotonic()
        system.kill(service)
        poll("the fault shows", lambda: not healthy(traffic))
        poll("errors end", lambda: healthy(traffic), within_s=RECOVERY_S)
    hit = [o for o in traffic.since(killed) if o.code is not OK or o.fallbacks]
    assert hit
    # Features have a fallback, so a request fails for nothing that happens to them.
    assert {o.code for o in hit} == ({OK} if service == "features" else {UNAVAILABLE})
    assert seconds(hit) < 0.5 + calm.median
    # Nobody waits for its deadline, of half a minute.
    assert max(o.took for o in hit) < 1.5 + 2 * calm.slowest


@pytest.mark.parametrize("service", [s for s in ASKED if s != services.INGRESS])
def test_a_stopped_service_costs_no_more_than_its_deadline(system: System, service: str) -> None:
    pid = system.running(service)
    with Traffic(system, HURRIED) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        calm = traffic.calm()
        began = time.monotonic()
        with stopped(pid):
            time.sleep(STOPPED_S)
        poll("errors end", lambda: healthy(traffic), within_s=RECOVERY_S)
    assert system.pid(service) == pid
    during = [o for o in traffic.since(began) if o.began < began + STOPPED_S]
    hit = [o for o in during if o.code is not OK or o.fallbacks]
    # The pipeline gives a request a second; whatever happens, the caller hears about it then.
    assert all(o.took < 1.5 + calm.slowest for o in hit)
    # With the breaker open, the answer (a fallback, or a refusal) comes at once.
    late = [o for o in hit if o.began > began + 3]
    assert seconds(late) < 0.5 + calm.median
    if service == "features":
        assert {o.code for o in hit} == {OK}
    else:
        assert {o.code for o in hit} <= {UNAVAILABLE, LATE}
        # Only the stopped one is blamed: nobody shuts out those that wait for it in vain.
        refused = {o.message for o in hit if o.code is UNAVAILABLE}
        assert refused
        assert all(message.startswith(f"{service} ") for message in refused)


@pytest.mark.parametrize("service", SERVICES)
def test_a_restart_fails_no_request(system: System, service: str) -> None:
    restarted(system, service)


@pytest.mark.parametrize("system", ["together"], indirect=True)
def test_a_restart_of_all_at_once_fails_no_request(system: System) -> None:
    restarted(system, "ingress")


def restarted(system: System, service: str) -> None:
    """`headrace restart` under load, and what has to become of it."""
    pid = system.pid(service)
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        began = time.monotonic()
        headrace("restart", service, timeout=RECOVERY_S + 60)
        assert system.pid(service) not in (pid, None)
        poll("traffic flows", lambda: healthy(traffic))
    outcomes = traffic.since(began)
    assert len(outcomes) > 50
    assert kinds(o for o in outcomes if o.code is not OK or o.fallbacks) == {}
