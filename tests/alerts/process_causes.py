"""Causes in processes, disks and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest import mock

from headrace.cli.installation import certificates
from headrace.slo.servers import PrometheusApi
from tests.alerts.alarmed_system import PLACE, Alarmed, repeated, router_settings
from tests.alerts.causes import Cause
from tests.alerts.stopped_thread import stopped_thread
from tests.disks import fill, tiny_disk
from tests.libs.slo.alert_world import until
from tests.system import headrace, override

_MADE_BEFORE = timedelta(days=2)


@contextmanager
def wrong_settings(alarmed: Alarmed) -> Iterator[None]:
    """Postprocessing is killed, and can't start."""
    override("postprocessing", {"server": {"drain_s": "soon"}})
    alarmed.kill("postprocessing")
    row = alarmed.system.rows[0]
    try:
        with repeated(lambda: alarmed.asks("flights", row), 0.05):
            yield
    finally:
        override("postprocessing", {})
        alarmed.ready("postprocessing")


def _at_least(prometheus: PrometheusApi, expression: str, least: float) -> bool:
    return any(sample.value >= least for sample in prometheus.query(expression))


@contextmanager
def killed_thrice(alarmed: Alarmed) -> Iterator[None]:
    """Preprocessing is killed three times, as soon as Prometheus has seen its new process."""
    changes = 'changes(process_start_time_seconds{instance="preprocessing"}[15m])'
    for count in (1, 2, 3):
        alarmed.kill("preprocessing")
        alarmed.ready("preprocessing")
        until("its new process is seen", partial(_at_least, alarmed.real.prometheus, changes, count))
    yield


@contextmanager
def blocked_loop(alarmed: Alarmed) -> Iterator[None]:
    """The thread of postprocessing's event loop stands still; that of its metrics does not."""
    with stopped_thread(alarmed.pid("postprocessing")):
        yield


@contextmanager
def full_disk(_: Alarmed) -> Iterator[None]:
    """The disk on which events are written is full."""
    folder = PLACE.events / "open"
    with tiny_disk(folder):
        filler = fill(folder, "filler")
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def short_certificate(alarmed: Alarmed, life: timedelta) -> Iterator[None]:
    """The door's certificate ends after this time (negative: it has ended)."""
    folder = PLACE.tls
    kept = {path: path.read_bytes() for path in (folder / "server.pem", folder / "server.key")}
    with mock.patch.object(certificates, "_SERVER_LIFE", _MADE_BEFORE + life):
        certificates._make_server(folder, datetime.now(UTC) - _MADE_BEFORE)
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


@contextmanager
def broken_prices(_: Alarmed) -> Iterator[None]:
    """The file of prices has a mistake."""
    PLACE.prices.parent.mkdir(exist_ok=True)
    PLACE.prices.write_text("core_hour: cheap\n")
    try:
        yield
    finally:
        PLACE.prices.unlink()


@contextmanager
def no_monitoring(alarmed: Alarmed) -> Iterator[None]:
    """The router asks for the monitoring service where there is none."""
    wrong = {"target": f"unix-dir:{PLACE.run / 'nobody'}"}
    (PLACE.run / "nobody").mkdir(exist_ok=True)
    settings = router_settings(alarmed.stores)
    override("router", {**settings, "monitoring": wrong, "events": {"max_waiting_rows": 200}})
    headrace("restart", "router")
    try:
        yield
    finally:
        override("router", settings)
        headrace("restart", "router")


CAUSES = (
    Cause(
        {
            "HeadraceTargetDown": {"instance": "postprocessing"},
            "HeadraceAvailabilityBurn": {"pipeline": "flights", "level": "14.4x"},
        },
        "postprocessing killed (SIGKILL), its settings file wrong so that it does not start",
        "the settings corrected; it starts within 10 s by itself",
        wrong_settings,
    ),
    Cause(
        {"HeadraceCrashLoop": {"instance": "preprocessing"}},
        "preprocessing killed (SIGKILL) three times",
        "nothing more kills it",
        killed_thrice,
    ),
    Cause(
        {"HeadraceLoopBlocked": {"instance": "postprocessing"}},
        "the thread of postprocessing's event loop stopped (ptrace)",
        "it goes on; after 23 to 28 s the supervisor would replace the process",
        blocked_loop,
    ),
    Cause(
        {"HeadraceDiskWritesFailing": {"instance": "monitoring"}},
        "a full disk (tmpfs of 1 MiB) where events are written",
        "room is made",
        full_disk,
    ),
    Cause(
        {"HeadraceCertificateExpiring": {}},
        "the door gets a certificate that ends in 10 days",
        "one that lasts is put in its place",
        lambda alarmed: short_certificate(alarmed, timedelta(days=10)),
    ),
    Cause(
        {"HeadraceCertificateEnding": {}},
        "the door gets a certificate that ends in a day",
        "one that lasts is put in its place",
        lambda alarmed: short_certificate(alarmed, timedelta(days=1)),
    ),
    Cause(
        {"HeadraceCertificateRefused": {"instance": "ingress"}},
        "the door gets a certificate that has ended",
        "one that lasts is put in its place",
        lambda alarmed: short_certificate(alarmed, timedelta(days=-1)),
    ),
    Cause(
        {"HeadraceCostUntold": {"instance": "monitoring"}},
        "a mistake in prices.yaml",
        "it is taken away",
        broken_prices,
    ),
    Cause(
        {
            "HeadraceTelemetryLost": {"instance": "router"},
            "HeadraceEventsDropped": {"instance": "router"},
            "HeadraceEventsBehind": {"instance": "router"},
        },
        "the router asks for the monitoring service where there is none",
        "its settings corrected, `headrace restart router`",
        no_monitoring,
        {"HeadraceEventsMissing": {}},
    ),
)
