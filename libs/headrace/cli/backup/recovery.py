"""What processes of the data plane have, against what control's database has, for when the two differ and a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headrace.catalog.access import Record, Records, Write
from headrace.releases.document import from_bytes
from headrace.releases.errors import ReleaseError
from headrace.repository.storage.store import Store
from headrace.resources.artifacts import read_artifacts
from headrace.resources.disk import read_folder
from headrace.resources.manifest import ManifestError, VerifiedPart, Verifier
from headrace.resources.snapshot import PARTS, Key, Resource

SERVICES = tuple(sorted({service for services in PARTS.values() for service in services}))
_RELEASE, _REMOVAL = "release", "removal"


def newest_parts(
    folders: Mapping[str, Path], artifacts: Store, verifier: Verifier
) -> dict[str, VerifiedPart]:
    """By service, the newest part that its processes on this machine or the artifact store have. `folders`: by service, that of
    its processes."""
    found: dict[str, VerifiedPart] = {}
    for service, folder in folders.items():
        processes = sorted(folder.iterdir()) if folder.is_dir() else ()
        reads = [
            partial(read_artifacts, artifacts, verifier, service),
            *(partial(read_folder, each, verifier, service) for each in processes),
        ]
        for read in reads:
            with suppress(OSError, ManifestError):
                part = read()
                if service not in found or _order(part) > _order(found[service]):
                    found[service] = part
    return found


def resources_of(parts: Iterable[VerifiedPart]) -> dict[Key, Resource]:
    """What all of them have together; where two differ, the newer part counts."""
    found: dict[Key, Resource] = {}
    for part in sorted(parts, key=_order):
        found |= part.snapshot.resources
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """One resource that is not the same on both sides. `here`: in the database; `there`: at the data plane; None: not there."""

    kind: str
    name: str
    here: Record | None
    there: Resource | None


def differences(records: Records, kinds: Iterable[str], there: Mapping[Key, Resource]) -> list[Difference]:
    """By kind and name. `kinds`: those that the data plane's parts are whole of."""
    found = []
    for kind in sorted(set(kinds)):
        here = {record.name: record for record in records.list(kind)}
        names = sorted(here.keys() | {name for k, name in there if k == kind})
        for name in names:
            own, other = here.get(name), there.get((kind, name))
            if (own.content if own else None) != (other.content if other else None):
                found.append(Difference(kind, name, own, other))
    return found


def writes(records: Records, found: Iterable[Difference]) -> Sequence[Write]:
    """What makes the database have what the data plane has. Documents come before the releases that name them."""
    made: list[Write] = []
    for one in sorted(found, key=lambda d: (d.kind == _RELEASE, d.kind, d.name)):
        content = one.there.content if one.there else None
        if one.kind == _RELEASE and content is not None:
            made.append(_counted_on(records, one.name, content))
        made.append(Write(one.kind, one.name, content))
    return made


def _counted_on(records: Records, pipeline: str, content: bytes) -> Write:
    """A release's number is the version of its record but for this: the next version has this release's number."""
    versions = records.read(_RELEASE, pipeline)
    try:
        number = from_bytes(pipeline, content).number
    except ReleaseError:
        number = 1
    about = {"number": number - 1, "version": versions[0].version if versions else 0}
    return Write(_REMOVAL, pipeline, json.dumps(about).encode())


def _order(part: VerifiedPart) -> tuple[int, int]:
    return part.position.epoch, part.position.number
