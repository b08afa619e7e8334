"""A lost store, a lost backend, a certificate that has ended, a clock that is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest

from tests.alerts.alarmed_system import Alarmed
from tests.alerts.model_causes import remote_first
from tests.alerts.process_causes import short_certificate
from tests.chaos.chaos import Moments, harmless, lasting
from tests.chaos.clock import Clock
from tests.libs.slo.alert_world import until


@contextmanager
def lost_redis(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The Redis of features and of kept answers is killed, and started again."""
    moments.begin()
    alarmed.stores.kill()
    try:
        yield
    finally:
        alarmed.stores.start()
        moments.mend()


@contextmanager
def lost_backend(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The backend on which the light model runs first is lost; its standby takes over."""
    with remote_first(alarmed, "onnxruntime") as server:
        until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0]))
        moments.begin()
        server.process.kill()
        yield
        moments.mend()


@contextmanager
def wrong_clock(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The clock of all processes is two days ahead, then right again."""
    clock = Clock.of(alarmed.folder)
    if clock is None:
        pytest.skip("libfaketime is not installed (apt-get install faketime)")
    moments.begin()
    clock.ahead("+2d")
    try:
        yield
    finally:
        clock.ahead("+0")
        moments.mend()


FAULTS = (
    harmless(
        lost_redis,
        "lost Redis",
        "the Redis of features and kept answers killed (SIGKILL)",
        "it is started again",
        "HeadraceFeatureStoreErrors",
        fallbacks=("cache",),
    ),
    harmless(
        lost_backend,
        "lost GPU (simulated)",
        "the executor's first backend, another process in place of a GPU, killed",
        "its standby on the CPU serves; the executor is restarted without the lost one",
        "HeadraceBackendFailover",
        labels={"model": "flights_light"},
        fallbacks=("model/light:standby",),
    ),
    harmless(
        lasting(partial(short_certificate, life=timedelta(days=-1))),
        "expired certificate",
        "the door gets a certificate that ended yesterday",
        "one that lasts is put in its place",
        "HeadraceCertificateRefused",
        labels={"instance": "ingress"},
    ),
    harmless(
        wrong_clock,
        "clock skew",
        "the clock of all processes two days ahead (libfaketime), then right again",
        "the clock is right",
        "HeadraceFeaturesStale",
    ),
)
