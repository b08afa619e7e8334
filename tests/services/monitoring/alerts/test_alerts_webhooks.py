"""Who is told: once when an alert begins, again after an hour, and when it ends; what could not be sent is sent later."""

import json

import structlog

from headrace.slo.servers import Alert
from services.monitoring.alerts.webhooks import Webhooks
from tests.web_server import Answer, Request, web_server


def alert(name: str, severity: str = "page", state: str = "active") -> Alert:
    labels = {"alertname": name, "severity": severity, "pipeline": "p"}
    return Alert(name, labels, {"summary": "s"}, state, "2026-01-01T00:00:00+00:00")


class Receiver:
    """A webhook and what it was told, as Alertmanager would tell it."""

    def __init__(self) -> None:
        self.status = 200
        self.messages: list[tuple[str, list[tuple[str, str]]]] = []

    def answer(self, request: Request) -> Answer:
        body = json.loads(request.body)
        if self.status == 200:
            assert body["version"] == "4"
            told = [(a["status"], a["labels"]["alertname"]) for a in body["alerts"]]
            self.messages.append((body["status"], told))
        return self.status, {}, b""


def test_beginnings_repeats_and_ends_are_sent() -> None:
    told, now = Receiver(), [1000.0]
    with web_server(told.answer) as url:
        webhooks = Webhooks({"page": url}, lambda: now[0], structlog.get_logger())

        def sent(*alerts: Alert) -> list[tuple[str, list[tuple[str, str]]]]:
            told.messages.clear()
            webhooks.tell(alerts)
            assert webhooks._sending is not None
            webhooks._sending.result()
            return list(told.messages)

        told.status = 500
        assert sent(alert("A")) == []
        told.status = 200
        both = alert("A"), alert("B")
        assert sent(*both, alert("C", "ticket"), alert("D", state="suppressed")) == [
            ("firing", [("firing", "A"), ("firing", "B")])
        ]
        assert sent(*both) == []
        now[0] += 3600
        assert sent(alert("A"), alert("B", state="suppressed")) == [("firing", [("firing", "A")])]
        assert sent() == [("resolved", [("resolved", "A"), ("resolved", "B")])]
        assert sent() == []
        webhooks.close()
