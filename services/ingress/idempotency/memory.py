"""Keys in the memory of one process: the rules in their plainest form, as a state machine with a clock that is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.ingress.idempotency.store import Claim, State, StoreRules


@dataclass(slots=True)
class _Leased:
    fingerprint: bytes
    token: str
    until: float


@dataclass(slots=True)
class _KeptOutcome:
    fingerprint: bytes
    outcome: bytes
    until: float


@dataclass(slots=True)
class _Use:
    keys: int = 0
    bytes: int = 0


class KeyTable:
    """`now`: seconds of one clock."""

    def __init__(self, rules: StoreRules) -> None:
        self._rules = rules
        self._leased: dict[tuple[str, str], _Leased] = {}
        # In the order in which their time ends, as all are kept for as long.
        self._kept: OrderedDict[tuple[str, str], _KeptOutcome] = OrderedDict()
        self._uses: dict[str, _Use] = {}

    def claim(self, tenant: str, key: str, fingerprint: bytes, token: str, now: float) -> Claim:
        self.purge(now)
        name = tenant, key
        kept = self._kept.get(name)
        if kept is not None:
            same = kept.fingerprint == fingerprint
            return Claim(State.KEPT, kept.outcome) if same else Claim(State.OTHER)
        leased = self._leased.get(name)
        if leased is not None:
            return Claim(State.BUSY if leased.fingerprint == fingerprint else State.OTHER)
        use = self._uses.setdefault(tenant, _Use())
        if use.keys >= self._rules.max_keys or use.bytes >= self._rules.max_bytes:
            return Claim(State.FULL)
        use.keys += 1
        self._leased[name] = _Leased(fingerprint, token, now + self._rules.lease_s)
        return Claim(State.CLAIMED)

    def renew(self, tenant: str, key: str, token: str, now: float) -> bool:
        leased = self._owned(tenant, key, token, now)
        if leased is None:
            return False
        leased.until = now + self._rules.lease_s
        return True

    def commit(self, tenant: str, key: str, token: str, outcome: bytes, now: float) -> bool:
        leased = self._owned(tenant, key, token, now)
        if leased is None:
            return False
        del self._leased[tenant, key]
        self._kept[tenant, key] = _KeptOutcome(leased.fingerprint, outcome, now + self._rules.kept_s)
        self._uses[tenant].bytes += len(outcome)
        return True

    def abandon(self, tenant: str, key: str, token: str, now: float) -> None:
        if self._owned(tenant, key, token, now) is not None:
            del self._leased[tenant, key]
            self._forget(tenant, 0)

    def purge(self, now: float) -> None:
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            if kept.until > now:
                break
            del self._kept[name]
            self._forget(name[0], len(kept.outcome))
        # There are no more of them than requests in flight.
        for name in [name for name, leased in self._leased.items() if leased.until <= now]:
            del self._leased[name]
            self._forget(name[0], 0)

    def _owned(self, tenant: str, key: str, token: str, now: float) -> _Leased | None:
        leased = self._leased.get((tenant, key))
        return leased if leased is not None and leased.token == token and leased.until > now else None

    def _forget(self, tenant: str, size: int) -> None:
        use = self._uses[tenant]
        use.keys -= 1
        use.bytes -= size
        if not use.keys:
            del self._uses[tenant]


class MemoryKeys:
    """A `KeyStore` of this process; it ends with it. `clock`: monotonic seconds."""

    def __init__(self, rules: StoreRules, clock: Callable[[], float]) -> None:
        self._table = KeyTable(rules)
        self._clock = clock

    async def claim(self, tenant: str, key: str, fingerprint: bytes, token: str) -> Claim:
        return self._table.claim(tenant, key, fingerprint, token, self._clock())

    async def renew(self, tenant: str, key: str, token: str) -> bool:
        return self._table.renew(tenant, key, token, self._clock())

    async def commit(self, tenant: str, key: str, token: str, outcome: bytes, note: str) -> bool:  # noqa: ARG002 - nobody can look in here
        return self._table.commit(tenant, key, token, outcome, self._clock())

    async def abandon(self, tenant: str, key: str, token: str) -> None:
        self._table.abandon(tenant, key, token, self._clock())

    async def purge(self) -> None:
        self._table.purge(self._clock())

    async def close(self) -> None:
        """Nothing is open."""
