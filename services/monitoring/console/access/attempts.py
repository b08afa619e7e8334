"""Bounds failed attempts to sign in, per address and in all. Pure: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_ADDRESSES = 1024


@dataclass(frozen=True, slots=True)
class Allowance:
    """Failures that may come at once, and the seconds after which one more is allowed."""

    burst: int
    each_s: float


PER_ADDRESS = Allowance(5, 12.0)
IN_ALL = Allowance(30, 2.0)


class Attempts:
    """Counts failures in leaky buckets. `clock`: monotonic seconds. Who has failed too often learns nothing of a further wrong
    key, however many connections it has. The right key is never held up: it has 256 random bits, so nobody guesses it.

    At most 1,024 addresses are told apart; those that failed longest ago are forgotten first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # When the failures so far are forgiven, by address.
        self._free: OrderedDict[str, float] = OrderedDict()
        self._all_free = 0.0

    def wait_s(self, address: str) -> float:
        """How long until a wrong key of this address is judged by itself again; 0.0: now."""
        now = self._clock()
        waits = (
            _wait(self._free.get(address, 0.0), now, PER_ADDRESS),
            _wait(self._all_free, now, IN_ALL),
        )
        return max(waits)

    def failed(self, address: str) -> None:
        """An attempt that was looked at and failed."""
        now = self._clock()
        self._free[address] = max(self._free.pop(address, 0.0), now) + PER_ADDRESS.each_s
        self._all_free = max(self._all_free, now) + IN_ALL.each_s
        if len(self._free) > _ADDRESSES:
            self._free.popitem(last=False)


def _wait(free: float, now: float, allowance: Allowance) -> float:
    # With `burst` failures owed, the next attempt waits until one is forgiven.
    return max(free - now - (allowance.burst - 1) * allowance.each_s, 0.0)
