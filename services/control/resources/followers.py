"""Who follows what is live, what each has of it, and who may apply a change first. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headrace.catalog.access import Position

# Who has not asked for so long is gone; it is shown for as long as SHOWN_S.
GONE_S, SHOWN_S = 60.0, 300.0
# The others wait so long for the one that goes first, then another one does: it may be frozen. One that is well says within a
# second or two what became of the change; one that ends by it twice is back in that time, and says so.
FIRST_S = 15.0
MAX_FOLLOWERS = 10_000
_MAX_REJECTED = 100


@dataclass(frozen=True, slots=True)
class Rejected:
    """A resource that could not be taken over. `sha256`: of its content; `problem`: why; `crashed`: it ended the process."""

    kind: str
    name: str
    sha256: bytes
    problem: str
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Follower:
    """A process of the data plane. `asked`: when it asked last, or was answered. `diverged`: why what it has does not belong to
    the history; "": it does."""

    name: str
    service: str
    have: Position | None = None
    rejected: tuple[Rejected, ...] = ()
    ready: bool = False
    asked: float = 0.0
    diverged: str = ""


@dataclass(slots=True)
class _First:
    """Who may apply the changes up to a number before the others do, and since when."""

    name: str
    number: int
    since: float


@dataclass(slots=True)
class Followers:
    """Used on one event loop. `clock`: monotonic seconds. `first_s`: see FIRST_S."""

    clock: Callable[[], float]
    first_s: float = FIRST_S
    _known: dict[tuple[str, str], Follower] = field(default_factory=dict)
    _first: dict[str, _First] = field(default_factory=dict)
    # Service → the position that one of its processes has acknowledged last.
    _acknowledged: dict[str, Position] = field(default_factory=dict)
    # Of the database's history, by which was judged who has diverged.
    _history: tuple[int, int] = (0, 0)

    def heard(self, found: Follower) -> bool:
        """One asks. False: there are too many to know another one."""
        key = (found.service, found.name)
        if key not in self._known and len(self._known) >= MAX_FOLLOWERS:
            self.sweep()
            if len(self._known) >= MAX_FOLLOWERS:
                return False
        self._known[key] = replace(found, asked=self.clock(), rejected=found.rejected[:_MAX_REJECTED])
        return True

    def judge_by(self, history: int, epoch: int) -> None:
        """The database has another history than before, or a new epoch: who had diverged from the old one is judged anew when it
        asks next. It may ask another process of control, and this one would go on refusing changes because of it."""
        if (history, epoch) != self._history:
            self._history = history, epoch
            self._known = {key: replace(f, diverged="") for key, f in self._known.items()}

    def answered(self, service: str, name: str) -> None:
        """A call of its ends: it may take its time now until it asks again."""
        if (found := self._known.get((service, name))) is not None:
            self._known[service, name] = replace(found, asked=self.clock())

    def may_apply(self, service: str, name: str, position: Position, urgent: int) -> bool:
        """Whether it may take over `position` now. `urgent`: number of the newest change that waits for nobody."""
        own = self._known.get((service, name))
        if own is None or own.have is None or own.have.number < urgent:
            return True
        if own.have.epoch != position.epoch:
            return True  # people have begun anew, and know what goes live
        if self._acknowledged.get(service) == position or self._is_alone(service, name):
            return True
        first = self._first.get(service)
        if first is not None and self._is_busy(service, first):
            if first.name != name:
                return False
            if first.number == position.number:
                return True
        if self._is_behind(service, own):
            return False
        self._first[service] = _First(name, position.number, self.clock())
        return True

    def is_acknowledged(self, service: str, position: Position) -> bool:
        """Whether one of the service serves by `position`."""
        return self._acknowledged.get(service) == position

    def acknowledge(self, service: str, position: Position) -> bool:
        """One of the service serves by `position`, the newest one. Whether it is the first that does."""
        if self._acknowledged.get(service) == position:
            return False
        self._acknowledged[service] = position
        return True

    def first_until(self, service: str) -> float:
        """When another one goes first."""
        first = self._first.get(service)
        return (first.since if first else self.clock()) + self.first_s

    def crashed(self, service: str, name: str) -> list[Rejected]:
        """What ended other processes of the service."""
        return [
            rejected
            for (s, n), found in self._known.items()
            if s == service and n != name and self._alive(found)
            for rejected in found.rejected
            if rejected.crashed
        ]

    def refusal(self) -> str:
        """Why no change may be made: some have more than the database, or something else. "": none has."""
        found = [f for f in self._known.values() if f.diverged and self._alive(f)]
        if not found:
            return ""
        names = ", ".join(sorted(f.name for f in found)[:5]) + (" …" if len(found) > 5 else "")
        return (
            f"{len(found)} processes of the data plane ({names}) have what the database has not: {found[0].diverged};"
            " they serve on, and nothing is changed until somebody decides what is right: headrace recover"
        )

    def diverged(self) -> int:
        """How many."""
        return sum(bool(f.diverged) and self._alive(f) for f in self._known.values())

    def newest_epoch(self) -> int:
        """That any of them has; 0: none has anything."""
        return max((f.have.epoch for f in self._known.values() if f.have is not None), default=0)

    def counts(self) -> dict[str, int]:
        """Service → how many follow."""
        found: dict[str, int] = {}
        for follower in self._known.values():
            if self._alive(follower):
                found[follower.service] = found.get(follower.service, 0) + 1
        return found

    def all(self) -> list[Follower]:
        """Those that asked within the last minutes, by service and name."""
        self.sweep()
        return [self._known[key] for key in sorted(self._known)]

    def sweep(self) -> None:
        """Forgets those that are long gone."""
        now = self.clock()
        self._known = {key: f for key, f in self._known.items() if now - f.asked < SHOWN_S}

    def _is_alone(self, service: str, name: str) -> bool:
        return not any(
            s == service and n != name and f.have is not None and not f.diverged and self._alive(f)
            for (s, n), f in self._known.items()
        )

    def _is_behind(self, service: str, own: Follower) -> bool:
        """Whether others have what was acknowledged last and this one has not: it may not read any more."""
        newest, recent = self._acknowledged.get(service), self.clock() - self.first_s
        if newest is None or own.have is None or own.have.number >= newest.number:
            return False
        return any(
            s == service and f.have == newest and f.asked >= recent for (s, _), f in self._known.items()
        )

    def _is_busy(self, service: str, first: _First) -> bool:
        """Whether it has still time to acknowledge what it was the first to get."""
        acknowledged = self._acknowledged.get(service)
        done = acknowledged is not None and acknowledged.number >= first.number
        return not done and self.clock() - first.since < self.first_s

    def _alive(self, follower: Follower) -> bool:
        return self.clock() - follower.asked < GONE_S
