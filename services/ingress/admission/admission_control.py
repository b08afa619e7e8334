"""Admission control: how many inferences may be in flight at once, and which requests are refused beyond that. A state machine.

Every request has a time limit. The number of slots adapts so that requests take, on average, a set part of their time limit:
what is admitted can end in time, and what cannot is refused before its message is read. The last slots are kept for high
priorities and for tenants that hold less than their share.

Each tenant has one vote, however many requests it sends, and the majority decides: a single tenant whose requests are all late
(as it allows too little time, or asks for what takes long) does not make the limit smaller for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from headrace.hop.errors import Fault
from headrace.hop.limiters import ADMISSION
from services.ingress.config import Admission

# Within this time many of the calls in flight end.
_RETRY_AFTER_S = 0.1
# Every priority may use this fraction of the limit. How much of the rest it may use depends on the priority (1 to 10): priority
# 10 may use all of it.
_ANY_PRIORITY = 0.7
_PRIORITIES = 10
# A tenant that holds more than its share must leave this fraction of its slots to the others.
_LEFT = 0.3
# A tenant that holds less than half its share may use this fraction of the limit in addition: other tenants may hold their slots
# for a long time, for example with messages that never become complete.
_FOR_OTHERS = 0.15
# A tenant whose requests take less than this part of `goal` may hold this fraction of the initial limit, however small the limit
# is: it became small because of others, and a tenant with this little in flight is not what makes them late.
_EARLY, _FLOOR = 0.5, 0.25
# A request of many rows holds one slot more for so many: as much work as a request of one row. It holds at most this fraction of
# the limit, so that beside other tenants one of them gets through at a time.
_ROWS_A_SLOT = 32
_BULK = 0.45
# Other tenants are there if one of them sent something within this time (seconds).
_SHARED_S = 1.0
# The limit changes when as many requests have ended as were in flight at its last change, because only their times show its
# effect. It does not change more often than this.
_WINDOW_S = 0.05
_MIN_ENDED = 8
# How far it changes at once. Latency grows with the number in flight, so the goal divided by the measured fraction is the
# wanted factor; half of it (in logarithms) is applied, so that the limit does not oscillate.
_LOWEST, _HIGHEST = 0.5, 1.5
_PART = 0.5
# A caller that allows less than this many times what its tenant's requests usually take would fail in an idle system, too: its
# failure is not a sign of overload.
_HOPELESS = 2.0
# A request that failed because of overload counts as having used at least this fraction of its time.
_FAILED = 1.5
# A tenant has a vote as long as a request of it ended within this time (seconds).
_HEARD_S = 10.0
# Weight of one request in the mean of how long a tenant's requests take now: of logarithms, so that a few long ones do not hide
# many short ones.
_WEIGHT = 1 / 32
# What is usual follows that mean: downwards at once, upwards within this time (seconds), so that an overload of some minutes does
# not look usual.
_USUAL_S = 900.0
# A tenant is slowed if its requests take this many times as long as usual.
_SLOWED = math.log(3.0)
_FOREVER = math.inf
# Less time than this is no time: it has no logarithm.
_INSTANT_S = 1e-6


class _Vote:
    """What the requests of one tenant show: which part of their time they used, and whether they are slower than usual."""

    __slots__ = ("ended", "fraction", "heard", "recent", "taken", "usual", "usual_s")

    def __init__(self, now: float) -> None:
        # Since the limit last changed: number of requests that ended, sum of the fractions of time they used.
        self.ended, self.taken = 0, 0.0
        # The mean fraction of the requests that ended before the last change, and the time of that change.
        self.fraction, self.heard = 0.0, now
        # Logarithms of the seconds that successful requests take, recently and usually; −inf: none has succeeded.
        self.recent = self.usual = -math.inf
        self.usual_s = 0.0

    def update(self, now: float) -> None:
        """Counts what has ended since the last update, if anything has."""
        if not self.ended:
            return
        self.fraction = self.taken / self.ended
        if -math.inf < self.usual < self.recent:
            self.usual += (self.recent - self.usual) * min((now - self.heard) / _USUAL_S, 1.0)
        else:
            self.usual = self.recent
        self.usual_s = math.exp(self.usual)
        self.ended, self.taken, self.heard = 0, 0.0, now

    @property
    def slowed(self) -> bool:
        return self.recent - self.usual >= _SLOWED


class AdmissionControl:
    """Counts the inferences in flight, in total and by tenant. `clock`: monotonic seconds.

    Each `acquire` that returned True is followed by one `release`.
    """

    def __init__(self, rules: Admission, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._limit = float(min(max(rules.initial, rules.minimum), rules.maximum))
        self._of: dict[str, int] = {}
        self._since = clock()
        # Since the last change: number of requests that ended, whether one was refused.
        self._ended, self._felt = 0, False
        self._due = _MIN_ENDED
        self._votes: dict[str, _Vote] = {}
        # The tenant of the newest request; when it last was another one than before.
        self._last, self._shared = "", -math.inf
        self.in_flight = 0

    @property
    def limit(self) -> int:
        return int(self._limit)

    def acquire(self, tenant: str, priority: int) -> bool:
        """Takes a slot for a request. Returns False if there is none for it."""
        mine = self._of.get(tenant, 0)
        if (
            self.in_flight >= self._limit * _ANY_PRIORITY * (1 - _LEFT)
            and self.headroom(tenant, priority) < 1
        ):
            self._felt = True
            return False
        if tenant != self._last:
            self._shared = self._clock() if self._last else self._shared
            self._last = tenant
        self.in_flight += 1
        self._of[tenant] = mine + 1
        return True

    def widen(self, tenant: str, priority: int, rows: int) -> int | None:
        """Takes the further slots of a request that has one and turns out to have so many rows, if other tenants are there.
        Returns how many; None: there are too few."""
        wanted = min(rows // _ROWS_A_SLOT, int(self._limit * _BULK))
        if not wanted or self._clock() - self._shared >= _SHARED_S:
            return 0
        if self.headroom(tenant, priority) < wanted:
            return None
        self.in_flight += wanted
        self._of[tenant] += wanted
        return wanted

    def headroom(self, tenant: str, priority: int) -> int:
        """How many more of a tenant's requests would get a slot now."""
        mine = self._of.get(tenant, 0)
        slots = self._limit * (_ANY_PRIORITY + (1 - _ANY_PRIORITY) * (priority - 1) / (_PRIORITIES - 1))
        tenants = len(self._of) + (mine == 0)
        if tenants > 1:
            if mine * tenants >= slots:
                slots *= 1 - _LEFT
            elif 2 * mine * tenants < slots:
                slots += self._limit * _FOR_OTHERS
        room = math.ceil(max(slots, 1.0)) - self.in_flight
        if room < 1 and self._limit < self._rules.initial and self._early(tenant):
            room = min(int(self._rules.initial * _FLOOR) - mine, self._rules.initial - self.in_flight)
        return max(room, 0)

    def _early(self, tenant: str) -> bool:
        """Whether a tenant's requests end long before they must, as far as is known."""
        vote = self._votes.get(tenant)
        return vote is None or vote.fraction < self._rules.goal * _EARLY

    def release(self, tenant: str, took: float, allowed: float, overloaded: bool, slots: int = 1) -> None:
        """A request has ended after `took` of the `allowed` seconds; inf: its time shows nothing. `overloaded`: it failed
        because of overload."""
        self.in_flight -= slots
        left = self._of[tenant] - slots
        if left:
            self._of[tenant] = left
        else:
            del self._of[tenant]
        if allowed == _FOREVER:
            return
        vote = self._votes.get(tenant)
        if vote is None:
            vote = self._votes[tenant] = _Vote(self._clock())
        if overloaded:
            if allowed < _HOPELESS * vote.usual_s:
                return
            vote.taken += max(took / allowed, _FAILED)
        else:
            log = math.log(took if took > _INSTANT_S else _INSTANT_S)
            vote.recent = log if vote.recent == -_FOREVER else vote.recent + (log - vote.recent) * _WEIGHT
            vote.taken += took / allowed
        vote.ended += 1
        self._ended += 1
        if self._ended >= self._due and self._clock() - self._since >= _WINDOW_S:
            self._move()

    def _move(self) -> None:
        rules, now = self._rules, self._clock()
        fine: list[float] = []
        late: list[float] = []
        slowed = False
        for tenant, vote in list(self._votes.items()):
            vote.update(now)
            if now - vote.heard > _HEARD_S:
                del self._votes[tenant]
                continue
            slowed = slowed or vote.slowed
            (late if vote.slowed or vote.fraction >= rules.goal else fine).append(vote.fraction)
        majority = late if len(late) > len(fine) else fine
        mean = sum(majority) / len(majority)
        factor = min(max(rules.goal / mean, _LOWEST), _HIGHEST) ** _PART if mean > 0 else _HIGHEST**_PART
        # If no request was refused, or what was admitted slows one of the minority, there is no reason to grow beyond the initial
        # limit. Up to the initial limit it does grow: a limit that an outage has made small must not still be small at the next
        # burst.
        grows = self._felt and (majority is late or not slowed)
        most = rules.maximum if grows else max(self._limit, rules.initial)
        self._limit = min(max(self._limit * factor, rules.minimum), most)
        self._since = now
        self._ended, self._felt = 0, False
        self._due = max(self.in_flight, _MIN_ENDED)


def no_slot() -> Fault:
    """What a request is told for which there is none."""
    return ADMISSION.refusal(
        "there is more to do than can be done in time; try again later", retry_after_s=_RETRY_AFTER_S
    )
