"""Causes in processes, disks and certificates."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest import mock

from headrace.cli.installation import certificates
from tests.alerts.alarmed_system import PLACE, Alarmed, router_settings
from tests.alerts.causes import Cause, Causes, restored
from tests.disks import fill, tiny_disk
from tests.repeated import repeated
from tests.stopped import stopped_thread
from tests.system import override, restarted

CAUSES = Causes()

_MADE_BEFORE = timedelta(days=2)


@CAUSES.add(
    TargetDown={"instance": "postprocessing"}, AvailabilityBurn={"pipeline": "flights", "level": "14.4x"}
)
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


@CAUSES.add(LoopBlocked={"instance": "postprocessing"})
def blocked_loop(alarmed: Alarmed) -> Iterator[None]:
    """The thread of postprocessing's event loop stands still; that of its metrics does not."""
    with stopped_thread(alarmed.pid("postprocessing")):
        yield


@CAUSES.add(DiskWritesFailing={"instance": "monitoring"})
def full_disk(_: Alarmed) -> Iterator[None]:
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
    with restored(folder / "server.pem", folder / "server.key"):
        with mock.patch.object(certificates, "_SERVER_LIFE", _MADE_BEFORE + life):
            certificates._make_server(folder, datetime.now(UTC) - _MADE_BEFORE)
        yield


for _alert, _days in (("Expiring", 10), ("Ending", 1), ("Refused", -1)):
    _alerts = {f"HeadraceCertificate{_alert}": {"instance": "ingress"}}
    CAUSES.append(Cause(_alerts, partial(short_certificate, life=timedelta(days=_days))))


@CAUSES.add(CostUntold={"instance": "monitoring"})
def broken_prices(_: Alarmed) -> Iterator[None]:
    PLACE.prices.parent.mkdir(exist_ok=True)
    PLACE.prices.write_text("core_hour: cheap\n")
    try:
        yield
    finally:
        PLACE.prices.unlink()


@CAUSES.add(
    afterwards="HeadraceEventsMissing",
    TelemetryLost={"instance": "router"},
    EventsDropped={"instance": "router"},
    EventsBehind={"instance": "router"},
)
def no_monitoring(alarmed: Alarmed) -> Iterator[None]:
    wrong = {"target": f"unix-dir:{PLACE.run / 'nobody'}"}
    (PLACE.run / "nobody").mkdir(exist_ok=True)
    settings = router_settings(alarmed.stores)
    changed = {**settings, "monitoring": wrong, "events": {"max_waiting_bytes": 80_000}}
    with restarted("router", changed, settings):
        yield
