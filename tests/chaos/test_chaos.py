"""Faults in a whole system under traffic: the expected alert is told, no more is lost than expected, all is well again."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import grpc
import pytest

from headrace.slo.rules import BURN
from tests.alerts.alarmed_system import Alarmed, Watch
from tests.chaos import disk_faults, link_faults, other_faults, process_faults
from tests.chaos.chaos import Chaos, Moments
from tests.chaos.expectation import FEW, LATE, Expectation, Figures, counted
from tests.chaos.record import ChaosRecord, row
from tests.faults.traffic import Traffic
from tests.libs.slo.alert_world import until
from tests.programs import needs_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_program("prometheus"),
    needs_program("prometheus-alertmanager"),
]
FAULTS = (*process_faults.FAULTS, *link_faults.FAULTS, *disk_faults.FAULTS, *other_faults.FAULTS)
_CALLERS = 2
# Of the alerts of `flights` at 14.4 times its budget, at a sixtieth of their times; what its document calls late.
_WINDOW_S, _LATE_S = 60.0, 0.2
_CALM = 0.05
_TOLD_S, _RECOVERED_S, _ENDED_S = 240.0, 240.0, 240.0


def test_without_a_fault(alarmed: Alarmed, record: ChaosRecord) -> None:
    """How many requests fail on this machine, as it is loaded now, for no fault of ours: a row to read the others by."""
    with _traffic(alarmed) as traffic:
        begun = time.monotonic()
        until("enough requests", lambda: len(traffic.since(begun)) >= 1000)
    expected = Expectation("none", "nothing", "nothing", "", codes=LATE, most=FEW, recovery_s=math.inf)
    figures = counted(traffic.outcomes, begun=begun, mended=time.monotonic())
    record.add(row(expected, figures, ""))
    assert expected.broken(figures) == []


@pytest.mark.parametrize("chaos", FAULTS, ids=lambda chaos: chaos.expected.name.replace(" ", "-"))
def test_what_comes_of_a_fault(alarmed: Alarmed, record: ChaosRecord, chaos: Chaos) -> None:
    figures = _done(alarmed, chaos)
    record.add(row(chaos.expected, figures, "real" if chaos.real else "1:60"))
    assert chaos.expected.broken(figures) == []


def _fires(watch: Watch, expected: Expectation) -> bool:
    wanted = {"alertname": expected.alert, **expected.labels}
    return any(wanted.items() <= alert.labels.items() for alert in watch.prometheus.alerts())


def _well(traffic: Traffic) -> bool:
    """Whether all requests of the last three seconds, and ten at least, went well: few, as others may load the machine."""
    recent = traffic.since(time.monotonic() - 3.0)
    return len(recent) >= 10 and all(o.code is grpc.StatusCode.OK and not o.fallbacks for o in recent)


@contextmanager
def _traffic(alarmed: Alarmed) -> Iterator[Traffic]:
    """Requests, once all of them are answered well."""
    traffic = Traffic(alarmed.system, workers=_CALLERS)
    until("its rows are found", partial(_begun, traffic), _RECOVERED_S)
    try:
        until("traffic flows", partial(_well, traffic), _RECOVERED_S)
        yield traffic
    finally:
        traffic.__exit__()


def _begun(traffic: Traffic) -> bool:
    try:
        traffic.__enter__()
    except grpc.RpcError:
        return False  # an earlier fault is not yet over
    return True


def _silent(watch: Watch, expected: Expectation, traffic: Traffic) -> None:
    """Waits: what an earlier fault or the preparations have left to say must not pass for what this one says."""
    if expected.alert == BURN:
        # Half of an alert is not seen: bad requests of an hour (a minute, here) that need only a few more.
        began = time.monotonic()
        until("a calm minute", partial(_calm, traffic, began), _ENDED_S)
    until(f"no {expected.alert} fires", lambda: not _fires(watch, expected), _ENDED_S)
    watch.mark()


def _calm(traffic: Traffic, began: float) -> bool:
    """Whether few requests of a whole long window were late or failed."""
    since = time.monotonic() - _WINDOW_S
    recent = traffic.since(since)
    bad = [o for o in recent if o.code is not grpc.StatusCode.OK or o.took > _LATE_S]
    return since > began and len(bad) < _CALM * len(recent)


def _done(alarmed: Alarmed, chaos: Chaos) -> Figures:
    watch = alarmed.real if chaos.real else alarmed.fast
    expected = chaos.expected

    moments = Moments(lambda: _silent(watch, expected, traffic))
    with _traffic(alarmed) as traffic:
        with chaos.way(alarmed, moments):
            until(f"{expected.alert} is told", partial(watch.tells, expected.alert, expected.labels), _TOLD_S)
            detected = time.monotonic()
            if chaos.by_itself:
                until("all is well again", partial(_well, traffic), _RECOVERED_S)
        moments.mend()
        until("all is well again", partial(_well, traffic), _RECOVERED_S)
    return counted(traffic.outcomes, begun=moments.begun, mended=moments.mended, detected=detected)
