"""Tenants and keys as records of control: their contents. Pure.

    tenant   TENANT         what it may use, and how much
    key      TENANT/KEYID   SHA-256 of the key, what it may do, when it ends

A change of a tenant's keys writes the tenant again, too: so no key is added to a tenant that is being removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from headrace.access.specs import KeySpec, TenantSpec, check_name, digest_of
from headrace.catalog.access import Change, Write
from headrace.catalog.errors import RecordInvalidError

TENANT, KEY = "tenant", "key"
# At most so many problems are listed.
_MAX_PROBLEMS = 100


class AccessError(Exception):
    """A tenant or key is not there, or can't be made so; the text says what to do."""


def tenant_of(name: str, content: bytes) -> TenantSpec:
    """The tenant of a record. Raises RecordInvalidError."""
    try:
        check_name(name)
        return TenantSpec.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise RecordInvalidError(TENANT, name, _problem(error)) from None


def key_of(name: str, content: bytes) -> tuple[str, KeySpec]:
    """The tenant of a record's key, and the key. Raises RecordInvalidError."""
    tenant, _, identity = name.partition("/")
    try:
        check_name(tenant)
        values = json.loads(content)
        if not isinstance(values, dict) or "id" in values:
            raise ValueError("a key is a JSON object, and its name says its id")
        return tenant, KeySpec.model_validate({**values, "id": identity})
    except (ValueError, RecursionError) as error:
        raise RecordInvalidError(KEY, name, _problem(error)) from None


def tenant_content(spec: TenantSpec) -> bytes:
    """What the record of a tenant says."""
    return spec.model_dump_json(exclude_defaults=True).encode()


def key_content(key: KeySpec) -> bytes:
    """What the record of a key says."""
    return key.model_dump_json(exclude_defaults=True, exclude={"id"}).encode()


@dataclass(frozen=True, slots=True)
class Access:
    """All tenants, and the keys of each by id. `problems`: records that can't be used, "KIND NAME: why"."""

    tenants: Mapping[str, TenantSpec] = field(default_factory=dict)
    keys: Mapping[str, Mapping[str, KeySpec]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, tenants: Iterable[tuple[str, bytes]], keys: Iterable[tuple[str, bytes]]) -> Access:
        """Of the names and contents of all records. A broken one is a problem of its own; of two equal keys the second."""
        found: dict[str, TenantSpec] = {}
        problems: list[str] = []
        for name, content in tenants:
            try:
                found[name] = tenant_of(name, content)
            except RecordInvalidError as error:
                problems.append(str(error))
        of_tenant: dict[str, dict[str, KeySpec]] = {name: {} for name in found}
        seen: dict[bytes, str] = {}
        for name, content in keys:
            try:
                tenant, key = key_of(name, content)
            except RecordInvalidError as error:
                problems.append(str(error))
                continue
            if (other := seen.setdefault(digest_of(key), name)) != name:
                problems.append(f"{KEY} {name}: it is the same as {other}")
            elif tenant in of_tenant:
                of_tenant[tenant][key.id] = key
        return cls(found, of_tenant, tuple(problems[:_MAX_PROBLEMS]))

    def tenant(self, name: str) -> TenantSpec:
        """Raises AccessError that lists the names, if there is none of that name."""
        try:
            return self.tenants[name]
        except KeyError:
            known = ", ".join(sorted(self.tenants)) or "none yet"
            raise AccessError(f"no tenant {name!r}; there are: {known}") from None


@dataclass(frozen=True, slots=True)
class By:
    """Who changes it, and why; for the audit."""

    actor: str
    reason: str = ""

    def change(self, action: str, subject: str, *writes: Write) -> Change:
        """The change as the audit names it."""
        return Change(self.actor, action, subject, writes, self.reason)


def _problem(error: Exception) -> str:
    """Names no value of the record, as keys' hashes are in it."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it is no JSON"
    return str(error)
