"""A real Alertmanager in which two alerts fire."""

import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from headrace.slo.servers import AlertmanagerApi, ServerError
from tests.libs.slo.alert_world import start
from tests.ports import free_port
from tests.system import poll

ALERTS = (
    (
        {"alertname": "HeadraceModelErrors", "severity": "page", "pipeline": "flights"},
        "4 % of the rows of model light fail",
        "headrace models list",
        "deploy/runbooks/model-errors.md",
    ),
    (
        {"alertname": "HeadraceColdStarts", "severity": "ticket", "pipeline": "fares"},
        "3 requests of the last hour met a model that was not loaded",
        "headrace models load light",
        "deploy/runbooks/cold-starts.md",
    ),
)
# What a person or program that can reach Alertmanager might send.
HOSTILE = (
    *ALERTS[:1],
    (ALERTS[1][0], "5 % of <the rows> fail", "<script>", "deploy/runbooks/../../etc/passwd.md"),
)


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """Its address."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "rules" / "alertmanager.yml"
    config.parent.mkdir()
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    listen = f"--web.listen-address={address}", "--cluster.listen-address="
    with ExitStack() as stack:
        start(stack, folder, "prometheus-alertmanager", "alertmanager", "--storage.path", *listen)
        poll("Alertmanager answers", lambda: answers(f"http://{address}"))
        yield f"http://{address}"


def answers(url: str) -> bool:
    try:
        AlertmanagerApi(url).alerts()
    except ServerError:
        return False
    return True


def fire(url: str, alerts: Sequence[tuple[Mapping[str, str], str, str, str]] = ALERTS) -> None:
    """`alerts`: labels, summary, next step, runbook."""
    told = [
        {
            "labels": dict(labels),
            "annotations": {"summary": summary, "next_step": step, "runbook": runbook},
            "startsAt": datetime.now(UTC).isoformat(),
        }
        for labels, summary, step, runbook in alerts
    ]
    request = urllib.request.Request(
        f"{url}/api/v2/alerts", json.dumps(told).encode(), {"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()
