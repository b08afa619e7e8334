"""The servers of `load.systems.alert_servers`, for tests: they scrape when the test begins."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.cli.supervision import prometheus_targets
from headrace.pipeline import Pipeline
from headrace.slo import SloSettings
from headrace.slo.servers import PrometheusApi
from load.systems import alert_servers
from load.systems.alert_servers import Receiver


def until(what: str, holds: Callable[[], Any], patience_s: float = 120.0) -> None:
    """Waits until it holds; fails if it never does."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@contextmanager
def watched(
    folder: Path, pipelines: list[Pipeline], targets: Mapping[str, str] | Path, **more: Any
) -> Iterator[tuple[Receiver, SloSettings]]:
    """See `alert_servers.watched`. `targets`: instance → host:port, or the file that says so."""
    if isinstance(targets, Path):
        file = targets
    else:
        file = folder / "targets.json"
        prometheus_targets.write(file, targets)
    with alert_servers.watched(folder, pipelines, file, **more) as (receiver, settings):
        until("Prometheus scrapes", lambda: _up(settings.prometheus))
        yield receiver, settings


def _up(url: str) -> bool:
    try:
        return bool(PrometheusApi(url).query('up{job="headrace"} == 1'))
    except Exception:  # noqa: BLE001 - it is still starting
        return False
