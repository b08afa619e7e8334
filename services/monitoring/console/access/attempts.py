"""Bounds failed attempts to sign in, per address and in all. Pure: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from headrace.hop.resilience.limiter import TokenBucket

_ADDRESSES = 1024
# Failures a second, and how many may come at once.
PER_ADDRESS, IN_ALL = (1 / 12, 5.0), (1 / 2, 30.0)


class Attempts:
    """Counts failures. `clock`: monotonic seconds. Who has failed too often learns nothing of a further wrong key, however many
    connections it has. The right key is never held up: it has 256 random bits, so nobody guesses it.

    At most 1,024 addresses are told apart; those that failed longest ago are forgotten first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_address: OrderedDict[str, TokenBucket] = OrderedDict()
        self._all = TokenBucket(*IN_ALL, clock())

    def failed(self, address: str) -> float:
        """A wrong key of this address. 0.0: it is judged by itself; else the seconds until the next one is."""
        now = self._clock()
        own = self._of_address.pop(address, None) or TokenBucket(*PER_ADDRESS, now)
        self._of_address[address] = own
        if len(self._of_address) > _ADDRESSES:
            self._of_address.popitem(last=False)
        wait = max(own.wait(now, 1.0), self._all.wait(now, 1.0))
        if wait == 0.0:
            own.spend(1.0)
            self._all.spend(1.0)
        return wait
