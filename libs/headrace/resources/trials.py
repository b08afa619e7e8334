"""What is being tried, what has proven itself, what ended the process. Pure: `apply.py` acts by it, and the disk remembers it.

What is new is marked before it is used. If a process ends while marks are there, the next one finds them. What was being compiled
alone is in quarantine at once. Else all are tried again once: one end (kill -9, out of memory) is no crash loop. At the next end
the only one is in quarantine; several are tried in ever smaller groups. So a poison that serves ends two processes if it is new
alone, three if something else is new at each end, and a few more if it came with many.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.resources.snapshot import Key

CRASHED = "it ended this process when it was taken over, so it is in quarantine here"
_GROUPS = 16
_MAX_QUARANTINED = 256
_MAX_RETRIED = 4096
# kind, name, hash and version of a resource
Entry = tuple[str, str, str, int]


@dataclass
class Trials:
    """`marked`: hashes of units that are in use and not proven. `groups`: hashes that wait until the first group is proven.
    `quarantined`: hash → why. `proven`: what proved itself last, by unit: its hash and its resources. `served`: the same of what
    serves and has not proven itself yet. `retried`: hashes that were marked when a process ended without a known cause, and have
    not proven themselves since."""

    marked: set[str] = field(default_factory=set)
    groups: list[list[str]] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    proven: dict[Key, tuple[str, tuple[Entry, ...]]] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    served: dict[Key, tuple[str, tuple[Entry, ...]]] = field(default_factory=dict)

    @classmethod
    def recovered(cls, before: Trials, compiled: Collection[str] = ()) -> Trials:
        """Of a process that starts. `before`: what the last one left. `compiled`: hashes that it was compiling when it ended."""
        suspects = sorted(before.marked, key=lambda h: (h not in before.retried, h))
        quarantined, groups = dict(before.quarantined), [list(g) for g in before.groups]
        named, again = sorted(before.marked.intersection(compiled)), sorted(before.marked & before.retried)
        # While groups are tried, what has come since is not suspected: else changes without pause would hide a poison for ever.
        culprits = named or (again if groups else suspects if again else [])
        retried = before.retried if len(before.retried) <= _MAX_RETRIED else set()
        if len(culprits) == 1:
            quarantined[culprits[0]] = CRASHED
        else:
            retried = retried | before.marked
        if len(culprits) > 1:
            first = [[one] for one in named]
            rest = [one for one in suspects if one not in named]
            size = max(1, len(rest) // _GROUPS)
            first += [rest[i : i + size] for i in range(0, len(rest), size)]
            # What was suspected and comes first again was the first group.
            groups = first + [g for g in ([h for h in g if h not in before.marked] for g in groups) if g]
        while len(quarantined) > _MAX_QUARANTINED:
            quarantined.pop(next(iter(quarantined)))
        kept = retried - quarantined.keys()
        return cls(set(), groups, quarantined, dict(before.proven), kept, dict(before.served))

    def may_try(self, unit: Key, sha256: str) -> bool:
        """Whether a unit may be used now."""
        if sha256 in self.quarantined:
            return False
        return self.is_proven(unit, sha256) or not any(sha256 in group for group in self.groups[1:])

    def is_proven(self, unit: Key, sha256: str) -> bool:
        """Whether it is what proved itself last."""
        return self.proven.get(unit, ("", ()))[0] == sha256

    def resolve(self, wanted: Collection[str], refused: Collection[str]) -> None:
        """Goes on to the next group once all of the first are proven, refused, or not wanted any more."""
        proven = {sha256 for sha256, _ in self.proven.values()}
        while self.groups and not (
            set(self.groups[0]) & set(wanted) - proven - set(refused) - self.quarantined.keys()
        ):
            self.groups.pop(0)

    def prove(self, unit: Key, sha256: str, entries: Iterable[Entry]) -> None:
        """It has served well."""
        self.proven[unit] = sha256, tuple(entries)
        self.marked.discard(sha256)
        self.retried.discard(sha256)
        self.served.pop(unit, None)

    def copy(self) -> Trials:
        return replace(
            self,
            marked=set(self.marked),
            groups=list(self.groups),
            quarantined=dict(self.quarantined),
            proven=dict(self.proven),
            retried=set(self.retried),
            served=dict(self.served),
        )

    def used(self) -> set[str]:
        """Hashes of the contents that are needed again."""
        units = (*self.proven.values(), *self.served.values())
        return {entry[2] for _, entries in units for entry in entries}

    def to_bytes(self) -> bytes:
        values = {
            "marked": sorted(self.marked),
            "groups": self.groups,
            "quarantined": self.quarantined,
            "retried": sorted(self.retried),
            "proven": _listed(self.proven),
            "served": _listed(self.served),
        }
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Trials:
        """Raises ValueError: it is damaged."""
        try:
            values: Mapping[str, Any] = json.loads(content)
            proven, served = _units(values["proven"]), _units(values["served"])
            groups = [[str(h) for h in group] for group in values["groups"]]
            quarantined = {str(h): str(why) for h, why in values["quarantined"].items()}
            marked = {str(h) for h in values["marked"]}
            return cls(marked, groups, quarantined, proven, {str(h) for h in values["retried"]}, served)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"what was tried can't be read: {type(error).__name__}") from None


def _listed(units: Mapping[Key, tuple[str, tuple[Entry, ...]]]) -> list[Any]:
    return [[*unit, sha256, entries] for unit, (sha256, entries) in units.items()]


def _units(listed: Any) -> dict[Key, tuple[str, tuple[Entry, ...]]]:
    """Raises TypeError, ValueError."""
    return {
        (str(kind), str(name)): (str(sha256), tuple((str(k), str(n), str(h), int(v)) for k, n, h, v in e))
        for kind, name, sha256, e in listed
    }
