"""The cases: what a hostile tenant does, and what happens to the processes. All of it follows from a seed."""

import random
from typing import NamedTuple

# The methods, and how long one row of each takes by nature at most. Predict is coalesced; Explain is lengthy.
METHODS = {"Predict": 0.01, "List": 0.002, "Rank": 3.0, "Explain": 3.0}
# No trouble of a harmless case lasts longer.
_STALL_S = 0.4


class Trouble(NamedTuple):
    """A process stands still, or is killed and comes back after `lasts_s`."""

    at: float
    replica: int
    lasts_s: float
    kills: bool


class Case(NamedTuple):
    """`own_lane`: the hostile tenant predicts with another pipeline than the good one; `abandons`: the share of its calls
    that it cancels; `harmless`: all trouble is short, so that no call of the good tenant may fail."""

    replicas: int
    method: str
    own_lane: bool
    deadline_s: float
    rows: int
    work_s: float
    rate: float
    concurrency: int
    abandons: float
    troubles: tuple[Trouble, ...]
    harmless: bool


def case_of(seed: int) -> Case:
    draw = random.Random(seed)
    method = draw.choice(list(METHODS))
    rows = draw.choice((1, 8, 64, 512, 4096)) if method == "Predict" else 1
    replicas, harmless = draw.choice((1, 1, 2, 3)), draw.random() < 0.8
    troubles = tuple(
        Trouble(
            at + draw.random() * 0.3,
            draw.randrange(replicas),
            draw.uniform(0.05, _STALL_S) if harmless else draw.uniform(0.1, 3.0),
            not harmless and draw.random() < 0.5,
        )
        for at in (0.2, 0.9, 1.6)
        if draw.random() < 0.6
    )
    return Case(
        replicas,
        method,
        own_lane=draw.random() < 0.5,
        deadline_s=draw.choice((0.001, 0.01, 0.05, 0.1, 0.3, 1.0, 2.5)),
        rows=rows,
        work_s=METHODS[method] * draw.uniform(0.1, 1.0) * (1 + rows / 512),
        rate=draw.choice((8.0, 50.0, 200.0)),
        concurrency=draw.choice((2, 6, 12)),
        abandons=draw.choice((0.0, 0.0, 0.3, 1.0)),
        troubles=troubles,
        harmless=harmless,
    )
