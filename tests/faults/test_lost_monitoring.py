"""Predictions do not need the monitoring service: it may be killed, stopped or replaced."""

import json
import os
import signal
import threading
import uuid
from contextlib import suppress
from typing import Self

import pytest

from headrace.client import Headrace, HeadraceError, Outcome, UnavailableError
from tests.faults.test_hung_services import replaced
from tests.faults.traffic import serves
from tests.gauges import samples
from tests.stopped import send
from tests.system import System, headrace, poll, row_request


def record(system: System) -> int:
    with Headrace(system.endpoints["grpc"], key=system.key, attempts=1) as client:
        return client.record_outcomes([Outcome(uuid.uuid4().hex, "late", True)], timeout_s=30.0)


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


class Load:
    """Closed loops of two tenants, one of them regulated: ids that were answered, and what failed."""

    def __init__(self, system: System, keys: dict[str, str], each: int) -> None:
        self.answered: dict[str, list[str]] = {tenant: [] for tenant in keys}
        self.failed: list[str] = []
        self._system, self._each = system, each
        self._threads = [
            threading.Thread(target=self._run, args=item) for item in keys.items() for _ in range(2)
        ]

    def _run(self, tenant: str, key: str) -> None:
        with Headrace(self._system.endpoints["grpc"], key=key, attempts=1) as client:
            for i in range(self._each):
                try:
                    reply = client.predict("flights", self._system.rows[i % 100], timeout_s=30.0)
                except HeadraceError as error:
                    self.failed.append(f"{tenant}: {error}")
                else:
                    self.answered[tenant].append(reply.request_id)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()


def missing() -> int:
    """Events that were made and never stored, as the gaps say."""
    streams = json.loads(headrace("events", "gaps", "--json"))
    return sum(last - first + 1 for stream in streams for first, last in stream["gaps"])


def of_tenant(tenant: str) -> list[str]:
    """Request ids of the stored events."""
    found = json.loads(headrace("events", "list", "--tenant", tenant, "--limit", "1000", "--json"))
    return [event["request_id"] for event in found]


@pytest.mark.slow  # in short: test_monitoring_events.py, test_router_events.py
def test_killed_under_load_it_costs_no_request_and_no_regulated_event(system: System) -> None:
    suffix = uuid.uuid4().hex[:8]
    keys = {}
    for tenant, regulated in ((f"bank-{suffix}", "--regulated"), (f"shop-{suffix}", "--not-regulated")):
        headrace("tenants", "add", tenant, "--pipeline", "flights", regulated)
        keys[tenant] = headrace("keys", "create", tenant).strip()
    bank, shop = keys
    before = missing()
    poll("the door knows the tenants", lambda: all(serves(system, key=key) for key in keys.values()))
    with Load(system, keys, 400) as load:
        poll("there is load", lambda: all(len(a) > 100 for a in load.answered.values()), 60)
        pid = system.running("monitoring")
        os.kill(pid, signal.SIGKILL)
    assert load.failed == []
    assert [len(a) for a in load.answered.values()] == [800, 800]
    poll("another serves", lambda: replaced(system, {"monitoring": pid}), 60)
    poll("all of the regulated events are stored", lambda: {*load.answered[bank]} <= {*of_tenant(bank)}, 60)
    # What waits in a router arrives within a second; what is then not there is a gap.
    poll(
        "what is not stored is a gap",
        lambda: len({*load.answered[shop]} - {*of_tenant(shop)}) == missing() - before,
        60,
    )
    for tenant in keys:
        assert len(found := of_tenant(tenant)) == len({*found})
