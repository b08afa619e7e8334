"""Which coalitions of players are asked: all of them if there are few players, else those along random orders.

A coalition is a set of players (columns) that have the values of the explained row; the others have those of the base row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from headrace.explanations.errors import ExplanationError

# Up to so many players all coalitions are asked: 1,024.
MOST_EXACT = 10
MOST_PLAYERS = 256
# An order and its reverse are a pair. A round asks about so many coalitions, and at least so many pairs, however many players
# there are. The more rounds, the smaller the error.
_COALITIONS = 512
_FEWEST_PAIRS = 8


@dataclass(frozen=True, slots=True)
class Coalitions:
    """What is asked. `masks`: bool (coalitions, players); the first is empty, the last has all players.

    Of random orders: `orders`: int (orders, players), each pair of neighbours an order and its reverse; `steps`: int (orders,
    players + 1), the coalition of the first 0, 1 … players of each order. None: every coalition is there, and number i has the
    players of i's bits.
    """

    masks: NDArray[np.bool_]
    orders: NDArray[np.intp] | None = None
    steps: NDArray[np.intp] | None = None

    @property
    def exact(self) -> bool:
        """Whether contributions are exact; else they are estimates with a standard error."""
        return self.orders is None

    def __len__(self) -> int:
        return len(self.masks)


def coalitions_of(players: int, seed: bytes, number: int = 0, *, most_exact: int = MOST_EXACT) -> Coalitions:
    """The coalitions of a round. The same `seed` and number of the round give the same.

    Raises ExplanationError: no players, or too many.
    """
    if not 0 < players <= MOST_PLAYERS:
        raise ExplanationError(
            "players",
            f"{players} columns decide; from 1 to {MOST_PLAYERS} can be explained",
        )
    return _all(players) if players <= most_exact else _sampled(players, seed + number.to_bytes(4, "big"))


def _all(players: int) -> Coalitions:
    numbers = np.arange(1 << players)
    return Coalitions((numbers[:, None] >> np.arange(players) & 1).astype(bool))


def _sampled(players: int, seed: bytes) -> Coalitions:
    pairs = max(_FEWEST_PAIRS, math.ceil(_COALITIONS / (2 * players)))
    random = np.random.default_rng(int.from_bytes(blake2b(seed, digest_size=16).digest(), "big"))
    drawn = random.permuted(np.tile(np.arange(players), (pairs, 1)), axis=1)
    orders = np.stack([drawn, drawn[:, ::-1]], axis=1).reshape(2 * pairs, players)
    places = np.argsort(orders, axis=1)
    # A player is in the coalition of the first k if its place in the order is below k. All orders share the empty and the whole
    # one; that others coincide is too rare to be worth looking for.
    inner = places[:, None, :] < np.arange(1, players)[None, :, None]
    masks = np.zeros((2 * pairs * (players - 1) + 2, players), bool)
    masks[1:-1] = inner.reshape(-1, players)
    masks[-1] = True
    steps = np.zeros((2 * pairs, players + 1), np.intp)
    steps[:, 1:-1] = np.arange(1, len(masks) - 1).reshape(2 * pairs, players - 1)
    steps[:, -1] = len(masks) - 1
    return Coalitions(masks, orders, steps)
