"""Explanations: their coalitions run as rows of the lowest priority, some at a time, on the stages that lead to the output."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, Rows, Timing
from headrace.explanations import (
    MOST_ROUNDS,
    Coalitions,
    Contributions,
    ExplanationError,
    coalition_columns,
    coalitions_of,
    contributions,
    precise,
    values_of,
)
from services.router.events.busy import busy
from services.router.explanations.subject import Subject, with_runners
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.run import RouteRun
from services.router.shadow.run import PRIORITY, Turn, Turned

# The most bounds what this process itself works at once.
_FEWEST_ROWS, _FIRST_ROWS, _MOST_ROWS = 8, 64, 512
# No deadline for a whole piece, as it may wait between its stages; each stage gets the pipeline's own.
_RUN_S = 3600.0
_WAITS = "/queue"


@dataclass(slots=True)
class PieceSize:
    """How many rows run at once: so many that no callee works longer than `longest_us` at a time, but not fewer than `fewest`."""

    longest_us: float
    rows: int = _FIRST_ROWS
    fewest: int = _FEWEST_ROWS

    def ran(self, rows: int, timings: Sequence[Timing]) -> None:
        """A piece of so many rows has run; `timings`: of it, with those that callees tell."""
        worked = [t.duration_us for t in timings if "/" in t.stage and not t.stage.endswith(_WAITS)]
        longest = max(worked, default=0)
        if longest > self.longest_us:
            self.rows = max(self.rows // 2, self.fewest)
        elif longest < self.longest_us / 2 and rows >= self.rows:
            self.rows = min(self.rows * 2, _MOST_ROWS)


@dataclass(frozen=True, slots=True)
class Row:
    """A row to explain. `columns`: of one row, with each player; the other fields: whose row it is. `seed`: decides which
    coalitions are asked."""

    columns: Mapping[str, Column]
    request_id: str
    tenant: str
    seed: bytes


@dataclass(frozen=True, slots=True)
class Explained:
    """What came out. `rows`: that the stages ran for it."""

    subject: Subject
    row: Row
    found: Contributions
    rows: int


@dataclass(slots=True)
class Took:
    """What services worked. `rows`: that were sent; `busy_us`: µs by service, of the executor by `executor/MODEL:VERSION`."""

    rows: int = 0
    busy_us: dict[str, float] = field(default_factory=dict)

    def add(self, rows: int, busy_us: Mapping[str, float], share: float = 1.0) -> None:
        """So many rows more; theirs is a share of what was worked."""
        self.rows += rows
        for name, us in busy_us.items():
            self.busy_us[name] = self.busy_us.get(name, 0.0) + us * share


@dataclass(frozen=True, slots=True)
class Pacing:
    """How pieces run beside live calls. `turn`: makes one piece's way to wait for its turn; `rest`: rests after it; `size`: how
    many rows it has; `took`: what they took, by tenant. `clock`: monotonic seconds."""

    turn: Callable[[], Turn]
    rest: Callable[[Turn], Awaitable[None]]
    size: PieceSize
    clock: Callable[[], float]
    took: dict[str, Took] = field(default_factory=dict)


async def explain(subject: Subject, rows: Sequence[Row], pacing: Pacing) -> list[Explained]:
    """Explains rows together: each in at least one round, all in at most `MOST_ROUNDS` if they are fewer.

    Raises ExplanationError, and Fault if a stage fails: for all of them, if one fails.
    """
    for name in subject.players:
        if any(name not in row.columns for row in rows):
            raise ExplanationError("columns", f"the column {name!r} is not known", column=name)
    values = values_of(subject.players, [row.columns for row in rows], subject.base.columns)
    rounds: list[list[tuple[Coalitions, NDArray[np.float64]]]] = [[] for _ in rows]
    found: dict[int, Contributions] = {}
    left, vague = MOST_ROUNDS, list(range(len(rows)))
    while vague and (left >= len(vague) or not found):
        left -= len(vague)
        for place, ran in zip(vague, await _round(subject, rows, vague, rounds, values, pacing), strict=True):
            rounds[place].append(ran)
            found[place] = contributions(rounds[place])
            await asyncio.sleep(0)  # live calls do not wait until all are computed
        vague = [place for place in vague if not (found[place].exact or precise(found[place]))]
    return [
        Explained(subject, row, found[place], sum(len(coalitions) for coalitions, _ in rounds[place]))
        for place, row in enumerate(rows)
    ]


async def _round(
    subject: Subject,
    rows: Sequence[Row],
    chosen: Sequence[int],
    rounds: Sequence[Sequence[object]],
    values: Sequence[Column],
    pacing: Pacing,
) -> list[tuple[Coalitions, NDArray[np.float64]]]:
    """The next round of the chosen rows. A piece may have coalitions of several."""
    made: list[Coalitions] = []
    found: list[NDArray[np.float64]] = []
    places, owners = np.zeros((0, len(subject.players)), np.intp), list[Row]()
    while len(made) < len(chosen) or owners:
        while len(made) < len(chosen) and len(owners) < pacing.size.rows:
            place = chosen[len(made)]
            made.append(coalitions_of(len(subject.players), rows[place].seed, len(rounds[place])))
            places = np.concatenate([places, made[-1].masks * np.intp(place + 1)])
            owners += [rows[place]] * len(made[-1])
        count = pacing.size.rows
        turn = pacing.turn()
        columns = coalition_columns(values, places[:count])
        run = await run_piece(subject, subject.route, owners[:count], columns, turn, pacing)
        found.append(output_of(run, subject.output))
        places, owners = places[count:], owners[count:]
        await pacing.rest(turn)
    outputs = np.split(np.concatenate(found), np.cumsum([len(m) for m in made])[:-1])
    return list(zip(made, outputs, strict=True))


async def run_piece(
    subject: Subject,
    part: Route,
    owners: Sequence[Row],
    columns: Sequence[Column],
    turn: Turn,
    pacing: Pacing,
) -> RouteRun:
    """Some stages of a pipeline on these columns, as rows of the lowest priority. `owners`: whom each row helps to explain.
    Raises Fault."""
    deadline_s = subject.pipeline.deadline_ms / 1000
    route = with_runners(part, lambda runner: Turned(runner, turn, deadline_s))
    count, clock = len(owners), pacing.clock
    rows = Rows(
        [row.request_id for row in owners],
        [row.tenant for row in owners],
        [PRIORITY] * count,
        [clock() + _RUN_S] * count,
        [""] * count,
    )
    run = RouteRun(route, Batch.of(rows, columns), clock, Meter())
    await run.run_stages()
    pacing.size.ran(count, run.timings)
    worked = {name: us for name, (us, _) in busy(run.timings).items()}
    for tenant, own in Counter(rows.tenants).items():
        pacing.took.setdefault(tenant, Took()).add(own, worked, own / count)
    for error in run.errors.values():
        raise error.fault()
    return run


def output_of(run: RouteRun, name: str) -> NDArray[np.float64]:
    """Raises ExplanationError: it is null somewhere."""
    output = run.columns[name]
    if not output.is_valid().all():
        raise ExplanationError("not_finite", f"the output {name!r} is null for some coalitions")
    return output.array.astype(np.float64)
