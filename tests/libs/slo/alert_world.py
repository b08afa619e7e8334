"""A real Prometheus and a real Alertmanager on the files of deploy/alerts, and a receiver of what Alertmanager tells."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headrace.cli.supervision import prometheus_targets
from headrace.slo import SloSettings
from headrace.slo.rules import RULES
from headrace.slo.servers import PrometheusApi
from tests.children import ends_with_tests
from tests.ports import free_port
from tests.system import ROOT, poll
from tests.web_server import Answer, Request, web_server

SERVERS = ROOT / "deploy/alerts"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


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


def paced(rules: str, pace: float) -> str:
    """The rules with all times divided by `pace`. No range becomes shorter than four scrapes of a second."""

    def divided(found: re.Match[str]) -> str:
        least = 4 if found[1] == "[" else 1
        return f"{found[1]}{max(round(int(found[2]) * _UNITS[found[3]] / pace), least)}s"

    return re.sub(r"(\[|offset |for: )(\d+)([smhd])\b", divided, rules) if pace != 1 else rules


@contextmanager
def watched(
    folder: Path, targets: Mapping[str, str] | Path, pace: float = 1.0
) -> Iterator[tuple[Receiver, SloSettings]]:
    """Both servers on the files of deploy/alerts, their data in `folder`, once Prometheus scrapes (each second). `targets`:
    instance → host:port, or the file that says so; `pace`: all times of rules are divided by it."""
    file = targets if isinstance(targets, Path) else folder / "targets.json"
    if not isinstance(targets, Path):
        prometheus_targets.write(file, targets)
    receiver = Receiver()
    with ExitStack() as stack:
        url = stack.enter_context(web_server(receiver.answer))
        prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = SloSettings(prometheus=f"http://{prometheus}", alertmanager=f"http://{alertmanager}")
        rules = folder / "rules"
        rules.mkdir()
        (rules / "rules.yml").write_text(paced(RULES.read_text(), pace))
        asked = yaml.safe_load((SERVERS / "prometheus.yml").read_text())
        asked["rule_files"] = ["rules.yml"]
        asked["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        asked["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
        asked["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(file)]
        (rules / "prometheus.yml").write_text(yaml.safe_dump(asked))
        told = yaml.safe_load((SERVERS / "alertmanager.yml").read_text())
        for one in told["receivers"]:
            one["webhook_configs"] = [{"url": f"{url}/"}]
        for route in (told["route"], *told["route"]["routes"]):
            route |= {"group_wait": "1s", "group_interval": "1s"}
        (rules / "alertmanager.yml").write_text(yaml.safe_dump(told))
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
