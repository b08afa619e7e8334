"""A cause, provoked on the door's own metrics, and its end reach a webhook through real Prometheus and Alertmanager."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from prometheus_client import CollectorRegistry

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.process.endpoint import MetricsEndpoint
from headrace.slo.budgets import standings
from headrace.slo.servers import PrometheusApi, ServerError
from services.ingress.reporting.metrics import Metrics
from services.ingress.request_context import RequestContext, RequestTrace
from tests.libs.pipeline.pipeline_documents import parsed
from tests.libs.slo.alert_world import until, watched
from tests.programs import needs_program

BURN = "HeadraceErrorBudgetBurn"
_BROKEN = Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "broken")


class Door:
    """The metrics of an ingress that answers 100 requests a second."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.metrics = Metrics(registry)
        self.metrics.follow([parsed()])
        self.endpoint = MetricsEndpoint("127.0.0.1:0", registry)
        # Share of the requests that fail.
        self.share = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator[Self]:
        door = cls()
        door._thread.start()
        try:
            yield door
        finally:
            door._ended.set()
            door._thread.join()
            door.endpoint.close()

    def answer(self, count: int, fault: Fault | None) -> None:
        for _ in range(count):
            context = RequestContext("Predict", {}, 0.0, RequestTrace("", "", sampled=False))
            context.pipeline, context.inference, context.fault = "small", True, fault
            self.metrics.done(context, fault.code if fault else Code.OK, 0.01)

    def _serve(self) -> None:
        while not self._ended.wait(0.25):
            failing = round(25 * self.share)
            self.answer(failing, _BROKEN)
            self.answer(25 - failing, None)


@needs_program("prometheus")
@needs_program("prometheus-alertmanager")
def test_a_broken_promise_rings_and_stops_ringing(tmp_path: Path) -> None:
    with (
        Door.serving() as door,
        watched(tmp_path, {"ingress": door.endpoint.address}, pace=90.0) as (receiver, settings),
    ):
        prometheus = PrometheusApi(settings.prometheus)
        until("a good start", lambda: [s.state for s in standings(prometheus)] == ["kept"])
        assert not receiver.told
        door.share = 1.0
        until("a page", lambda: receiver.find("firing", BURN, severity="page", level="14.4x"))
        told = next(a for a in receiver.told if a.labels["alertname"] == BURN)
        assert told.annotations["runbook"] == "deploy/runbooks/error-budget-burn.md"
        assert standings(prometheus)[0].burn > 14.4
        # The tickets of the same promise fire too, and are not sent.
        until("a ticket", lambda: any(a.labels["severity"] == "ticket" for a in prometheus.alerts()))
        assert {a.labels["severity"] for a in receiver.told} == {"page"}
        door.share = 0.0
        until("its end", lambda: receiver.find("resolved", BURN, level="14.4x"))


def test_a_server_that_is_not_there_is_named_with_its_setting() -> None:
    with pytest.raises(ServerError, match=r"127.0.0.1:9/.*settings/slo.yaml: prometheus"):
        PrometheusApi("http://127.0.0.1:9").alerts()
    with pytest.raises(ServerError, match="does not begin with http"):
        PrometheusApi("file:///etc/passwd").alerts()
