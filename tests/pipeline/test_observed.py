"""What an operator sees: one trace per request though its rows travelled in shared batches, metrics, bounded labels."""

import itertools
import json
import secrets
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from headrace.cli.installation import layout
from headrace.state import traces
from tests.pipeline.prometheus import Prometheus
from tests.programs import needs_program
from tests.repeated import repeated
from tests.system import HOME, System, headrace, poll, row_request

SERVICES = ("ingress", "router", "features", "preprocessing", "executor", "postprocessing")
# Label values may come from documents and code, never from requests.
REQUEST_MARKS = ("observed-", "N0TRACE")
MOST_SERIES = 3000
# New in each run, for the home keeps the traces of earlier ones.
TRACE_ID = secrets.token_hex(16)


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_a_sampled_request_has_a_trace_across_all_services(system: System) -> None:
    # Rows of several requests share batches; the traced request still has a trace of its own.
    rows = itertools.cycle(system.rows[:16])
    with repeated(lambda: system.predict(row_request(next(rows))), 0.0, 16):
        trace = poll("a traced request shares a batch", lambda: _traced_in_company(system))
    assert trace["trace_id"] == TRACE_ID
    assert sorted({span["service"] for span in trace["spans"]}) == sorted(SERVICES)
    assert len([span for span in trace["spans"] if span["service"] == "ingress"]) == 1
    drawn = headrace("trace", trace["request_id"])
    assert TRACE_ID in drawn
    assert [s for s in SERVICES if s not in drawn] == []


def _traced_in_company(system: System) -> dict[str, Any] | None:
    """The trace of a request of one row, if its row shared a batch with rows of other requests."""
    request_id = f"observed-traced-{secrets.token_hex(8)}"
    request = row_request(system.rows[0], request_id=request_id)
    system.predict(request, traceparent=f"00-{TRACE_ID}-b7ad6b7169203331-01")
    trace = poll("the trace is stored", lambda: traces.find(layout.of(HOME).traces, request_id))
    rows = [int(s["attributes"]["batch_rows"]) for s in trace["spans"] if "batch_rows" in s["attributes"]]
    assert rows, trace
    return trace if max(rows) > 1 else None


def test_without_prometheus_monitoring_says_how_objectives_stand(system: System) -> None:
    def standing() -> list[dict[str, Any]]:
        system.predict(row_request(system.rows[0]))
        told: list[dict[str, Any]] = json.loads(headrace("slo", "status", "--json"))["objectives"]
        return [one for one in told if one["pipeline"] == "flights" and one["burn"] is not None]

    found = {one["objective"]: one for one in poll("requests are counted", standing)}
    assert found["availability"]["target"] == 0.999
    assert found["availability"]["budget_left"] <= 1


def test_labels_are_bounded(system: System) -> None:
    for i in range(50):
        system.predict(
            row_request({**system.rows[0], "tailnum": f"N0TRACE{i}"}, request_id=f"observed-label-{i}")
        )
    for name, metrics in system.metrics():
        text = scrape(metrics)
        series = [s for family in text_string_to_metric_families(text) for s in family.samples]
        assert 0 < len(series) < MOST_SERIES, name
        values = {value for s in series for value in s.labels.values()}
        assert not [v for v in values if any(mark in v for mark in REQUEST_MARKS)], name


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
    for name, metrics in system.metrics():
        tool = shutil.which("promtool") or ""
        done = subprocess.run(
            [tool, "check", "metrics"], input=scrape(metrics), capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "headrace_" in line]
        assert complaints == [], name
