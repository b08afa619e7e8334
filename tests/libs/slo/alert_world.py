"""A real Prometheus and a real Alertmanager on generated files, and a receiver of what Alertmanager tells."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.cli.supervision import prometheus_targets
from headrace.pipeline import Pipeline
from headrace.slo import Places, SloSettings, generate
from headrace.slo.files import write
from headrace.slo.servers import PrometheusApi
from tests.children import ends_with_tests
from tests.ports import free_port
from tests.system import poll
from tests.web_server import Answer, Request, web_server


def until(what: str, holds: Callable[[], Any], patience_s: float = 120.0) -> None:
    """Waits until it holds; fails if it never does."""
    poll(what, holds, patience_s)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that the receiver was told of. `status`: firing or resolved; `fingerprint`: of its labels."""

    status: str
    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass
class Receiver:
    """What a webhook of Alertmanager was told, the oldest first."""

    told: list[Told] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        alerts = json.loads(request.body)["alerts"]
        self.told += [Told(a["status"], a["fingerprint"], a["labels"], a["annotations"]) for a in alerts]
        return 200, {}, b""

    def find(self, status: str, alert: str, **labels: str) -> Told | None:
        """The first message of such an alert."""
        wanted = {"alertname": alert, **labels}
        return next((t for t in self.told if t.status == status and wanted.items() <= t.labels.items()), None)


@contextmanager
def watched(
    folder: Path, pipelines: Sequence[Pipeline], targets: Mapping[str, str] | Path, **more: Any
) -> Iterator[tuple[Receiver, SloSettings]]:
    """Both servers on the rules of these pipelines, their data in `folder`, once Prometheus scrapes (each second). `targets`:
    instance → host:port, or the file that says so; `more`: settings of the rules."""
    file = targets if isinstance(targets, Path) else folder / "targets.json"
    if not isinstance(targets, Path):
        prometheus_targets.write(file, targets)
    receiver = Receiver()
    with ExitStack() as stack:
        url = stack.enter_context(web_server(receiver.answer))
        prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = SloSettings(
            prometheus=f"http://{prometheus}",
            alertmanager=f"http://{alertmanager}",
            page_webhook=f"{url}/",
            scrape_interval_s=1,
            page_group_wait_s=1,
            ticket_group_wait_s=1,
            group_interval_s=1,
            **more,
        )
        rules = folder / "rules"
        write(rules, generate(list(pipelines), settings, Places(rules, file)))
        listen = f"--web.listen-address={alertmanager}", "--cluster.listen-address="
        start(stack, folder, "prometheus-alertmanager", "alertmanager", "--storage.path", *listen)
        listen_here = f"--web.listen-address={prometheus}"
        start(stack, folder, "prometheus", "prometheus", "--storage.tsdb.path", listen_here)
        until("Prometheus scrapes", lambda: _up(settings.prometheus))
        yield receiver, settings


def start(stack: ExitStack, folder: Path, program: str, name: str, storage: str, *options: str) -> None:
    """Starts a server on `rules/NAME.yml` of the folder."""
    files = f"--config.file={folder / 'rules' / name}.yml", f"{storage}={folder / 'data' / name}"
    command = ends_with_tests(program, *files, *options)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def _up(url: str) -> bool:
    try:
        return bool(PrometheusApi(url).query('up{job="headrace"} == 1'))
    except Exception:  # noqa: BLE001 - it is still starting
        return False
