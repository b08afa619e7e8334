"""What a store of idempotency keys does. One for the doors of a machine, one for those of several; both pass the same tests.

A key is free, claimed or kept. Who claims a free key gets a *lease* under a token that nobody else has, and must renew it. A
lease that has ended is as if it had never been: a dead owner blocks nobody. Its late commit fails, as the token is no longer
there (fencing). A kept key has the outcome of its call until its time is over, and is never claimed again before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol


class StoreUnreachableError(Exception):
    """The store did not do it, or did not say so in time."""


class State(Enum):
    """What a claim found."""

    CLAIMED = "claimed"
    # Somebody else has claimed it, for the same call.
    BUSY = "busy"
    KEPT = "kept"
    # Claimed or kept for another call.
    OTHER = "other"
    # The tenant has as many keys, or outcomes of as many bytes, as it may.
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Claim:
    """`outcome`: of a key that is kept."""

    state: State
    outcome: bytes = b""


class Call(NamedTuple):
    """A call that wants a key. `fingerprint`: of its parameters; `token`: nobody else has it."""

    tenant: str
    key: str
    fingerprint: bytes
    token: str


def found(call: Call, fingerprint: bytes, outcome: bytes | None) -> Claim:
    """What a claim finds at a key that is not free. `outcome`: None: it is not kept yet."""
    if fingerprint != call.fingerprint:
        return Claim(State.OTHER)
    return Claim(State.BUSY) if outcome is None else Claim(State.KEPT, outcome)


class KeyStore(Protocol):
    """All methods raise StoreUnreachableError."""

    async def claim(self, call: Call) -> Claim:
        """Claims the key, if it is free."""
        ...

    async def renew(self, call: Call) -> bool:
        """The lease begins anew. False: it has ended, and somebody else may have the key."""
        ...

    async def commit(self, call: Call, outcome: bytes, note: str) -> bool:
        """Keeps the outcome. `note`: JSON for people who look into the store. False: the lease has ended; nothing is kept."""
        ...

    async def abandon(self, call: Call) -> None:
        """Frees the key, if this call has claimed it."""
        ...

    async def purge(self) -> None:
        """Removes some of what is over. Called now and then."""
        ...

    async def close(self) -> None: ...
