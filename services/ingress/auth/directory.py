"""Who may call, as requests need it, and how it follows what is live: replaced at once, one tenant's mistake hurts no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.access.records import KEY, TENANT, key_of, tenant_of
from headrace.access.specs import KeySpec, digest_of, narrowed
from headrace.catalog.errors import RecordInvalidError
from headrace.resources.apply import View
from headrace.resources.follower import Follower
from headrace.resources.snapshot import Key, Resource
from services.ingress.documents.catalog import Credential, Tenant


@dataclass(frozen=True, slots=True)
class Directory:
    """All tenants, and the API keys by `key_digest(key)`."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keys: Mapping[bytes, Credential] = field(default_factory=dict)


class DirectoryBuilder:
    """Makes directories of resources. What has not changed since the one before is not read again, and stays the same object: of
    a thousand tenants few change at a time. What can't be read stays as it was. `refuse`: told what is wrong with it, once."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        self._refuse = refuse
        self._tenants: dict[str, tuple[Tenant, frozenset[str]]] = {}
        self._keys: dict[str, tuple[KeySpec, Credential]] = {}
        # Hash of the resource that each was last looked at with.
        self._seen: dict[Key, bytes] = {}
        self.problems: dict[Key, str] = {}

    def build(self, resources: Mapping[Key, Resource]) -> Directory:
        """Keys of no tenant and the second of two equal keys open nothing."""
        ours = {key: resource for key, resource in sorted(resources.items()) if key[0] in (TENANT, KEY)}
        self.problems = {key: said for key, said in self.problems.items() if key in ours}
        self._tenants = {n: t for (k, n), r in ours.items() if k == TENANT and (t := self._tenant(n, r))}
        self._keys = {n: c for (k, n), r in ours.items() if k == KEY and (c := self._key(n, r))}
        self._seen = {key: resource.sha256 for key, resource in ours.items()}
        keys: dict[bytes, Credential] = {}
        for spec, credential in self._keys.values():
            keys.setdefault(digest_of(spec), credential)
        return Directory(
            {name: tenant for name, (tenant, _) in self._tenants.items()},
            {name: scopes for name, (_, scopes) in self._tenants.items()},
            keys,
        )

    def _tenant(self, name: str, resource: Resource) -> tuple[Tenant, frozenset[str]] | None:
        known = self._tenants.get(name)
        if self._seen.get(resource.key) == resource.sha256:
            return known
        try:
            spec = tenant_of(name, resource.content)
        except RecordInvalidError as error:
            self._broken(resource, error)
            return known
        self.problems.pop(resource.key, None)
        tenant = Tenant(
            name,
            frozenset(spec.pipelines),
            spec.limits,
            spec.priority,
            spec.regulated,
            spec.requires_encryption,
        )
        return tenant, frozenset(spec.scopes)

    def _key(self, name: str, resource: Resource) -> tuple[KeySpec, Credential] | None:
        if (of_tenant := self._tenants.get(name.partition("/")[0])) is None:
            return None
        known = self._keys.get(name)
        spec = known[0] if known is not None else None
        if self._seen.get(resource.key) != resource.sha256 or spec is None:
            try:
                spec = key_of(name, resource.content)[1]
                self.problems.pop(resource.key, None)
            except RecordInvalidError as error:
                self._broken(resource, error)
        if spec is None or (known is not None and known[0] is spec and known[1].tenant is of_tenant[0]):
            return known
        return spec, _credential(spec, *of_tenant)

    def _broken(self, resource: Resource, error: RecordInvalidError) -> None:
        if self.problems.get(resource.key) != error.problem:
            self.problems[resource.key] = error.problem
            self._refuse(str(error))


def _credential(key: KeySpec, tenant: Tenant, scopes: frozenset[str]) -> Credential:
    allowed = scopes if key.scopes is None else narrowed(scopes, key.scopes)
    return Credential(tenant, key.id, allowed, None if key.expires is None else key.expires.timestamp())


class LiveDirectory:
    """The directory now; None: nothing is known yet, so that nobody can be let in or refused. `broken`: told 1 while a tenant or
    key can't be used as it is at control, 0 otherwise."""

    def __init__(self, log: Any, broken: Callable[[float], None]) -> None:
        self.directory: Directory | None = None
        self._broken = broken
        self._builder = DirectoryBuilder(
            lambda problem: log.error("not taken over; the last good one is in force", error=problem)
        )
        self._subscribers: tuple[Callable[[Directory], None], ...] = ()
        self._state = ""

    def subscribe(self, *subscribers: Callable[[Directory], None]) -> None:
        """Each is called with every new directory."""
        self._subscribers += subscribers

    def follow(self, follower: Follower) -> None:
        """Takes up what is there, and from now on each change. On the event loop's thread."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            if (view := follower.view) is not None and view.state != self._state:
                self.take(view)

        follower.on_change(lambda: loop.call_soon_threadsafe(look))
        look()

    def take(self, view: View) -> None:
        """From now on it counts."""
        self._state = view.state
        self.directory = self._builder.build(view.snapshot.resources)
        self._broken(float(bool(self._builder.problems)))
        for subscriber in self._subscribers:
            subscriber(self.directory)
