"""What a fault of this suite is: an expectation, and how it is done to a running system."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.alerts.alarmed_system import Alarmed
from tests.chaos.expectation import FEW, LATE, USUAL, Expectation


@dataclass(slots=True)
class Moments:
    """When it began and when it was mended (monotonic s), as far as the way to do it knows better than its caller. `before`: is
    called once all is prepared, and returns when the fault may begin."""

    before: Callable[[], None]
    begun: float = 0.0
    mended: float = 0.0

    def begin(self) -> None:
        """Now; all before were preparations."""
        self.before()
        self.begun = time.monotonic()

    def mend(self) -> None:
        """Now; only the first time counts."""
        self.mended = self.mended or time.monotonic()


Way = Callable[[Alarmed, Moments], AbstractContextManager[None]]


def lasting(cause: Callable[[Alarmed], AbstractContextManager[None]]) -> Way:
    """A cause of tests/alerts, which is there within its context."""

    @contextmanager
    def way(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
        moments.begin()
        with cause(alarmed):
            yield
        moments.mend()

    return way


@dataclass(frozen=True, slots=True)
class Chaos:
    """`way`: the fault lasts within the context, and calls `begin`. `real`: the alert is waited for in real time, not at a
    sixtieth of its times. `by_itself`: it ends within the context, without help."""

    expected: Expectation
    way: Way
    real: bool = False
    by_itself: bool = False


def harmless(
    way: Way, name: str, what: str, mended: str, alert: str, *, real: bool = False, **more: Any
) -> Chaos:
    """A fault that costs no request. `more`: labels of the alert; fallbacks that rows may have beside the usual ones."""
    fallbacks = (*USUAL, *more.pop("fallbacks", ()))
    return Chaos(
        Expectation(name, what, mended, alert, codes=LATE, fallbacks=fallbacks, most=FEW, **more), way, real
    )
