"""The way from the router to postprocessing is slow, lossy or cut."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.slo.rules import BURN
from tests.alerts.alarmed_system import PLACE, Alarmed, router_settings
from tests.chaos.chaos import Chaos, Moments, Way
from tests.chaos.expectation import Expectation
from tests.chaos.link import Link, Quality
from tests.libs.slo.alert_world import until
from tests.system import restarted

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
    with link.running(), restarted("router", {**usual, _CALLEE: {"target": link.address}}, usual):
        until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0]))
        yield link


def _fault(name: str, what: str, objective: str, quality: Quality) -> Chaos:
    labels = {"pipeline": "flights", "objective": objective, "level": "14.4x"}
    return Chaos(Expectation(name, what, "the link is as before", BURN, labels), becoming(quality))


FAULTS = (
    _fault(
        "slow link",
        "150 ± 50 ms each way between router and postprocessing",
        "latency",
        Quality(delay_s=0.15, jitter_s=0.05),
    ),
    _fault(
        "lossy link",
        "20 % of the frames each way between router and postprocessing lost, which TCP sends again",
        "latency",
        Quality(loss=0.2),
    ),
    _fault(
        "partitioned",
        "nothing arrives any more between router and postprocessing; no connection is closed",
        "availability",
        Quality(cut=True),
    ),
)
