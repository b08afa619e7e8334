"""Takes over what is new, unit by unit: a pipeline's release with its documents is one unit, any other resource is one by itself.

Each is compiled aside (on a thread, for a limited time) and used once that worked; until then, and if not, the one before serves.
What is new is marked on the disk before, and proven after it has served for a while: see `trials.py`. Only the follower's thread
calls this.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from headrace.api.control.v1.resources_pb2 import RejectedResource
from headrace.catalog.access import Position
from headrace.resources.manifest import VerifiedPart
from headrace.resources.snapshot import Key, Resource, Snapshot
from headrace.resources.trials import CRASHED, Entry, Trials

# Compiles at once, and those that hang: each holds a thread. With so many, nothing new is begun.
_MAX_COMPILING = 8
# Why something does not serve yet.
COMPILING, WAITING = "it is being compiled", "it waits for others"
AVOIDED = "it ended another process of the service, so it is not tried here"
_MAX_HUNG = 24


@dataclass(frozen=True, slots=True)
class Unit:
    """What is taken over as one. `resources`: the main one first. `sha256`: of all, hexadecimal."""

    resources: tuple[Resource, ...]
    sha256: str

    @classmethod
    def of(cls, main: Resource, *others: Resource) -> Unit:
        found = (main, *others)
        return cls(found, hashlib.sha256("".join(r.line for r in found).encode()).hexdigest())

    @property
    def key(self) -> Key:
        return self.resources[0].key

    def content(self, kind: str, name: str) -> bytes | None:
        """What a resource of the unit says; None: it is not of it."""
        return next((r.content for r in self.resources if r.key == (kind, name)), None)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple((r.kind, r.name, r.sha256.hex(), r.version) for r in self.resources)


Compile = Callable[[Unit], object]
"""Tries a unit aside; raises an exception that says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class View:
    """What serves: the resources in use and, by key, those that are not as control has them, with the reason: it may be only that
    they are being compiled or wait. `position`: of what control has."""

    position: Position
    snapshot: Snapshot
    rejected: Mapping[Key, RejectedResource] = field(default_factory=dict)
    # Another text for every other content of the view.
    state: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. After `proof_s` of serving a unit has proven itself. `patience_s`: so long the follower waits for compiles, all
    together; those that take longer are used when they are done, or rejected after `compile_s`."""

    proof_s: float = 5.0
    patience_s: float = 1.0
    compile_s: float = 10.0


class Memory(Protocol):
    """Remembers for the next process; see `Disk`. Methods raise OSError."""

    def write_trials(self, trials: Trials) -> None: ...
    def write_compiled(self, hashes: list[str]) -> None: ...
    def resource(self, kind: str, name: str, sha256: str, version: int) -> Resource | None: ...


@dataclass
class _Job:
    unit: Unit
    since: float
    problem: str | None = None
    done: threading.Event = field(default_factory=threading.Event)


def units_of(snapshot: Snapshot) -> dict[Key, Unit]:
    """The units of a part. A document belongs to the release of its pipeline if that names its hash; others are no unit."""
    documents: dict[str, list[Resource]] = {}
    for resource in snapshot.resources.values():
        if resource.kind == "document":
            documents.setdefault(resource.name.partition("/")[0], []).append(resource)
    found = {}
    for resource in snapshot.resources.values():
        if resource.kind == "release":
            named = [
                d
                for d in documents.get(resource.name, ())
                if d.name.partition("/")[2].encode() in resource.content
            ]
            found[resource.key] = Unit.of(resource, *sorted(named, key=lambda d: d.name))
        elif resource.kind != "document":
            found[resource.key] = Unit.of(resource)
    return found


class Applier:
    """`compilers`: by kind of the main resource; a kind without one is used as it is. `publish`: gets every new view. `data`:
    kinds that end no process, so they are used at once and never suspected: a crash must not keep out whose key is new."""

    def __init__(
        self,
        compilers: Mapping[str, Compile],
        publish: Callable[[View], None],
        memory: Memory | None,
        trials: Trials,
        clock: Callable[[], float],
        limits: Limits = Limits(),
        data: Collection[str] = (),
    ) -> None:
        self.problem = ""
        self.trials = trials
        self._compilers = compilers
        self._publish = publish
        self._memory = memory
        self._clock = clock
        self._limits = limits
        self._data = frozenset(data)
        self._part: VerifiedPart | None = None
        self._desired: dict[Key, Unit] = {}
        self._serving: dict[Key, Unit] = {}
        self._since: dict[Key, float] = {}  # when what is not proven began to serve
        self._jobs: dict[str, _Job] = {}
        self._hung: list[_Job] = []
        self._queued = False  # whether there was no room to begin a compile
        self._refused: dict[str, str] = {}  # hash of a unit → why
        self._avoided: set[tuple[Key, bytes]] = set()
        self._published: tuple[Position, str] | None = None
        self._remembered = trials.copy()

    def apply(self, part: VerifiedPart) -> None:
        """Takes over what is new in it, as far as that is done at once."""
        units = units_of(part.snapshot)
        self._part, self._desired = part, {k: u for k, u in units.items() if k[0] not in self._data}
        for key, unit in self._desired.items():
            if (key, unit.resources[0].sha256) in self._avoided and not self.trials.is_proven(
                key, unit.sha256
            ):
                self.trials.quarantined.setdefault(unit.sha256, AVOIDED)
        self._avoided.clear()
        hashes = {unit.sha256 for unit in self._desired.values()}
        self._refused = {h: why for h, why in self._refused.items() if h in hashes}
        for key in self._serving.keys() - self._desired.keys():
            del self._serving[key]
            self._since.pop(key, None)
        for tried in (self.trials.proven, self.trials.served):
            for key in tried.keys() - self._desired.keys():
                del tried[key]
        self.tick()

    def avoid(self, resources: Iterable[RejectedResource]) -> None:
        """What ended other processes of the service is not tried here. Told before the part that has it."""
        self._avoided |= {((r.kind, r.name), r.sha256) for r in resources if r.crashed}

    def tick(self) -> None:
        """Goes on with what is being compiled, waits or proves itself."""
        if self._part is None:
            return
        self._collect()
        self._prove()
        desired = {unit.sha256 for unit in self._desired.values()}
        self.trials.resolve(desired, self._refused.keys())
        self.trials.marked &= desired | {unit.sha256 for unit in self._serving.values()}
        self._start()
        self._remember()
        self._publish_view()

    def due_s(self) -> float | None:
        """Seconds after which `tick` has something to do; None: nothing."""
        if self._jobs or self._queued:
            return 0.1
        if self._since:
            return max(0.05, min(self._since.values()) + self._limits.proof_s - self._clock())
        return 0.1 if self.trials.groups else None

    def close(self) -> None:
        """The process ends as it should, so nothing is suspected."""
        self.trials.marked.clear()
        self._remember()

    def _collect(self) -> None:
        now, finished = self._clock(), False
        self._hung = [job for job in self._hung if not job.done.is_set()]
        for sha256, job in list(self._jobs.items()):
            if job.done.is_set():
                if job.problem is None:
                    self._use(job.unit)
                else:
                    self._refuse(job.unit, job.problem)
            elif now - job.since >= self._limits.compile_s:
                self._refuse(job.unit, f"it was not compiled within {self._limits.compile_s:g} s")
                self._hung.append(job)
            else:
                continue
            finished = True
            del self._jobs[sha256]
        if finished:
            self._write_compiled()

    def _use(self, unit: Unit) -> None:
        # Only what is wanted still, or stands in for it: compiles may end in another order.
        desired = self._desired.get(unit.key)
        if desired is not None and (desired.sha256 == unit.sha256 or unit.key not in self._serving):
            self._serving[unit.key] = unit
            if self.trials.is_proven(unit.key, unit.sha256):
                self._since.pop(unit.key, None)
                self.trials.served.pop(unit.key, None)
            else:
                self.trials.served[unit.key] = unit.sha256, unit.entries
                self._since[unit.key] = self._clock()

    def _refuse(self, unit: Unit, problem: str) -> None:
        self._refused[unit.sha256] = problem
        self.trials.marked.discard(unit.sha256)

    def _prove(self) -> None:
        now = self._clock()
        if self._published is None:  # nothing serves yet, whatever was compiled
            self._since = dict.fromkeys(self._since, now)
        for key, since in list(self._since.items()):
            if now - since >= self._limits.proof_s:
                unit = self._serving[key]
                self.trials.prove(key, unit.sha256, unit.entries)
                del self._since[key]

    def _start(self) -> None:
        """Begins to compile what may be tried now."""
        found = [unit for key in self._desired if (unit := self._next(key)) is not None]
        self.trials.marked |= {u.sha256 for u in found if not self.trials.is_proven(u.key, u.sha256)}
        self._remember()
        # The first time nothing serves yet, so all that compile are waited for.
        limits = self._limits
        until = self._clock() + (limits.compile_s if self._published is None else limits.patience_s)
        running = sum(not job.done.is_set() for job in self._jobs.values())
        self._queued = False
        for unit in found:
            free = running < _MAX_COMPILING
            if unit.key[0] not in self._compilers or (free and len(self._hung) < _MAX_HUNG):
                running += not self._compile(unit, until)
            self._queued |= not free
        self._collect()

    def _next(self, key: Key) -> Unit | None:
        """What to compile now: what is wanted or, if that must not be and nothing serves, what proved itself last."""
        unit, serving = self._desired[key], self._serving.get(key)
        if serving is not None and serving.sha256 == unit.sha256:
            return None
        if unit.sha256 not in self._refused and self.trials.may_try(key, unit.sha256):
            return None if unit.sha256 in self._jobs else unit
        return self._stand_in(key) if serving is None else None

    def _stand_in(self, key: Key) -> Unit | None:
        """What served last, else what proved itself last."""
        for sha256, entries in filter(None, (self.trials.served.get(key), self.trials.proven.get(key))):
            if sha256 in self._refused or not self.trials.may_try(key, sha256):
                continue
            if self._memory is None or sha256 in self._jobs:
                return None
            found = [self._memory.resource(*entry) for entry in entries]
            whole = [resource for resource in found if resource is not None]
            if len(whole) == len(entries):
                return Unit.of(*whole)
        return None

    def _compile(self, unit: Unit, until: float) -> bool:
        """Returns whether it is done."""
        compiler = self._compilers.get(unit.key[0])
        job = self._jobs[unit.sha256] = _Job(unit, self._clock())
        if compiler is None:
            job.done.set()
            return True

        def run() -> None:
            try:
                compiler(unit)
            except Exception as error:  # noqa: BLE001 - whatever it is, the resource is refused and the one before serves
                job.problem = f"{error}" or type(error).__name__
            job.done.set()

        self._write_compiled()
        threading.Thread(target=run, name="headrace-compile", daemon=True).start()
        return job.done.wait(min(self._limits.patience_s, max(0.0, until - self._clock())))

    def _write_compiled(self) -> None:
        if self._memory is not None:
            self._memory.write_compiled([h for h, job in self._jobs.items() if not job.done.is_set()])

    def _remember(self) -> None:
        """What can't be remembered is used all the same: a revocation must not wait for room on a disk."""
        if self._memory is None or self.trials == self._remembered:
            return
        self.problem = ""
        try:
            self._memory.write_trials(self.trials)
            self._remembered = self.trials.copy()
        except OSError as error:
            self.problem = f"what is tried can't be written: {error.strerror or error}"

    def _publish_view(self) -> None:
        assert self._part is not None, "something was applied"
        if self._published is None and self._is_starting():
            return  # a process that has less than what is live must not say that it is ready
        rejected = {
            key: RejectedResource(
                kind=key[0],
                name=key[1],
                sha256=unit.resources[0].sha256,
                problem=(why := self._why(unit)),
                pending=why in (COMPILING, WAITING),
                crashed=self.trials.quarantined.get(unit.sha256) == CRASHED,
            )
            for key, unit in self._desired.items()
            if (serving := self._serving.get(key)) is None or serving.sha256 != unit.sha256
        }
        members = {r.key: r for unit in self._serving.values() for r in unit.resources}
        free = {k: r for k, r in self._part.snapshot.resources.items() if k not in self._desired}
        snapshot = Snapshot(MappingProxyType({**free, **members}))
        state = f"{snapshot.digest().hex()}:{sorted((k, r.problem) for k, r in rejected.items())}"
        at = self._part.position
        if (at, state) != self._published:
            self._published = (at, state)
            self._publish(View(at, snapshot, MappingProxyType(rejected), state))

    def _is_starting(self) -> bool:
        missing = (unit for key, unit in self._desired.items() if key not in self._serving)
        return self._queued or any(unit.sha256 in self._jobs for unit in missing)

    def _why(self, unit: Unit) -> str:
        known = self.trials.quarantined.get(unit.sha256) or self._refused.get(unit.sha256)
        return known or (COMPILING if unit.sha256 in self._jobs else WAITING)
