"""Every panel of every dashboard shows something: asked of a real Prometheus that scrapes a system that answers requests.

GPUs are not here: their panels are asked of a page in the format of NVIDIA's dcgm-exporter, written by hand.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from headrace.cli.installation import layout
from headrace.slo.servers import PrometheusApi
from tests.libs.slo.alert_world import watched
from tests.programs import needs_program
from tests.repeated import repeated
from tests.system import HOME, ROOT, System, requests, row_request
from tests.web_server import web_server

DCGM = (Path(__file__).parent / "dcgm_exporter.txt").read_bytes()
_VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$price_per_core_hour": "0.04"}
_PATIENCE_S = 120.0
# Its outcomes come for days.
_WITHOUT_OUTCOMES = "Weekly accuracy"


@contextmanager
def broken_prices() -> Iterator[None]:
    """Prices that can't be read: the alert that the panel of alerts shows."""
    path = layout.of(HOME).prices
    path.parent.mkdir(exist_ok=True)
    path.write_text("core_hour: cheap\n")
    try:
        yield
    finally:
        path.unlink()


def shows(prometheus: PrometheusApi, expression: str) -> bool:
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return any(not math.isnan(sample.value) for sample in prometheus.query(expression))


@pytest.mark.slow
@needs_program("prometheus")
@needs_program("prometheus-alertmanager")
@pytest.mark.parametrize("system", ["apart"], indirect=True)
def test_every_panel_shows_something(system: System, tmp_path: Path) -> None:
    at = layout.of(HOME)
    services = {g["labels"]["instance"]: g["targets"][0] for g in json.loads(at.targets.read_text())}
    asked = [
        (path.stem, panel["title"], target["expr"])
        for path in (ROOT / "deploy/dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        if panel["title"] != _WITHOUT_OUTCOMES
        for target in panel.get("targets", ())
    ]

    def ask() -> None:
        system.predict(row_request(requests()[0]))
        with suppress(grpc.RpcError):
            system.predict(row_request({**requests()[0], "month": 13}))

    # The metrics of a GPU, which always are the same.
    gpu_page = 200, {"Content-Type": "text/plain; version=0.0.4"}, DCGM
    with web_server(lambda _: gpu_page) as gpu, repeated(ask, 0.05, 2), broken_prices():
        targets = {**services, "gpu": gpu.removeprefix("http://")}
        with watched(tmp_path, targets, pace=60.0) as (_, settings):
            prometheus = PrometheusApi(settings.prometheus)
            end = time.monotonic() + _PATIENCE_S
            silent = asked
            while silent and time.monotonic() < end:
                silent = [query for query in silent if not shows(prometheus, query[2])]
                time.sleep(1)
    assert silent == []
