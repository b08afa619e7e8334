"""Deployments as metrics, from their record."""

from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from headrace.state import deployments
from headrace.state.deployments import Result
from services.monitoring.deployments import DeploymentMetrics

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def record(path: Path, *results: Result) -> None:
    for result in results:
        deployments.end(path, NOON, deployments.begin(path, NOON, "1", {}, "me"), result)


def told(registry: CollectorRegistry) -> dict[str, float]:
    samples = [s for metric in registry.collect() for s in metric.samples]
    return {f"{s.name} {'/'.join(s.labels.values())}".strip(): s.value for s in samples}


def test_deployments_are_counted(tmp_path: Path) -> None:
    registry, path = CollectorRegistry(), tmp_path / "deployments.jsonl"
    registry.register(DeploymentMetrics(path, structlog.get_logger()))
    nothing = {
        "headrace_deployments_total succeeded": 0.0,
        "headrace_deployments_total rolled_back": 0.0,
        "headrace_deployments_total failed": 0.0,
        "headrace_deployments_unreadable": 0.0,
    }
    assert told(registry) == nothing
    record(path, Result.SUCCEEDED, Result.ROLLED_BACK)
    found = told(registry)
    assert found == nothing | {
        "headrace_deployments_total succeeded": 1.0,
        "headrace_deployments_total rolled_back": 1.0,
    }


def test_a_damaged_record_is_told_once_and_what_was_known_stays(tmp_path: Path) -> None:
    registry, path = CollectorRegistry(), tmp_path / "deployments.jsonl"
    log = structlog.get_logger()
    registry.register(DeploymentMetrics(path, log))
    record(path, Result.SUCCEEDED)
    assert told(registry)["headrace_deployments_unreadable"] == 0.0
    good = path.read_bytes()
    with structlog.testing.capture_logs() as said:
        path.write_bytes(b"{}\n" + good)
        found = [told(registry) for _ in range(2)]
    assert [
        (f["headrace_deployments_unreadable"], f["headrace_deployments_total succeeded"]) for f in found
    ] == [(1.0, 1.0)] * 2
    assert len(said) == 1
    path.write_bytes(good)
    assert told(registry)["headrace_deployments_unreadable"] == 0.0
