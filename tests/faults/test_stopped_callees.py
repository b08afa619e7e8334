"""SIGSTOP of the executor with calls on their way to it: rows whose time ended meanwhile do not run when it goes on."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import yaml

from headrace.cli.installation import layout
from tests.faults.traffic import serves
from tests.gauges import samples
from tests.stopped import stopped
from tests.system import HOME, System, poll, restarted, row_request

CALLS = 24
DEADLINE_S = 0.6


@pytest.mark.parametrize("carried", ["exchange", "rpc"])
def test_rows_whose_time_ended_in_the_socket_do_not_run(system: System, carried: str) -> None:
    if carried == "rpc":
        own = yaml.safe_load(layout.of(HOME).override("router").read_text())
        settings = {"executor": {"exchange": False}}
        with restarted("router", settings, own):
            ran_in_time(system)
    else:
        ran_in_time(system)


def ran_in_time(system: System) -> None:
    poll("it serves", lambda: serves(system), within_s=60)
    before = rows_run(system)
    with stopped(system.running("executor")):
        with ThreadPoolExecutor(CALLS) as pool:
            codes = list(pool.map(lambda _: code(system), range(CALLS)))
        # Their callers were told; some more time passes, as the router's own deadlines do.
        time.sleep(DEADLINE_S)
    assert grpc.StatusCode.OK not in codes
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    answers = 0

    def again() -> bool:
        nonlocal answers
        answers += (found := serves(system))
        return found

    # A breaker may have opened; what it refuses does not reach the executor.
    poll("it serves again", again, within_s=60)
    assert rows_run(system) - before == answers


def rows_run(system: System) -> float:
    """Rows that the executor's models have run."""
    found = samples(system, "headrace_executor_batch_rows_sum", ["executor"])
    return sum(value for _, value in found)


def code(system: System) -> grpc.StatusCode:
    try:
        system.predict(row_request(system.rows[0]), timeout=DEADLINE_S)
    except grpc.RpcError as error:
        found: grpc.StatusCode = error.code()
        return found
    return grpc.StatusCode.OK
