"""What one door may use of a tenant's limits until its next exchange with Redis, and what it used since the last. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# How much of a changed demand is believed at once: one exchange is a tenth of a second, in which few requests may come.
_BELIEVED = 0.5
# A door that holds no lease of a tenant lets this part of its local share of requests begin: the others learn of them at the
# next exchange. More would go beyond the limit each time that a tenant comes back, less would refuse an ordinary burst.
_UNLEASED = 0.5
# For how long after it told its use a door may use the tokens that it got for it. A door that was quiet for longer has its local
# part of them, so that the others may have what it does not use.
GRANTED_S = 0.25


@dataclass(frozen=True, slots=True)
class Use:
    """What a door tells of a tenant. Rows and bytes: taken since the last exchange, and asked for per second, whether they were
    given or not. `in_flight`: requests now; `wanted`: the most that would have been in flight at once."""

    rows: float
    bytes: float
    rows_demand: float
    bytes_demand: float
    in_flight: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a door gets. Tokens: what this door may take at once (negative: its part of the debt of all); shares: its part (0 to
    1) of the rate and of the burst; `slots`: requests that it may have in flight."""

    rows_tokens: float
    rows_share: float
    bytes_tokens: float
    bytes_share: float
    slots: int


class Lease:
    """Counts. `slots`: requests that may be in flight at this door; `until`: when its tokens are no longer its own, and it has
    the part of one of `doors` (monotonic seconds). Not for several threads."""

    __slots__ = (
        "_bytes_demand",
        "_peak",
        "_refused",
        "_rows_demand",
        "asked_bytes",
        "asked_rows",
        "bytes",
        "doors",
        "rows",
        "slots",
        "until",
        "used",
    )

    def __init__(self) -> None:
        self.slots = 0
        self.doors, self.until = 1, float("inf")
        # Since the last exchange: taken, and asked for.
        self.rows = self.bytes = 0.0
        self.asked_rows = self.asked_bytes = 0.0
        # Whether anything happened since then.
        self.used = False
        self._refused = self._peak = 0
        self._rows_demand = self._bytes_demand = 0.0

    def begin(self, in_flight: int) -> None:
        """A request has begun; so many are in flight with it."""
        self.used = True
        if in_flight > self._peak:
            self._peak = in_flight

    def refuse(self) -> None:
        """A request got no slot."""
        self.used = True
        self._refused += 1

    def tell(self, in_flight: int, passed_s: float, most: int) -> Use:
        """What to tell Redis, `passed_s` after the last exchange; counting begins anew. `most`: the tenant's limit of requests in
        flight (0: none), beyond which there is nothing to want.

        If the answer gets lost, what was taken is forgotten: it would be taken twice if Redis had heard of it.
        """
        passed = max(passed_s, 1e-3)
        self._rows_demand += _BELIEVED * (self.asked_rows / passed - self._rows_demand)
        self._bytes_demand += _BELIEVED * (self.asked_bytes / passed - self._bytes_demand)
        wanted = min(max(self._peak, in_flight) + self._refused, most)
        told = Use(self.rows, self.bytes, self._rows_demand, self._bytes_demand, in_flight, wanted)
        self.rows = self.bytes = self.asked_rows = self.asked_bytes = 0.0
        self._refused, self._peak, self.used = 0, 0, False
        return told


def local_slots(limit: int, doors: int) -> int:
    """Requests in flight at one of several doors that can't ask Redis: at least one, so that no tenant is locked out."""
    return max(limit // doors, 1)


def unleased_slots(limit: int, doors: int) -> int:
    """Requests that a door may begin for a tenant before it has a lease."""
    return limit if doors == 1 else max(int(limit // doors * _UNLEASED), 1)
