"""Event loops that hang are noticed; callers that hang up leave every queue; finding out costs no request."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from tests.faults.test_killed_services import RECOVERY_S
from tests.faults.traffic import ENOUGH, HURRIED, Traffic, healthy, serves
from tests.gauges import busy, cancelled
from tests.stopped import stopped, stopped_thread
from tests.system import System, poll, predicting, row_request

# The supervisor's patience with its ordinary rules, and the start of the next process.
REPLACED_S = 60 + RECOVERY_S
# Nice value of the application's thread in Envoy (services/ingress/asgi.py).
NICE = 5
CALLS = 100
# Long enough for the breaker to be half open twice: it rests for 1, 2, 4 s.
WATCHED_S = 4
# The supervisor replaces a process that is stopped for longer; on a busy machine the breaker may need a part of that time.
HUNG_S = 5.5
# A call that is to find out waits for as long as the pipeline gives a request: a second.
SLOW_S = 0.5


def replaced(system: System, pids: dict[str, int]) -> bool:
    services = system.services()
    return all(
        services[s]["pid"] not in (pid, None) and services[s]["state"] == "ready" for s, pid in pids.items()
    )


def running(system: System, services: list[str]) -> dict[str, int]:
    return {service: system.running(service) for service in services}


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


async def hang_up(system: System, after_s: float) -> None:
    """Begins the calls and closes their connection."""
    async with grpc.aio.insecure_channel(
        system.endpoints["grpc"], options=[("grpc.enable_retries", 0)]
    ) as channel:
        method = predicting(channel)
        calls = [method(row_request(system.rows[i]), metadata=system.auth()) for i in range(CALLS)]
        await asyncio.sleep(after_s)
        await channel.close(None)
        assert not [call for call in calls if call.done() and not call.cancelled()]


def test_callers_of_a_service_that_hangs(system: System) -> None:
    poll("nobody is served", lambda: not busy(system))
    before = cancelled(system)
    with stopped(system.running("executor")):
        # Less than the second that a request of the pipeline is given.
        asyncio.run(hang_up(system, 0.4))
        poll("all are counted", lambda: cancelled(system) - before == CALLS)
    poll("nobody is served any more", lambda: not busy(system))
    poll("predictions come", lambda: serves(system))


def refused(traffic: Traffic) -> bool:
    """Whether the breaker is open: the last 20, of a dozen callers, heard so at once."""
    recent = list(traffic.outcomes)[-ENOUGH:]
    return len(recent) == ENOUGH and all(
        o.code is not grpc.StatusCode.OK and o.took < SLOW_S / 2 for o in recent
    )


def test_who_asks_while_a_service_hangs_does_not_wait_to_find_out(system: System) -> None:
    pid = system.running("executor")
    with Traffic(system, HURRIED) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        calm = traffic.since(0)
        held = sum(o.took > SLOW_S for o in calm) / len(calm)  # by the machine itself
        # It is replaced meanwhile, if it takes long until the breaker opens.
        with stopped(pid):
            since = time.monotonic()
            poll("the breaker opens", lambda: refused(traffic), within_s=10)
            opened = time.monotonic()
            time.sleep(max(min(WATCHED_S, since + HUNG_S - opened), 2))
            ended = time.monotonic()
        poll("errors end", lambda: healthy(traffic), within_s=RECOVERY_S)
    during = [o for o in traffic.since(opened) if o.began < ended - SLOW_S]
    assert len(during) > 50
    assert not [o for o in during if o.code is grpc.StatusCode.OK]
    slow = [o for o in during if o.took > SLOW_S]
    # Where calls had to find out, each time all 12 clients waited: at least twice.
    assert len(slow) < 10 + 2 * held * len(during), (
        f"{len(slow)} of {len(during)} took longer than {SLOW_S} s"
    )
