"""A real Prometheus and a real Alertmanager on generated files, and a receiver of what Alertmanager tells; also for tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from headrace.pipeline import Pipeline
from headrace.slo import Places, SloSettings, generate
from headrace.slo.files import write

_PROGRAMS = ("prometheus", "prometheus-alertmanager")


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
    url: str = ""

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[Receiver]:
        """Takes messages until it is left."""
        receiver = cls()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.told += [
                    Told(a["status"], a["fingerprint"], a["labels"], a["annotations"]) for a in body["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        receiver.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def find(self, status: str, alert: str, **labels: str) -> Told | None:
        """The first message of such an alert."""
        wanted = {"alertname": alert, **labels}
        return next((t for t in self.told if t.status == status and wanted.items() <= t.labels.items()), None)


@contextmanager
def watched(
    folder: Path, pipelines: Sequence[Pipeline], targets: Path, **more: Any
) -> Iterator[tuple[Receiver, SloSettings]]:
    """Both servers on the rules of these pipelines, until it is left; they keep their data in `folder`. `targets`: the file that
    says where metrics are, which are scraped each second; `more`: settings of the rules.

    Raises SystemExit if a program is not installed.
    """
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed (apt-get install {program})")
    with Receiver.listening() as receiver, ExitStack() as stack:
        prometheus, alertmanager = _free(), _free()
        settings = SloSettings(
            prometheus=f"http://{prometheus}",
            alertmanager=f"http://{alertmanager}",
            page_webhook=receiver.url,
            scrape_interval_s=1,
            page_group_wait_s=1,
            ticket_group_wait_s=1,
            group_interval_s=1,
            **more,
        )
        rules = folder / "rules"
        write(rules, generate(list(pipelines), settings, Places(rules, targets)))
        _started(
            stack,
            "prometheus-alertmanager",
            f"--config.file={rules / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={alertmanager}",
            "--cluster.listen-address=",
        )
        _started(
            stack,
            "prometheus",
            f"--config.file={rules / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={prometheus}",
        )
        yield receiver, settings


def _started(stack: ExitStack, *command: str) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.kill()
        process.wait()

    stack.callback(stop)


def _free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
