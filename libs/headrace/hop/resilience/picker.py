"""Which replica takes a call: power of two choices, or consistent hash with bounded load. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

# A replica chosen by key is passed over while it has more than this times the mean of calls outstanding.
_LOAD_FACTOR = 1.25


class Candidate(Protocol):
    """What the picker knows of a replica."""

    @property
    def address(self) -> str: ...
    @property
    def outstanding(self) -> int: ...


C = TypeVar("C", bound=Candidate)


def least_of_two(candidates: Sequence[C], random: Callable[[], float]) -> C:
    """The less busy of two different candidates drawn at random. `random` gives floats in [0, 1)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, other = candidates[first], candidates[second]
    return other if other.outstanding < one.outstanding else one


def by_key(candidates: Sequence[C], key: str) -> C:
    """The candidate that rendezvous hashing gives the key; the next in its order while that one is overfull.

    A key keeps its replica while the set stands; when a replica goes, only its keys move.
    """
    bound = _LOAD_FACTOR * (sum(c.outstanding for c in candidates) + 1) / len(candidates)
    ranked = sorted(candidates, key=lambda c: _score(key, c.address), reverse=True)
    # At least one lies under the mean, so the default is never needed; it keeps the type total.
    return next((c for c in ranked if c.outstanding < bound), ranked[0])


def pick(candidates: Sequence[C], key: str, random: Callable[[], float]) -> C:
    """One of the candidates (at least one); by `key` unless it is empty."""
    return by_key(candidates, key) if key and len(candidates) > 1 else least_of_two(candidates, random)


def _score(key: str, address: str) -> bytes:
    return blake2b(
        key.encode(), key=blake2b(address.encode(), digest_size=16).digest(), digest_size=8
    ).digest()
