"""How a process of the data plane starts: by the newest of its own disk, control and the artifact store; without any it waits."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from headrace.repository.storage.store import Store
from headrace.resources.apply import Applier, Compile, Limits
from headrace.resources.artifacts import read_artifacts
from headrace.resources.disk import Disk, DiskBusyError, read_folder
from headrace.resources.follower import Control, Follower
from headrace.resources.follower_state import FollowerState
from headrace.resources.manifest import ManifestError, VerifiedPart, Verifier, descends
from headrace.resources.trials import Trials

# Processes of one service on one machine, those that end while others start among them.
_MAX_FOLDERS = 64
# What a start waits for the first answer of control, so that a process that was away does not serve what is old for a moment.
_FIRST_S = 0.5
# The same where the store alone is followed: there is nobody else to ask meanwhile.
_FIRST_OF_STORE_S = 10.0


def newest(own: VerifiedPart | None, others: Iterable[VerifiedPart]) -> VerifiedPart | None:
    """The newest part that may be taken over: one that descends from the process' own, if it has one."""
    best = own
    for part in sorted(others, key=_age_order):
        if own is None or descends(own.position, part.signed.manifest):
            best = part if best is None or _age_order(part) > _age_order(best) else best
    return best


def open_disk(root: Path) -> Disk:
    """The first folder below `root` that no process has: one that starts again finds what it had, or another one of its service.
    Raises OSError."""
    for number in range(_MAX_FOLDERS):
        with suppress(DiskBusyError):
            return Disk(root / str(number))
    raise DiskBusyError(f"{_MAX_FOLDERS} processes keep their resources below {root} already")


def follow(
    service: str,
    watcher: str,
    keys: Sequence[bytes],
    control: Control | None,
    root: Path | None = None,
    store: Store | None = None,
    compilers: Mapping[str, Compile] | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
    data: Collection[str] = (),
) -> Follower:
    """Follows the part of `service`, and returns once control has answered, or half a second later; without control once the
    store has been read, or 10 s later.

    `watcher`: names the machine, or its container; with the number of its folder it names the process, over restarts too. `keys`:
    public keys of control (PEM). `root`: folder of the service's processes on this machine. `data`: see `Applier`. Without a
    `view` there was nothing, and the process is not ready. Blocks. Raises ValueError: a key is none.
    """
    verifier = Verifier(keys)
    disk, problems = _opened(root)
    watcher = f"{watcher}/{disk.folder.name if disk else os.getpid()}"
    own, trials = (disk.read(verifier, service), disk.read_trials()) if disk else (None, Trials())
    found = newest(own, _neighbours(disk, verifier, service))
    state = FollowerState(watcher, service, verifier, found)
    views: list[Follower] = []
    applier = Applier(
        compilers or {}, lambda view: views[0].publish(view), disk, trials, clock, limits or Limits(), data
    )
    age = (datetime.now(UTC) - found.signed.manifest.at).total_seconds() if found else 0.0
    read = (lambda: read_artifacts(store, verifier, service)) if store else None
    follower = Follower(control, state, applier, disk, clock, random.random, read, max(0.0, age))
    views.append(follower)
    follower.start(found, [*problems, *(disk.problems if disk else ())])
    follower.first.wait(_FIRST_S if control else _FIRST_OF_STORE_S)
    return follower


def _opened(root: Path | None) -> tuple[Disk | None, list[str]]:
    """A disk that can't be used is no reason not to serve."""
    try:
        return (open_disk(root) if root else None), []
    except OSError as error:
        return None, [f"resources can't be stored: {error}"]


def _neighbours(disk: Disk | None, verifier: Verifier, service: str) -> list[VerifiedPart]:
    """What other processes of the service on this machine have, or had."""
    found = []
    for folder in sorted(disk.folder.parent.iterdir()) if disk else ():
        if disk and folder != disk.folder:
            with suppress(OSError, ManifestError):
                found.append(read_folder(folder, verifier, service))
    return found


def _age_order(part: VerifiedPart) -> tuple[int, int]:
    return part.position.epoch, part.position.number
