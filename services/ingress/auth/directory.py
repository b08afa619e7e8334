"""Who may call, as requests need it, and how it follows what is live: replaced at once, one tenant's mistake hurts no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.access.records import KEY, TENANT, key_of, tenant_of
from headrace.access.specs import KeySpec, digest_of, narrowed
from headrace.catalog.errors import RecordInvalidError
from headrace.resources.apply import Compile, Unit, View
from headrace.resources.follower import Follower
from headrace.resources.snapshot import Key, Resource
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.ports import Log

# A wait for a change ends after so long, and begins anew.
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Directory:
    """All tenants, and the API keys by `key_digest(key)`."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keys: Mapping[bytes, Credential] = field(default_factory=dict)


class DirectoryBuilder:
    """Makes directories of resources. What has not changed since the one before is not read again, and stays the same object:
    of a thousand tenants few change at a time."""

    def __init__(self) -> None:
        self._tenants: dict[str, tuple[bytes, Tenant, frozenset[str]]] = {}
        self._keys: dict[str, tuple[bytes, Tenant, bytes, Credential]] = {}

    def build(self, resources: Mapping[Key, Resource]) -> Directory:
        """Resources that can't be read, keys of no tenant and the second of two equal keys are left out."""
        self._tenants = {
            name: tenant
            for (kind, name), resource in resources.items()
            if kind == TENANT and (tenant := self._tenant(name, resource))
        }
        self._keys = {
            name: key
            for (kind, name), resource in sorted(resources.items())
            if kind == KEY and (key := self._key(name, resource))
        }
        keys: dict[bytes, Credential] = {}
        for _, _, digest, credential in self._keys.values():
            keys.setdefault(digest, credential)
        return Directory(
            {name: tenant for name, (_, tenant, _) in self._tenants.items()},
            {name: scopes for name, (_, _, scopes) in self._tenants.items()},
            keys,
        )

    def _tenant(self, name: str, resource: Resource) -> tuple[bytes, Tenant, frozenset[str]] | None:
        known = self._tenants.get(name)
        if known is not None and known[0] == resource.sha256:
            return known
        try:
            spec = tenant_of(name, resource.content)
        except RecordInvalidError:
            return None
        tenant = Tenant(
            name,
            frozenset(spec.pipelines),
            spec.limits,
            spec.priority,
            spec.regulated,
            spec.requires_encryption,
        )
        return resource.sha256, tenant, frozenset(spec.scopes)

    def _key(self, name: str, resource: Resource) -> tuple[bytes, Tenant, bytes, Credential] | None:
        if (of_tenant := self._tenants.get(name.partition("/")[0])) is None:
            return None
        _, tenant, scopes = of_tenant
        known = self._keys.get(name)
        if known is not None and known[:2] == (resource.sha256, tenant):
            return known
        try:
            _, key = key_of(name, resource.content)
        except RecordInvalidError:
            return None
        return resource.sha256, tenant, digest_of(key), _credential(key, tenant, scopes)


def _credential(key: KeySpec, tenant: Tenant, scopes: frozenset[str]) -> Credential:
    allowed = scopes if key.scopes is None else narrowed(scopes, key.scopes)
    return Credential(tenant, key.id, allowed, None if key.expires is None else key.expires.timestamp())


class LiveDirectory:
    """The directory now; None: nothing is known yet, so that nobody can be let in or refused. `broken`: told 1 while a tenant or
    key can't be used as it is at control, 0 otherwise."""

    def __init__(self, log: Log, broken: Callable[[float], None]) -> None:
        self.directory: Directory | None = None
        self._log = log
        self._broken = broken
        self._builder = DirectoryBuilder()
        self._subscribers: tuple[Callable[[Directory], None], ...] = ()
        self._state = ""

    @property
    def compilers(self) -> Mapping[str, Compile]:
        """For the follower: what they refuse is not used, and the last good one stays."""
        return {TENANT: self._check, KEY: self._check}

    def subscribe(self, *subscribers: Callable[[Directory], None]) -> None:
        """Each is called with every new directory."""
        self._subscribers += subscribers

    async def follow(self, follower: Follower) -> None:
        """Takes up the next change, or waits for it for a while. Called again and again."""
        view = await asyncio.to_thread(follower.wait, self._state, _WAIT_S)
        if view is not None and view.state != self._state:
            self.take(view)

    def take(self, view: View) -> None:
        """From now on it counts."""
        self._state = view.state
        self._broken(float(any(kind in (TENANT, KEY) for kind, _ in view.rejected)))
        self.directory = self._builder.build(view.snapshot.resources)
        for subscriber in self._subscribers:
            subscriber(self.directory)

    def _check(self, unit: Unit) -> None:
        """Raises RecordInvalidError. On a thread."""
        resource = unit.resources[0]
        try:
            (tenant_of if resource.kind == TENANT else key_of)(resource.name, resource.content)
        except RecordInvalidError as error:
            self._log.error("not taken over; the last good one is in force", error=str(error))
            raise
