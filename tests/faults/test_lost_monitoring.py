"""Predictions do not need the monitoring service: it may be killed, stopped or replaced."""

import os
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest

from headrace.client import Headrace, Outcome, UnavailableError
from tests.faults.test_events_account import stored
from tests.faults.traffic import Traffic, add_hurried, healthy, kinds
from tests.gauges import samples
from tests.stopped import send
from tests.system import PATIENT_MS, System, headrace, poll, row_request


def record(system: System) -> int:
    with Headrace(system.endpoints["grpc"], key=system.key, attempts=1) as client:
        return client.record_outcomes([Outcome(uuid.uuid4().hex, "late", True)], timeout_s=30.0).stored


def reported(system: System) -> bool:
    return sum(value for _, value in samples(system, "headrace_monitoring_ticks_total", ["monitoring"])) > 0


def recorded(system: System) -> bool:
    try:
        return record(system) == 1
    except UnavailableError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_predictions_go_on_without_it_and_it_comes_back(system: System, how: signal.Signals) -> None:
    pid = system.running("monitoring")
    send(pid, how)
    try:
        for row in system.rows[:40]:
            answer = system.predict(row_request(row), timeout=30)
            assert answer.predictions[0].outputs["probability"] >= 0
    finally:
        if how is signal.SIGSTOP:
            with suppress(ProcessLookupError):  # the supervisor was faster
                os.kill(pid, signal.SIGCONT)
    poll("outcomes are stored again", lambda: recorded(system), 60)
    poll("the router reports again", lambda: reported(system), 60)


ROLLS: dict[str, Callable[[System], object]] = {
    "restart": lambda system: headrace("restart", "monitoring"),
    "sigterm": lambda system: system.kill("monitoring", how=signal.SIGTERM),
}


@pytest.mark.parametrize("roll", ROLLS)
def test_a_roll_refuses_and_loses_no_regulated_prediction(system: System, roll: str) -> None:
    add_hurried(system, name := f"regulated_{roll}", PATIENT_MS, "regulated: true\n")
    with Traffic(system, name, pause_s=0.1) as traffic:  # about 100 a second
        poll("traffic flows", lambda: healthy(traffic))
        ROLLS[roll](system)
        poll("outcomes are stored again", lambda: recorded(system), 60)
        poll("traffic flows", lambda: healthy(traffic))
    assert kinds(o for o in traffic.outcomes if o.code is not grpc.StatusCode.OK) == {}
    poll("all are stored", lambda: traffic.answered() <= set(stored(name)))
