"""Logs without secrets, metrics that scrape, spans that join; a log line that finds no room fails nothing."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import structlog
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc  # type: ignore[import-untyped]  # has no stubs
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # has no stubs
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]  # has no stubs
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace import hop
from headrace.hop import config, metrics, testing
from headrace.hop.metrics import LineBudget
from headrace.hop.process import logs
from headrace.hop.server.serve import serving
from tests.disks import fill, tiny_disk
from tests.libs.hop.hop_callee import fault_of
from tests.libs.hop.hop_echo import caller, definition

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-2] + "00"
SCRIPT = """
import logging, sys
from pathlib import Path
from headrace.hop import config
from headrace.hop.process import logs
settings = config.Telemetry()
log = logs.logger("router", settings)
logs.take_over("router", settings)
filler = Path(sys.argv[1])
log.info("before")
print("full?", flush=True)
sys.stdin.readline()
for number in range(100):
    log.info("meanwhile", number=number, text="x" * 500)
    logging.getLogger("library").warning("meanwhile %s", "y" * 500)
filler.unlink()
log.info("after")
logging.getLogger("library").warning("after, too")
print("well", flush=True)
"""


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_secrets_are_hidden_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.logger("echo", config.Telemetry())
    log.info(
        "seen",
        authorization="Bearer abcdef123",
        api_key="k-1",
        token_count=5,
        headers={"Cookie": "c", "accept": "x"},
        metadata=[("x-api-key", "k-2"), ("accept", "y")],
        note="sent Authorization: Bearer abcdef123 on",
        url="redis://host?password=hunter2&db=1",
    )
    text = capsys.readouterr().err
    [line] = lines(text)
    for secret in ("abcdef123", "k-1", "k-2", "hunter2"):
        assert secret not in text
    assert (line["token_count"], line["headers"]["accept"]) == (5, "x")
    assert (line["service"], line["level"]) == ("echo", "info")


def test_bound_ids_stand_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.logger("echo", config.Telemetry(), lambda: {"trace_id": "t"})
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        log.info("inside")
    log.debug("not shown at info")
    [line] = lines(capsys.readouterr().err)
    assert (line["request_id"], line["trace_id"]) == ("r1", "t")


def test_what_libraries_log_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.take_over("echo", config.Telemetry())
        logging.getLogger("some.library").warning("tried password=%s", "hunter2")
        logging.getLogger("some.library").info("Bearer abcdef123")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    first, second = lines(capsys.readouterr().err)
    assert (first["service"], first["logger"], first["level"]) == ("echo", "some.library", "warning")
    assert (first["event"], second["event"]) == ("tried password=[redacted]", "Bearer [redacted]")


async def test_the_metrics_endpoint_scrapes() -> None:
    settings = config.ServiceSettings(
        server=config.Server(listen="127.0.0.1:0", allow_plaintext=True, drain_notice_s=0),
        telemetry=config.Telemetry(metrics="127.0.0.1:0", log_level="error"),
    )
    async with serving(definition(), settings) as running:
        async with caller(running.address) as call:
            await call("hello")
        with urllib.request.urlopen(f"http://{running.metrics_address}/metrics") as reply:
            families = {f.name: f for f in text_string_to_metric_families(reply.read().decode())}

    assert families["headrace_ready"].samples[0].value == 1
    assert families["headrace_build_info"].samples[0].labels["service"] == "echo"
    [calls] = families["headrace_hop_server_calls"].samples
    assert calls.labels == {"service": "echo", "method": "tests.Echo/One", "code": "OK"}
    assert {"process_resident_memory_bytes", "python_gc_collections"} <= families.keys()


async def test_health_reflection_and_channelz_answer_beside_the_service() -> None:
    async with testing.served(definition()) as harness, caller(harness.target) as call:
        health = health_pb2_grpc.HealthStub(call.channel)
        for name in ("", "tests.Echo"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await harness.running.health.set(serving=False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()

        reflection = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        [listed] = [r async for r in reflection.ServerReflectionInfo(asked)]
        assert "tests.Echo" in [s.name for s in listed.list_services_response.service]

        channelz = channelz_pb2_grpc.ChannelzStub(call.channel)
        servers = await channelz.GetServers(channelz_pb2.GetServersRequest(start_server_id=0))
        assert servers.server


async def test_an_open_watch_does_not_hold_the_drain() -> None:
    settings = {"server": {"drain_s": 100.0}}
    async with testing.served(definition(), settings) as harness, caller(harness.target) as call:
        watch = aiter(health_pb2_grpc.HealthStub(call.channel).Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
        draining = asyncio.ensure_future(harness.stop())
        # Without a notice the last word may be the end itself; what matters is that it comes.
        assert {reply.status async for reply in watch} <= {health_pb2.HealthCheckResponse.NOT_SERVING}
        await draining


def test_repeated_failures_are_told_a_few_times_a_second() -> None:
    budget, kind = LineBudget(), ("/m", hop.Code.RESOURCE_EXHAUSTED)
    assert [budget.take(kind, 0.5) for _ in range(15)] == [0] * 10 + [None] * 5
    assert (budget.take(kind, 1.6), budget.take(("/m", hop.Code.INTERNAL), 0.5)) == (5, 0)


async def test_a_sampled_caller_gets_a_span_over_grpc() -> None:
    exporter = InMemorySpanExporter()
    telemetry = hop.Telemetry("echo", config.Telemetry(log_level="error", trace_ratio=1.0), exporter)
    async with testing.served(definition(), telemetry=telemetry) as harness, caller(harness.target) as call:
        await call("hello", metadata=(("traceparent", SAMPLED),))
        await call("hello", metadata=(("traceparent", UNSAMPLED),))
        fault = await fault_of(call("fault", metadata=(("traceparent", SAMPLED),)))
        assert fault.reason == hop.Reason.REASON_MODEL_UNKNOWN

    good, bad = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
    for span in (good, bad):
        assert span.name.endswith("tests.Echo/One")
        assert f"{span.context.trace_id:032x}" == SAMPLED.split("-")[1]
        assert f"{span.parent.span_id:016x}" == SAMPLED.split("-")[2]
        assert span.resource.attributes["service.name"] == "echo"
    assert (bad.attributes or {})["headrace.reason"] == "MODEL_UNKNOWN"
    assert not bad.status.is_ok


DIALLED = """
import asyncio
from headrace.hop.client import dial, settings
async def dialled():
    await dial.Client("x", settings.ClientRules("unix:/nowhere")).close()
asyncio.run(dialled())"""
HEAVY = {"numpy", "opentelemetry", "pydantic", "prometheus_client", "structlog", "uvloop", "yaml"}
SERVED = "import headrace.hop.server.serve; from headrace import hop; hop.Telemetry('x')"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import headrace.hop", HEAVY),
        (DIALLED, HEAVY),
        ("import headrace.hop.transport.tls", HEAVY),
        (SERVED, {"opentelemetry", "numpy"}),
    ],
    ids=["hop", "a client", "TLS", "a server without tracing"],
)
def test_the_dialling_core_and_an_untraced_server_are_light(code: str, heavy: set[str]) -> None:
    command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)


def test_instruments_show_what_prometheus_clients_own_would() -> None:
    shown = []
    for kind in (metrics, prometheus_client):
        registry = CollectorRegistry()
        rows = kind.Counter("rows", "Rows.", ["code"], registry=registry).labels("OK")
        seconds = kind.Histogram("seconds", "Time.", buckets=(1, 2.5), registry=registry)
        for value in (0, 1, 1.5, 2.5, 7):
            rows.inc(value)
            seconds.observe(value)
        shown.append(generate_latest(registry))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_are_lost_and_counted_and_the_process_goes_on(tmp_path: Path, unbuffered: str) -> None:
    with tiny_disk(tmp_path):
        log, filler = tmp_path / "router.log", tmp_path / "filler"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(filler)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"full?\n"
        fill(tmp_path, "filler")
        said, _ = process.communicate(b"\n", timeout=60)
        assert (process.returncode, said) == (0, b"well\n")
        # The line that was torn when the room ended has a line of its own.
        lines = [_read(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines if line]
    assert sum(line is None for line in lines) <= 1
    [told] = [line for line in lines if line and line["event"] == "log lines lost"]
    written = sum(event.startswith("meanwhile") for event in events)
    assert told["count"] + written == 200
    assert [events[0], *events[-2:]] == ["before", "after", "after, too"]


def _read(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None
