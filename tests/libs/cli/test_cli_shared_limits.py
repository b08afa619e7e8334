"""`headrace status` says when doors can't share limits of tenants."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headrace.cli.diagnosis import shared_limits
from services.ingress.sharing.metrics import ShareMetrics


@pytest.fixture
def door() -> Iterator[tuple[ShareMetrics, str]]:
    registry = CollectorRegistry()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(registry))

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever).start()
    # As the supervisor tells it.
    yield ShareMetrics(registry), f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def test_a_door_that_counts_alone_is_told(door: tuple[ShareMetrics, str]) -> None:
    metrics, place = door
    services: dict[str, dict[str, str | None]] = {
        "ingress": {"metrics": place},
        "ingress.1": {"metrics": "http://127.0.0.1:1/metrics"},
        "router": {"metrics": None},
    }
    metrics.doors.set(3)
    metrics.alone.set(0)
    assert shared_limits.problem(services) is None
    metrics.alone.set(1)
    told = shared_limits.problem(services)
    assert told is not None
    assert "1 of 2 doors" in told
    assert "1/3 of each limit" in told
