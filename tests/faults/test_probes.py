"""What it costs to find out whether a service that hangs is back: no request, however long it takes."""

import os
import signal
import time
from contextlib import suppress

import grpc

from tests.faults.test_killed_services import RECOVERY_S
from tests.faults.traffic import ENOUGH, HURRIED, Traffic, healthy
from tests.stopped import stop
from tests.system import System, poll

# Long enough for the breaker to be half open twice: it rests for 1, 2, 4 s.
WATCHED_S = 4
# The supervisor replaces a process that is stopped for longer; on a busy machine the breaker may need a part of that time.
HUNG_S = 5.5
# A call that is to find out waits for as long as the pipeline gives a request: a second.
SLOW_S = 0.5


def refused(traffic: Traffic) -> bool:
    """Whether the breaker is open: the last 20, of a dozen callers, heard so at once."""
    recent = list(traffic.outcomes)[-ENOUGH:]
    return len(recent) == ENOUGH and all(
        o.code is not grpc.StatusCode.OK and o.took < SLOW_S / 2 for o in recent
    )


def test_who_asks_while_a_service_hangs_does_not_wait_to_find_out(system: System) -> None:
    pid = system.pid("executor")
    assert pid is not None
    with Traffic(system, HURRIED) as traffic:
        poll("traffic flows", lambda: healthy(traffic))
        calm = traffic.since(0)
        held = sum(o.took > SLOW_S for o in calm) / len(calm)  # by the machine itself
        stop(pid)
        stopped = time.monotonic()
        try:
            poll("the breaker opens", lambda: refused(traffic), within_s=10)
            opened = time.monotonic()
            time.sleep(max(min(WATCHED_S, stopped + HUNG_S - opened), 2))
            ended = time.monotonic()
        finally:
            with suppress(
                ProcessLookupError
            ):  # replaced already, if it took so long until the breaker opened
                os.kill(pid, signal.SIGCONT)
        poll("errors end", lambda: healthy(traffic), within_s=RECOVERY_S)
    during = [o for o in traffic.since(opened) if o.began < ended - SLOW_S]
    assert len(during) > 50
    assert not [o for o in during if o.code is grpc.StatusCode.OK]
    slow = [o for o in during if o.took > SLOW_S]
    # Where calls had to find out, each time all 12 clients waited: at least twice.
    assert len(slow) < 10 + 2 * held * len(during), (
        f"{len(slow)} of {len(during)} took longer than {SLOW_S} s"
    )
