"""What an operator sees: one trace per request though its rows travelled in shared batches, metrics, bounded labels."""

from __future__ import annotations

import concurrent.futures
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.pipeline.prometheus import Prometheus
from tests.programs import needs_program
from tests.system import System, headrace, poll, row_request

SERVICES = ("ingress", "router", "features", "preprocessing", "executor", "postprocessing")
# Label values may come from documents and code, never from requests.
REQUEST_MARKS = ("observed-", "N0TRACE")
MOST_SERIES = 3000
# Requests that are under way while one is traced, and how many are traced until one of them has shared a batch.
OTHERS = 8
TRACED_AT_MOST = 20


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_a_sampled_request_has_a_trace_across_all_services(system: System) -> None:
    with asked_meanwhile(system):
        traces = (_traced(system, uuid.uuid4().hex) for _ in range(TRACED_AT_MOST))
        shared, trace_id, drawn = next((found for found in traces if found[0]), ([], "", ""))
    assert shared, "no traced request shared a batch"
    # Rows of several requests share batches; each request still has a trace of its own.
    assert trace_id in drawn
    assert [s for s in SERVICES if s not in drawn] == []
    assert "observed-other" not in drawn


@contextmanager
def asked_meanwhile(system: System) -> Iterator[None]:
    """Other requests are under way from the first to the last moment of the block."""
    over, under_way = threading.Event(), threading.Barrier(OTHERS + 1)

    def ask(number: int) -> None:
        system.predict(row_request(system.rows[number], request_id=f"observed-other-{number}"))
        under_way.wait()
        while not over.is_set():
            system.predict(row_request(system.rows[number], request_id=f"observed-other-{number}"))

    with concurrent.futures.ThreadPoolExecutor(OTHERS) as pool:
        others = [pool.submit(ask, number) for number in range(OTHERS)]
        try:
            under_way.wait(timeout=60)
            yield
        finally:
            over.set()
            for other in others:
                other.result()


def _traced(system: System, trace_id: str) -> tuple[list[int], str, str]:
    """A request of one row that is sampled: the sizes of the batches it shared with others, its trace id, its drawing."""
    request_id = f"observed-traced-{trace_id}"
    with system.channel() as channel:
        call: Any = channel.unary_unary(
            "/headrace.api.inference.v1.InferenceService/Predict",
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=None,
        )
        metadata = (*system.auth(), ("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"))
        call(row_request(system.rows[0], request_id=request_id), timeout=5, metadata=metadata)
    drawn = poll("the trace is stored", lambda: _drawn(request_id))
    # The table breaks long lines anywhere.
    sizes = re.findall(r"batch_rows=(\d+)", re.sub(r"\s+", "", drawn))
    return [int(size) for size in sizes if int(size) > 1], trace_id, drawn


def _drawn(request_id: str) -> str | None:
    try:
        return headrace("trace", request_id)
    except AssertionError:
        return None


def test_an_unknown_trace_says_what_to_do(system: System) -> None:
    with pytest.raises(AssertionError, match=r"no-such-request"):
        headrace("trace", "no-such-request")


def test_labels_are_bounded(system: System) -> None:
    for i in range(50):
        system.predict(
            row_request({**system.rows[0], "tailnum": f"N0TRACE{i}"}, request_id=f"observed-label-{i}")
        )
    for name, service in system.status()["services"].items():
        text = scrape(service["metrics"])
        series = [s for family in text_string_to_metric_families(text) for s in family.samples]
        assert 0 < len(series) < MOST_SERIES, name
        values = {value for s in series for value in s.labels.values()}
        assert not [v for v in values if any(mark in v for mark in REQUEST_MARKS)], name


def test_the_seeds_first_metrics_are_there(system: System) -> None:
    system.predict(row_request(system.rows[0]))
    text = "".join(scrape(s["metrics"]) for s in system.status()["services"].values())
    wanted = {
        "headrace_request_seconds_bucket": "M1 latency",
        "headrace_ingress_requests_total": "M2 availability, M4 errors, M7 throughput",
        "headrace_executor_run_seconds_bucket": "M5 model latency",
        "headrace_features_age_seconds_bucket": "M8 freshness",
        "headrace_executor_queue_rows": "M11 queue length",
    }
    assert [f"{name}: {what}" for name, what in wanted.items() if name not in text] == []


@needs_program("prometheus")
def test_prometheus_scrapes_every_service(system: System, tmp_path: Path) -> None:
    targets = [urllib.parse.urlsplit(s["metrics"]).netloc for s in system.status()["services"].values()]
    with Prometheus.running(tmp_path, targets) as prometheus:
        poll("all targets up", lambda: prometheus.up() == len(targets), within_s=30)
        assert prometheus.dropped() == []


@needs_program("prometheus")
def test_prometheus_follows_a_restart(system: System, tmp_path: Path) -> None:
    def moved() -> dict[str, str]:
        services = system.status()["services"]
        return {name: urllib.parse.urlsplit(s["metrics"]).netloc for name, s in services.items()}

    name = "preprocessing" if system.shape == "apart" else "ingress"
    before = moved()
    with Prometheus.running(tmp_path, Path(system.status()["prometheus_targets"])) as prometheus:
        poll("all targets up", lambda: prometheus.addresses() == before, within_s=30)
        headrace("restart", name)
        after = moved()
        assert after[name] != before[name]
        poll("the new address", lambda: prometheus.addresses() == after, within_s=30)


@needs_program("promtool")
def test_promtool_finds_no_fault_with_the_metrics(system: System) -> None:
    for name, service in system.status()["services"].items():
        tool = shutil.which("promtool") or ""
        done = subprocess.run(
            [tool, "check", "metrics"],
            input=scrape(service["metrics"]),
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = [line for line in done.stderr.splitlines() if "headrace_" in line]
        assert complaints == [], name
