"""The cases: what a hostile tenant does, and what happens to the processes. All of it follows from a seed."""

import random
from typing import NamedTuple

# What callers do at the door. Explain runs the pipeline hundreds of times; List runs nothing.
KINDS = ("predict", "predict", "infer", "json", "explain", "list")
# No trouble of a harmless case lasts longer.
_STALL_S = 0.4


class Trouble(NamedTuple):
    """A process stands still, is killed and comes back after `lasts_s`, loses all its connections, or is replaced by another."""

    at: float
    # Number of the process, modulo how many there are.
    process: int
    kind: str
    lasts_s: float


class Caller(NamedTuple):
    """A tenant's calls. `leaves`: the share that it cancels; `steps`: after at most so many turns of the event loop, or in the
    middle of its message; `broken`: the share of messages that are none."""

    tenant: str
    kind: str
    pipeline: str
    deadline_s: float
    rows: int
    rate: float
    concurrency: int
    leaves: float
    steps: int
    broken: float


class Case(NamedTuple):
    """`slow_s`: how long the hostile tenant's model works; `harmless`: all trouble is short, so that no call of the good tenant
    may fail."""

    together: bool
    routers: int
    executors: int
    slow_s: float
    hostile: tuple[Caller, ...]
    troubles: tuple[Trouble, ...]
    harmless: bool


def case_of(seed: int) -> Case:
    draw = random.Random(seed)
    together, harmless = draw.random() < 0.3, draw.random() < 0.7
    kinds = ("still", "replace") if harmless else ("still", "kill", "kill", "cut")
    return Case(
        together,
        routers=1 if together else draw.choice((1, 1, 2)),
        executors=1 if together else draw.choice((1, 1, 2, 3)),
        slow_s=draw.choice((0.0, 0.05, 0.3, 2.0)),
        hostile=tuple(_hostile(draw) for _ in range(draw.choice((0, 1, 1, 2)))),
        troubles=tuple(
            Trouble(
                at + draw.random() * 0.2,
                draw.randrange(12),
                draw.choice(kinds),
                draw.uniform(0.05, _STALL_S) if harmless else draw.uniform(0.1, 2.0),
            )
            for at in (0.1, 0.4)
            if draw.random() < 0.6
        ),
        harmless=harmless,
    )


def _hostile(draw: random.Random) -> Caller:
    kind = draw.choice(KINDS)
    return Caller(
        draw.choice(("hostile", "hostile", "limited")),
        kind,
        draw.choice(("scored", "theirs")),
        draw.choice((0.001, 0.01, 0.05, 0.1, 0.3, 1.0, 2.5)),
        draw.choice((1, 1, 8, 64, 512)) if kind in ("predict", "infer") else draw.choice((1, 3)),
        draw.choice((8.0, 50.0, 200.0)),
        draw.choice((2, 6, 12)),
        draw.choice((0.0, 0.0, 0.3, 1.0)),
        draw.choice((3, 30, 300)),
        draw.choice((0.0, 0.0, 0.5)),
    )
