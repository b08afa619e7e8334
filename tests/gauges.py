"""What the services of a running system say is still being done."""

import urllib.request
from collections.abc import Container
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from headrace.cli.installation import services as installed
from tests.system import System

Sample: TypeAlias = tuple[dict[str, str], float]
# Zero when nobody is served.
BUSY = ("headrace_ingress_in_flight", "headrace_hop_waiting_rows", "headrace_executor_queue_rows")


def samples(system: System, name: str, services: Container[str] = installed.start_order()) -> list[Sample]:
    """Labels and value of each series of this name, in the processes of these services."""
    found: list[Sample] = []
    for service, metrics in system.metrics():
        if service not in services:
            continue
        with urllib.request.urlopen(metrics, timeout=60) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            found += [(s.labels, s.value) for s in family.samples if s.name == name]
    return found


def busy(system: System) -> dict[str, float]:
    """Those of the gauges of work that are not zero; each is there."""
    sums = {}
    for name in BUSY:
        series = samples(system, name)
        assert series, f"nobody has {name}"
        sums[name] = sum(value for _, value in series)
    return {name: value for name, value in sums.items() if value}


def cancelled(system: System) -> float:
    """Requests whose callers went away, counted since the door began."""
    series = samples(system, "headrace_ingress_requests_total", ["ingress"])
    return sum(value for labels, value in series if labels["code"] == "CANCELLED")
