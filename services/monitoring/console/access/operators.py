"""Operators: who has an API key with the scope `operate`, by the same records as the ingress."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.access.changes import read
from headrace.access.records import Access
from headrace.access.specs import digest_of, key_digest, narrowed
from headrace.catalog.access import Position, Records
from headrace.catalog.errors import RecordsError

SCOPE = "operate"
_MAX_KEY_BYTES = 8192
_KEY_ID = re.compile(r"hr_([0-9a-f]{8})_")


@dataclass(frozen=True, slots=True)
class Operator:
    """A proven operator."""

    tenant: str
    key_id: str

    @property
    def name(self) -> str:
        """As the audit names it; the door names operators in the same way."""
        return f"{self.tenant}/{self.key_id}"

    @property
    def about(self) -> dict[str, str]:
        """As security events name it."""
        return {"tenant": self.tenant, "key": self.key_id}


@dataclass(frozen=True, slots=True)
class _Key:
    operator: Operator
    may: bool
    expires: float | None


class KeyRefusedError(Exception):
    """A key that opens nothing. `kind`: of the security event; `known`: whether it is a key of this installation."""

    def __init__(self, kind: str, details: Mapping[str, str], *, known: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.details = details
        self.known = known


class Operators:
    """Keeps the keys of the records in memory; `refresh` reads them again if anything changed. `wall`: seconds since 1970. While
    control is away, or a record can't be read, the last good ones are in force, and `problem` says so."""

    def __init__(self, records: Records, wall: Callable[[], float]) -> None:
        self._records = records
        self._wall = wall
        self._position: Position | None = None
        self._keys: Mapping[bytes, _Key] = {}
        self.problem = ""

    def refresh(self) -> None:
        """Reads what changed. Blocks; raises nothing."""
        try:
            position = self._records.position()
            if position != self._position:
                self._keys, self._position = _keys(read(self._records)), position
            self.problem = ""
        except RecordsError as error:
            self.problem = f"who may operate can't be read: {error}"

    def of_key(self, text: str) -> Operator:
        """The operator whose key it is. Raises KeyRefusedError."""
        named = _KEY_ID.match(text)
        # The id is no secret, and says whose key it was, or who is tried.
        hint = {"key": named[1]} if named else {}
        secret = text.encode()
        key = None
        if len(secret) <= _MAX_KEY_BYTES:
            key = self._keys.get(key_digest(secret))
        if key is None:
            raise KeyRefusedError("unknown_key", hint, known=False)
        who = key.operator.about
        if key.expires is not None and key.expires <= self._wall():
            raise KeyRefusedError("expired_credential", who, known=False)
        if not key.may:
            raise KeyRefusedError("forbidden", {**who, "scope": SCOPE}, known=True)
        return key.operator

    def still(self, operator: Operator) -> bool:
        """Whether the key with which somebody signed in is still there, may still operate and has not expired."""
        key = next((key for key in self._keys.values() if key.operator == operator), None)
        return key is not None and key.may and (key.expires is None or key.expires > self._wall())


def _keys(access: Access) -> dict[bytes, _Key]:
    found: dict[bytes, _Key] = {}
    for name, tenant in access.tenants.items():
        for key in access.keys[name].values():
            scopes = set(tenant.scopes) if key.scopes is None else narrowed(tenant.scopes, key.scopes)
            expires = None if key.expires is None else key.expires.timestamp()
            found[digest_of(key)] = _Key(Operator(name, key.id), SCOPE in scopes, expires)
    return found
