"""The distinct keys that each arm has met, and which of them the monitoring service has been told of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.ticks import KeySetName, NewKeys

# Keys of one arm that are told apart; a set takes about 10 MB then.
MAX_KEYS = 200_000
# Sets that are kept: arms × salts × pipelines. The one that was not used for longest goes first.
MAX_SETS = 32
# Keys in one tick, so that a restarted monitoring service does not get megabytes at once.
KEYS_PER_TICK = 20_000


class GrowingSet:
    """A set whose elements keep the order in which they came, so that a place in it says what came since."""

    __slots__ = ("_order", "_seen")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: int) -> bool:
        return key in self._seen

    def add(self, keys: Iterable[int]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in self._seen]
        self._seen.update(new)
        self._order += new

    def since(self, place: int, most: int) -> list[int]:
        """At most so many elements, from a place on."""
        return self._order[place : place + most]


class ArmKeys:
    """The keys of one arm. A key that comes when the set is full is not counted, neither as good nor as bad."""

    __slots__ = ("_told", "_told_bad", "bad", "keys", "saturated")

    def __init__(self) -> None:
        self.keys, self.bad = GrowingSet(), GrowingSet()
        self.saturated = False
        self._told = self._told_bad = 0

    def add(self, keys: list[int], bad: list[int]) -> None:
        room = MAX_KEYS - len(self.keys)
        if len(keys) > room:
            known = [key for key in keys if key in self.keys]
            new = [key for key in dict.fromkeys(keys) if key not in self.keys]
            self.saturated |= len(new) > room
            keys = known + new[:room]
        self.keys.add(keys)
        self.bad.add(key for key in bad if key in self.keys)

    def untold(self) -> NewKeys | None:
        """What the receiver lacks, or the first part of it; None: nothing."""
        keys = self.keys.since(self._told, KEYS_PER_TICK)
        # A bad key must not come before the same key: it would not count.
        bad = (
            self.bad.since(self._told_bad, KEYS_PER_TICK) if len(keys) + self._told == len(self.keys) else []
        )
        return NewKeys(keys, bad, self.saturated) if keys or bad else None

    def told(self, new: NewKeys) -> None:
        """The receiver has these."""
        self._told += len(new.keys)
        self._told_bad += len(new.bad)

    def forget_told(self) -> None:
        """The receiver has nothing any more."""
        self._told = self._told_bad = 0


class KeySets:
    """The keys of all arms."""

    def __init__(self) -> None:
        self._sets: dict[KeySetName, ArmKeys] = {}

    def add(self, name: KeySetName, keys: list[int], bad: list[int]) -> None:
        found = self._sets.pop(name, None) or ArmKeys()
        self._sets[name] = found  # as the newest
        found.add(keys, bad)
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]

    def untold(self, *, everything: bool) -> dict[KeySetName, NewKeys]:
        """What the receiver lacks of each. `everything`: it has nothing any more."""
        found: dict[KeySetName, NewKeys] = {}
        for name, keys in self._sets.items():
            if everything:
                keys.forget_told()
            new = keys.untold()
            if new is not None:
                found[name] = new
        return found

    def told(self, new: Mapping[KeySetName, NewKeys]) -> None:
        """The receiver has these."""
        for name, keys in new.items():
            if name in self._sets:
                self._sets[name].told(keys)
