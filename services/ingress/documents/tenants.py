"""The tenants document as requests need it: keys by their hash, everything else by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.hop.config import ConfigError
from headrace.state.tenants import ANY, QuotaSpec, TenantsFile, digest_of


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. `limits` compare by value, so that a quota outlives a reload that did not touch it."""

    name: str
    pipelines: frozenset[str]
    limits: QuotaSpec
    priority: int

    def may_use(self, pipeline: str) -> bool:
        return pipeline in self.pipelines or ANY in self.pipelines


@dataclass(frozen=True, slots=True)
class Credential:
    """A proven identity: the tenant, what the credential allows, and until when (seconds since the epoch)."""

    tenant: Tenant
    key_id: str
    scopes: frozenset[str]
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """All tenants, and the API keys by `hmac.digest(pepper, key, "sha256")`."""

    tenants: Mapping[str, Tenant]
    scopes: Mapping[str, frozenset[str]]
    keys: Mapping[bytes, Credential]

    @classmethod
    def of(cls, file: TenantsFile) -> Directory:
        """Raises ConfigError if two keys are one."""
        tenants: dict[str, Tenant] = {}
        scopes: dict[str, frozenset[str]] = {}
        keys: dict[bytes, Credential] = {}
        for name, spec in file.tenants.items():
            tenant = tenants[name] = Tenant(name, frozenset(spec.pipelines), spec.limits, spec.priority)
            scopes[name] = frozenset(spec.scopes)
            for key in spec.keys:
                digest = digest_of(key)
                if digest in keys:
                    raise ConfigError(f"key {key.id} of tenant {name} is in the document twice")
                allowed = scopes[name] if key.scopes is None else scopes[name] & frozenset(key.scopes)
                expires = None if key.expires is None else key.expires.timestamp()
                keys[digest] = Credential(tenant, key.id, allowed, expires)
        return cls(tenants, scopes, keys)
