"""Changes of tenants and keys at control. What others changed meanwhile is looked at and the change is worked out anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headrace.access import records as contents
from headrace.access.records import KEY, TENANT, Access, AccessError, By
from headrace.access.specs import KeySpec, TenantSpec, check_name
from headrace.catalog.access import Change, Made, Record, Records, Write
from headrace.catalog.errors import RecordChangedError

T = TypeVar("T")
# The tenant as it is (None: there is none) → as it should be. Raises AccessError.
Edit = Callable[[TenantSpec | None], TenantSpec]


def read(records: Records) -> Access:
    """All tenants and keys. Raises RecordsError."""
    # Keys first: each one's tenant is older.
    keys, tenants = records.list(KEY), records.list(TENANT)
    return Access.of(_contents(tenants), _contents(keys))


def keys_of(records: Records, tenant: str) -> list[KeySpec]:
    """The keys of a tenant; none if there is no such tenant. Raises RecordsError."""
    found = _contents(records.list(KEY, f"{tenant}/"))
    return [contents.key_of(name, content)[1] for name, content in found]


def edit_tenant(records: Records, name: str, edit: Edit, by: By) -> TenantSpec:
    """Makes a tenant, or changes it. Returns it. Raises AccessError, RecordsError."""

    def work_out() -> tuple[Change, TenantSpec]:
        spec, version = _tenant(records, name)
        edited = edit(spec)
        return by.change("tenant.set", name, _write(name, edited, version)), edited

    return _made(records, work_out)[1]


def remove_tenant(records: Records, name: str, by: By) -> None:
    """Takes a tenant away with all its keys. Raises AccessError, RecordsError."""

    def work_out() -> tuple[Change, None]:
        record = _newest(records, TENANT, name)
        if record is None or record.content is None:
            raise _unknown(records, name)
        keys = (Write(KEY, r.name, None) for r in records.list(KEY, f"{name}/", names_only=True))
        return by.change("tenant.remove", name, Write(TENANT, name, None, record.version), *keys), None

    _made(records, work_out)


def add_key(records: Records, name: str, key: KeySpec, edit: Edit, by: By) -> TenantSpec:
    """Adds a key to a tenant, which `edit` may make or change with it. Returns the tenant. Raises AccessError, RecordsError."""

    def work_out() -> tuple[Change, TenantSpec]:
        spec, version = _tenant(records, name)
        edited, added = edit(spec), f"{name}/{key.id}"
        if _newest(records, KEY, added) is not None:
            raise AccessError(f"tenant {name!r} has, or had, a key {key.id!r}; make another one")
        writes = _write(name, edited, version), Write(KEY, added, contents.key_content(key), 0)
        return by.change("key.add", added, *writes), edited

    return _made(records, work_out)[1]


def revoke_key(records: Records, name: str, identity: str, by: By) -> Made:
    """Takes a key away. Raises AccessError, RecordsError."""

    def work_out() -> tuple[Change, None]:
        record = _newest(records, KEY, key := f"{name}/{identity}")
        if record is None or record.content is None:
            access = read(records)
            access.tenant(name)
            known = ", ".join(access.keys[name]) or "none"
            raise AccessError(f"tenant {name!r} has no key {identity!r}; its keys: {known}")
        return by.change("key.revoke", key, Write(KEY, key, None, record.version)), None

    return _made(records, work_out)[0]


def _made(records: Records, work_out: Callable[[], tuple[Change, T]]) -> tuple[Made, T]:
    while True:
        change, result = work_out()
        try:
            return records.change(change), result
        except RecordChangedError:
            continue  # each time somebody else's change was made, so it ends


def _write(name: str, spec: TenantSpec, version: int) -> Write:
    return Write(TENANT, name, contents.tenant_content(spec), version)


def _tenant(records: Records, name: str) -> tuple[TenantSpec | None, int]:
    """The tenant now (None: there is none), and the version of its record. Raises AccessError: it can't be read."""
    try:
        check_name(name)
    except ValueError as error:
        raise AccessError(str(error)) from None
    record = _newest(records, TENANT, name)
    if record is None:
        return None, 0
    return None if record.content is None else contents.tenant_of(name, record.content), record.version


def _newest(records: Records, kind: str, name: str) -> Record | None:
    return next(iter(records.read(kind, name)), None)


def _unknown(records: Records, name: str) -> AccessError:
    known = ", ".join(r.name for r in records.list(TENANT, names_only=True)) or "none yet"
    return AccessError(f"no tenant {name!r}; there are: {known}")


def _contents(records: list[Record]) -> list[tuple[str, bytes]]:
    return [(record.name, record.content) for record in records if record.content is not None]
