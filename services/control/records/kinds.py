"""What a record of each kind must be before it is written. To add a kind: a function here, and its line in `KINDS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

from headrace.access.records import KEY, TENANT, key_of, tenant_of
from headrace.access.specs import narrowed
from headrace.catalog.access import Change, Write
from headrace.catalog.errors import RecordInvalidError
from headrace.catalog.records import Reading
from headrace.pipeline import content_hash
from headrace.releases.document import Release, from_bytes
from headrace.releases.errors import ReleaseError
from headrace.releases.of_records import ALL, DOCUMENT, FREEZE, RELEASE, REMOVAL
from headrace.repository.errors import RepositoryError
from headrace.repository.model_index import MODEL, ModelIndex, index_of

# Says what is wrong with a write; "": nothing.
Check = Callable[[Write, Change, Reading], str]


def check_writes(change: Change, records: Reading) -> None:
    """Within the change's transaction. Blocks. Raises RecordInvalidError."""
    for write in change.writes:
        check = KINDS.get(write.kind)
        known = ", ".join(sorted(KINDS))
        problem = check(write, change, records) if check else f"there is no such kind (there are: {known})"
        if problem:
            raise RecordInvalidError(write.kind, write.name, problem)


def check_documents(change: Change) -> None:
    """Before the transaction, which others wait for: large documents take long. Raises RecordInvalidError."""
    for write in change.writes:
        if write.kind == DOCUMENT and write.content is not None and (problem := _text(write, write.content)):
            raise RecordInvalidError(write.kind, write.name, problem)


def _text(write: Write, content: bytes) -> str:
    pipeline, _, revision = write.name.partition("/")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    found = content_hash(text)
    if not pipeline or found != revision:
        return f"it is named PIPELINE/REVISION, and its revision is {found or 'none: it is no document'}"
    return ""


def _release(write: Write, change: Change, records: Reading) -> str:
    if write.expected is None:
        return "say which version it replaces, so that nobody's change is lost"
    if write.content is None:
        return ""
    try:
        release = from_bytes(write.name, write.content)
    except ReleaseError as error:
        return "; ".join(error.problems)
    for key, arm in release.arms.items():
        if not _is_there(DOCUMENT, f"{write.name}/{arm.revision}", change, records):
            return (
                f"arms.{key}.revision: no document of revision {arm.revision[:12]}… is stored; store it first"
            )
    return ""


def _document(write: Write, change: Change, records: Reading) -> str:
    """Of its text see `check_documents`."""
    if write.content is not None:
        return ""
    pipeline, _, revision = write.name.partition("/")
    live = _live(_after(RELEASE, pipeline, change, records), pipeline)
    return "the release that is live names it" if live and revision in live.revisions() else ""


def _removal(write: Write, _change: Change, _records: Reading) -> str:
    about = _json(write)
    whole = all(isinstance(about.get(key), int) for key in ("number", "version"))
    return (
        "" if about.keys() == {"number", "version"} and whole else "needs `number` and `version`, and no more"
    )


def _freeze(write: Write, _change: Change, _records: Reading) -> str:
    if write.name != ALL:
        return f"the one freeze is named {ALL}"
    if write.content is None:
        return ""
    about = _json(write)
    try:
        datetime.fromisoformat(str(about["at"]))
        return (
            ""
            if about.keys() == {"author", "reason", "at"}
            else "needs `author`, `reason`, `at`, and no more"
        )
    except (KeyError, TypeError, ValueError):
        return "needs `author`, `reason` and `at`, a time"


def _tenant(write: Write, change: Change, records: Reading) -> str:
    if write.expected is None:
        return "say which version it replaces, so that nobody's change is lost"
    if write.content is not None:
        try:
            tenant_of(write.name, write.content)
        except RecordInvalidError as error:
            return error.problem
        return ""
    deleted = {w.name for w in change.writes if w.kind == KEY and w.content is None}
    left = [r.name for r in records.list(KEY, f"{write.name}/", names_only=True) if r.name not in deleted]
    return f"it has the key {left[0]}; remove a tenant with all its keys" if left else ""


def _key(write: Write, change: Change, records: Reading) -> str:
    if write.content is None:
        return ""
    try:
        name, key = key_of(write.name, write.content)
        content = _after(TENANT, name, change, records)
        if content is None:
            return f"there is no tenant {name}"
        own = tenant_of(name, content).scopes
    except RecordInvalidError as error:
        return error.problem
    beyond = [scope for scope in key.scopes or () if scope not in narrowed(own, key.scopes or ())]
    return f"the tenant itself may not {', '.join(beyond)}" if beyond else ""


def _model(write: Write, change: Change, records: Reading) -> str:
    if write.expected is None:
        return "say which version it replaces, so that nobody's change is lost"
    name, content = write.name, write.content
    try:
        index = ModelIndex(name) if content is None else index_of(name, content)
        before = records.read(MODEL, name)
        listed = index_of(name, before[0].content).versions if before and before[0].content else {}
    except RepositoryError as error:
        return error.problem
    for version in sorted(listed):
        if index.versions.get(version, listed[version]) != listed[version]:
            return f"version {version} is listed with another digest, and a version never changes"
    gone = listed.keys() - index.versions.keys()
    return next(_naming(name, gone, change, records), "") if gone else ""


def _naming(model: str, versions: Collection[str], change: Change, records: Reading) -> Iterator[str]:
    """What of the releases that are live names one of these versions."""
    contents = {record.name: record.content for record in records.list(RELEASE)}
    contents |= {write.name: write.content for write in change.writes if write.kind == RELEASE}
    for pipeline, content in contents.items():
        if (release := _live(content, pipeline)) is None:
            continue
        places = [(f"arm {arm}", found.models) for arm, found in release.arms.items()]
        places += [(f"label {label}", found) for label, found in release.labels.items()]
        for place, models in places:
            if (version := models.get(model, "")) in versions:
                where = f"release {release.number} of pipeline {pipeline} ({place})"
                yield f"{where} names {model} version {version}; change it first"


KINDS: Mapping[str, Check] = MappingProxyType(
    {
        RELEASE: _release,
        DOCUMENT: _document,
        REMOVAL: _removal,
        FREEZE: _freeze,
        TENANT: _tenant,
        KEY: _key,
        MODEL: _model,
    }
)


def _is_there(kind: str, name: str, change: Change, records: Reading) -> bool:
    return _after(kind, name, change, records) is not None


def _after(kind: str, name: str, change: Change, records: Reading) -> bytes | None:
    """What the record says once the change is made."""
    for write in change.writes:
        if (write.kind, write.name) == (kind, name):
            return write.content
    versions = records.read(kind, name)
    return versions[0].content if versions else None


def _live(content: bytes | None, pipeline: str) -> Release | None:
    """The release of a record; None: there is none that can be read."""
    try:
        return None if content is None else from_bytes(pipeline, content)
    except ReleaseError:
        return None


def _json(write: Write) -> dict[str, object]:
    try:
        found = json.loads(write.content or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
