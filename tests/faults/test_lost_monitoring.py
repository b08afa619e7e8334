"""Predictions do not need the monitoring service: it may be killed, stopped or replaced."""

import os
import signal
import uuid
from contextlib import suppress

import pytest

from headrace.client import Headrace, Outcome, UnavailableError
from tests.gauges import samples
from tests.stopped import send
from tests.system import System, poll, row_request


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
