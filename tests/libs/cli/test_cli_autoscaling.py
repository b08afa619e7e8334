"""The queries that services scale by: they name series that the services export, and Prometheus answers what is meant."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from headrace.hop.config import Telemetry as TelemetrySettings
from headrace.hop.errors import BLAME, Blame, Code, Reason
from headrace.hop.limiters import LIMITERS
from headrace.hop.process.telemetry import Telemetry
from services.executor.metrics import Metrics as ExecutorMetrics
from services.ingress.reporting.metrics import Metrics as DoorMetrics
from tests.libs.cli.kubernetes_cluster import built, query_of
from tests.programs import needs_program

pytestmark = needs_program("kustomize")
# The overlays in which the executor scales by its CPU time, and by the time that its models run.
CPU, RUNS = "cpu", "gpu"
WHERE = 'namespace="headrace"'
SERVED = f'headrace_request_seconds_count{{{WHERE},pipeline="flights",outcome="ok",instance="d"}}'
REFUSED = f'headrace_ingress_requests_total{{{WHERE},fault="ours",code="RESOURCE_EXHAUSTED",instance="d"}}'
OVER_QUOTA = (
    f'headrace_ingress_requests_total{{{WHERE},fault="caller",code="RESOURCE_EXHAUSTED",instance="d"}}'
)


async def test_each_series_of_the_queries_is_exported_with_its_labels() -> None:
    telemetry = Telemetry("executor", TelemetrySettings())
    door, runs = CollectorRegistry(), CollectorRegistry()
    DoorMetrics(door)
    ExecutorMetrics(runs)
    try:
        # Names also of series that have no sample yet.
        text = "".join(generate_latest(each).decode() for each in (telemetry.registry, door, runs))
    finally:
        await telemetry.close()
    exported = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    for overlay in (CPU, RUNS):
        wanted = set(re.findall(r"\b((?:process|headrace)_\w+)\{", query_of(built(overlay), "executor")))
        assert wanted
        assert {re.sub("_(count|sum)$", "", name) for name in wanted} <= exported
    assert re.search(r'^headrace_build_info\{[^}]*service="executor"[^}]*\} 1.0$', text, re.MULTILINE)


def test_what_capacity_refuses_counts_as_offered_and_what_a_quota_refuses_does_not() -> None:
    """The query tells them apart by `fault` and `code`, so each reason for RESOURCE_EXHAUSTED must have the right blame."""
    capacity = {each.reason for each in LIMITERS.values() if each.code is Code.RESOURCE_EXHAUSTED}
    assert BLAME[Reason.REASON_OVERLOADED] is Blame.OURS
    assert BLAME[Reason.REASON_QUOTA_EXCEEDED] is Blame.CALLER
    ours = {reason for reason in capacity if BLAME[reason] is Blame.OURS}
    # A store of keys that is full is not mended by more pods of any service, but it refuses few.
    assert ours <= {Reason.REASON_OVERLOADED, Reason.REASON_IDEMPOTENCY_KEYS_FULL}


def of(name: str, instance: str, **labels: str) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in {"instance": instance, **labels}.items())
    return f"{name}{{{WHERE},{told}}}"


def process(instance: str, service: str, cores: float) -> dict[str, str]:
    """A process that takes so many cores."""
    return {
        of("process_cpu_seconds_total", instance): f"0+{cores * 5}x40",
        of("headrace_build_info", instance, service=service, version="1"): "1x40",
    }


TWO = {**process("a", "executor", 0.5), **process("b", "executor", 0.3), **process("c", "router", 5)}
ELSEWHERE = {
    'process_cpu_seconds_total{namespace="other",instance="o"}': "0+50x40",
    'headrace_build_info{namespace="other",instance="o",service="executor",version="1"}': "1x40",
}
CASES: dict[str, tuple[dict[str, str], str, float | None]] = {
    "each request is served": ({**TWO, **ELSEWHERE, SERVED: "0+500x40"}, CPU, 0.8),
    "as many were refused for lack of capacity as were served": (
        {**TWO, SERVED: "0+500x40", REFUSED: "0+500x40"},
        CPU,
        1.6,
    ),
    "a tenant is far over its quota": ({**TWO, SERVED: "0+500x40", OVER_QUOTA: "0+9000x40"}, CPU, 0.8),
    "nobody has asked yet": (TWO, CPU, 0.8),
    "nearly nothing is served": ({**TWO, REFUSED: "0+9000x40"}, CPU, 8.0),
    "a pod was replaced by one of another version at its address": (
        {**TWO, of("headrace_build_info", "a", service="executor", version="2"): "_x20 1x20"},
        CPU,
        0.8,
    ),
    # No answer, so KEDA leaves the size as it is.
    "the processes are not scraped": ({SERVED: "0+500x40"}, CPU, None),
    "one model runs half of the time, and half is refused": (
        {
            of("headrace_executor_run_seconds_sum", "a", model="m", version="1"): "0+2.5x40",
            SERVED: "0+500x40",
            REFUSED: "0+500x40",
        },
        RUNS,
        1.0,
    ),
}


@needs_program("promtool")
def test_prometheus_answers_the_cores_that_are_demanded(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {
            "name": name,
            "interval": "5s",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "promql_expr_test": [
                {
                    # To six places: rates are sums of fractions.
                    "expr": f"round({query_of(built(overlay), 'executor')}, 0.000001)",
                    "eval_time": "180s",
                    "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for name, (given, overlay, expected) in CASES.items()
    ]
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": cases}))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
