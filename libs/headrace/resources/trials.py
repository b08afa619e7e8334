"""What is being tried, what has proven itself, what ended the process. Pure: `apply.py` acts by it, and the disk remembers it.

What is new is marked before it is used. A process that finds marks when it starts was ended by one of them: by what was being
compiled, or by the only one. If that can't be told, they are tried in ever smaller groups, so that each poison is found after few
crashes and ends no process a second time.
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
# kind, name, hash and version of a resource
Entry = tuple[str, str, str, int]


@dataclass
class Trials:
    """`marked`: hashes of units that are in use and not proven. `groups`: hashes that wait until the first group is proven.
    `quarantined`: hash → why. `proven`: what proved itself last, by unit: its hash and its resources. `retried`: all is
    tried again once, as nothing had proven itself when the process ended."""

    marked: set[str] = field(default_factory=set)
    groups: list[list[str]] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    proven: dict[Key, tuple[str, tuple[Entry, ...]]] = field(default_factory=dict)
    retried: bool = False

    @classmethod
    def recovered(cls, before: Trials, compiled: Collection[str] = ()) -> Trials:
        """Of a process that starts. `before`: what the last one left. `compiled`: hashes that it was compiling when it ended."""
        suspects = sorted(before.marked)
        quarantined, groups = dict(before.quarantined), [list(g) for g in before.groups]
        named = sorted(set(compiled) & before.marked)
        if suspects and not (named or before.proven or before.retried):
            # Somebody may have killed a new process; to hold back what nothing stands in for would cost more than one more end.
            return cls(set(), groups, quarantined, {}, retried=True)
        culprits = named if len(named) == 1 else suspects if len(suspects) == 1 else []
        quarantined |= dict.fromkeys(culprits, CRASHED)
        if not culprits:
            first = [[one] for one in named]
            rest = [one for one in suspects if one not in named]
            size = max(1, len(rest) // _GROUPS)
            first += [rest[i : i + size] for i in range(0, len(rest), size)]
            # What was suspected and comes first again was the first group.
            groups = first + [g for g in ([h for h in g if h not in before.marked] for g in groups) if g]
        while len(quarantined) > _MAX_QUARANTINED:
            quarantined.pop(next(iter(quarantined)))
        return cls(set(), groups, quarantined, dict(before.proven), before.retried)

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
        self.retried = False

    def copy(self) -> Trials:
        return replace(
            self,
            marked=set(self.marked),
            groups=list(self.groups),
            quarantined=dict(self.quarantined),
            proven=dict(self.proven),
        )

    def used(self) -> set[str]:
        """Hashes of the contents that are needed again."""
        return {entry[2] for _, entries in self.proven.values() for entry in entries}

    def to_bytes(self) -> bytes:
        values = {
            "marked": sorted(self.marked),
            "groups": self.groups,
            "quarantined": self.quarantined,
            "retried": self.retried,
            "proven": [[*unit, sha256, entries] for unit, (sha256, entries) in self.proven.items()],
        }
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Trials:
        """Raises ValueError: it is damaged."""
        try:
            values: Mapping[str, Any] = json.loads(content)
            proven = {
                (str(kind), str(name)): (
                    str(sha256),
                    tuple((str(k), str(n), str(h), int(v)) for k, n, h, v in e),
                )
                for kind, name, sha256, e in values["proven"]
            }
            groups = [[str(h) for h in group] for group in values["groups"]]
            quarantined = {str(h): str(why) for h, why in values["quarantined"].items()}
            marked = {str(h) for h in values["marked"]}
            return cls(marked, groups, quarantined, proven, bool(values["retried"]))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"what was tried can't be read: {type(error).__name__}") from None
