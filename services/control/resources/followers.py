"""Who follows what is live, what each has of it, and who may apply a change first. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headrace.api.control.v1.resources_pb2 import RejectedResource
from headrace.catalog.access import Position

# Who has not asked for so long is gone; it is shown for as long as SHOWN_S.
GONE_S, SHOWN_S = 60.0, 300.0
# Others wait so long at most for the one that goes first: it may have died with the change.
FIRST_S = 30.0
MAX_FOLLOWERS = 10_000
_MAX_REJECTED = 100


@dataclass(frozen=True, slots=True)
class Follower:
    """A process of the data plane. `asked`: when it asked last, or was answered; `held`: since when it waits for another one to
    go first; None: it does not. `diverged`: why what it has does not belong to the history; "": it does."""

    name: str
    service: str
    have: Position | None = None
    rejected: tuple[RejectedResource, ...] = ()
    ready: bool = False
    asked: float = 0.0
    held: float | None = None
    diverged: str = ""


@dataclass(slots=True)
class _First:
    """Who may apply the changes up to a number before the others do."""

    name: str
    number: int


@dataclass(slots=True)
class Followers:
    """Used on one event loop. `clock`: monotonic seconds. `first_s`: see FIRST_S."""

    clock: Callable[[], float]
    first_s: float = FIRST_S
    _known: dict[tuple[str, str], Follower] = field(default_factory=dict)
    _first: dict[str, _First] = field(default_factory=dict)
    # Service → the position that one of its processes has acknowledged last.
    _acknowledged: dict[str, Position] = field(default_factory=dict)

    def heard(self, found: Follower) -> bool:
        """One asks. False: there are too many to know another one."""
        key = (found.service, found.name)
        if key not in self._known and len(self._known) >= MAX_FOLLOWERS:
            self.sweep()
            if len(self._known) >= MAX_FOLLOWERS:
                return False
        before = self._known.get(key)
        held = before.held if before is not None and before.have == found.have else None
        self._known[key] = replace(
            found, asked=self.clock(), held=held, rejected=found.rejected[:_MAX_REJECTED]
        )
        return True

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
        now = self.clock()
        first = self._first.get(service)
        if self._acknowledged.get(service) == position or self._is_alone(service, name):
            allowed = True
        elif first is None or first.name == name or not self._is_busy(service, first):
            self._first[service] = _First(name, position.number)
            allowed = True
        else:
            allowed = own.held is not None and now - own.held >= self.first_s
        held = None if allowed else own.held if own.held is not None else now
        self._known[service, name] = replace(own, held=held)
        return allowed

    def acknowledge(self, service: str, position: Position) -> bool:
        """One of the service serves by `position`, the newest one. Whether it is the first that does."""
        if self._acknowledged.get(service) == position:
            return False
        self._acknowledged[service] = position
        return True

    def held_until(self, service: str, name: str) -> float | None:
        """When it need not wait any longer for others to go first; None: it does not wait."""
        own = self._known.get((service, name))
        return None if own is None or own.held is None else own.held + self.first_s

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

    def _is_busy(self, service: str, first: _First) -> bool:
        """Whether it has not acknowledged yet what it was the first to get."""
        found = self._known.get((service, first.name))
        if found is None or not self._alive(found) or found.have is None:
            return False
        return found.have.number < first.number

    def _alive(self, follower: Follower) -> bool:
        return self.clock() - follower.asked < GONE_S
