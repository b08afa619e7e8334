"""The way from the router to postprocessing is slow, lossy or cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.gameday.expectation import AWAY, USUAL, Expectation
from tests.alerts.alarmed_system import PLACE, Alarmed, router_settings
from tests.chaos.chaos import Chaos, Moments, Way
from tests.chaos.link import Link, Quality
from tests.libs.slo.alert_world import until
from tests.system import headrace, override

_CALLEE = "postprocessing"


def becoming(quality: Quality) -> Way:
    """A link that becomes so, and is good again afterwards."""

    @contextmanager
    def way(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
        with linked(alarmed) as link:
            moments.begin()
            link.become(quality)
            try:
                yield
            finally:
                link.become(Quality())
                moments.mend()
            until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0]))

    return way


@contextmanager
def linked(alarmed: Alarmed) -> Iterator[Link]:
    """The router calls postprocessing through a link, which is good at first."""
    link = Link(PLACE.listed(_CALLEE))
    usual = router_settings(alarmed.stores)
    with link.running():
        override("router", {**usual, _CALLEE: {"target": link.address}})
        headrace("restart", "router")
        try:
            until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0]))
            yield link
        finally:
            override("router", usual)
            headrace("restart", "router")


FAULTS = (
    Chaos(
        Expectation(
            "slow link",
            "150 ± 50 ms each way between router and postprocessing",
            "the link is as before",
            "HeadraceLatencyBurn",
            {"pipeline": "flights", "level": "14.4x"},
            codes=AWAY,
            fallbacks=USUAL,
        ),
        becoming(Quality(delay_s=0.15, jitter_s=0.05)),
    ),
    Chaos(
        Expectation(
            "lossy link",
            "20 % of the frames each way between router and postprocessing lost, which TCP sends again",
            "the link is as before",
            "HeadraceLatencyBurn",
            {"pipeline": "flights", "level": "14.4x"},
            codes=AWAY,
            fallbacks=USUAL,
        ),
        becoming(Quality(loss=0.2)),
    ),
    Chaos(
        Expectation(
            "partitioned",
            "nothing arrives any more between router and postprocessing; no connection is closed",
            "the link is as before",
            "HeadraceAvailabilityBurn",
            {"pipeline": "flights", "level": "14.4x"},
            codes=AWAY,
            fallbacks=USUAL,
        ),
        becoming(Quality(cut=True)),
    ),
)
