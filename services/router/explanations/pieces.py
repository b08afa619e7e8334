"""One explanation: its coalitions run as rows of the lowest priority, some at a time, on the stages that lead to the output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, Rows, Timing
from headrace.explanations import (
    MOST_ROUNDS,
    Contributions,
    ExplanationError,
    coalition_columns,
    coalitions_of,
    contributions,
    pairs_of,
    precise,
)
from services.router.events.busy import busy
from services.router.explanations.subject import Subject, with_runners
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.run import RouteRun
from services.router.shadow.run import PRIORITY, Turn, Turned

# The most bounds what this process itself works at once.
_FEWEST_ROWS, _FIRST_ROWS, _MOST_ROWS = 8, 64, 256
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

    def ran(self, rows: int, timings: Sequence[Timing]) -> None:
        """A piece of so many rows has run."""
        self.rows += rows
        for name, (us, _) in busy(timings).items():
            self.busy_us[name] = self.busy_us.get(name, 0.0) + us


@dataclass(frozen=True, slots=True)
class Pacing:
    """How pieces run beside live calls. `turn`: makes one piece's way to wait for its turn; `rest`: rests after it; `size`: how
    many rows it has; `took`: what they took. `clock`: monotonic seconds."""

    turn: Callable[[], Turn]
    rest: Callable[[Turn], Awaitable[None]]
    size: PieceSize
    clock: Callable[[], float]
    took: Took = field(default_factory=Took)


async def explain(subject: Subject, row: Row, pacing: Pacing) -> Explained:
    """Explains a row. Raises ExplanationError, and Fault if a stage fails."""
    missing = [name for name in subject.players if name not in row.columns]
    if missing:
        raise ExplanationError("columns", f"the column {missing[0]!r} is not known", column=missing[0])
    pairs = pairs_of(subject.players, row.columns, subject.base.columns)
    rounds, ran = [], 0
    for number in range(MOST_ROUNDS):
        coalitions = coalitions_of(len(subject.players), row.seed, number)
        outputs = await _outputs(subject, row, pairs, coalitions.masks, pacing)
        rounds.append((coalitions, outputs))
        ran += len(coalitions)
        found = contributions(rounds)
        if found.exact or precise(found):
            break
    return Explained(subject, row, found, ran)


async def _outputs(
    subject: Subject, row: Row, pairs: Sequence[Column], masks: NDArray[np.bool_], pacing: Pacing
) -> NDArray[np.float64]:
    """The output for each coalition."""
    found: list[NDArray[np.float64]] = []
    start = 0
    while start < len(masks):
        piece = masks[start : start + pacing.size.rows]
        turn = pacing.turn()
        columns = coalition_columns(pairs, piece)
        found.append(await _run(subject, row, columns, turn, pacing))
        start += len(piece)
        await pacing.rest(turn)
    return np.concatenate(found)


async def _run(
    subject: Subject, row: Row, columns: Sequence[Column], turn: Turn, pacing: Pacing
) -> NDArray[np.float64]:
    run = await run_piece(subject, subject.route, row, columns, turn, pacing)
    return output_of(run, subject.output)


async def run_piece(
    subject: Subject, part: Route, row: Row, columns: Sequence[Column], turn: Turn, pacing: Pacing
) -> RouteRun:
    """Some stages of a pipeline on these columns, as rows of the lowest priority. Raises Fault."""
    deadline_s = subject.pipeline.deadline_ms / 1000
    route = with_runners(part, lambda runner: Turned(runner, turn, deadline_s))
    count, clock = len(columns[0]), pacing.clock
    rows = Rows(
        [row.request_id] * count,
        [row.tenant] * count,
        [PRIORITY] * count,
        [clock() + _RUN_S] * count,
        [""] * count,
    )
    run = RouteRun(route, Batch.of(rows, columns), clock, Meter())
    await run.run_stages()
    pacing.size.ran(count, run.timings)
    pacing.took.ran(count, run.timings)
    for error in run.errors.values():
        raise error.fault()
    return run


def output_of(run: RouteRun, name: str) -> NDArray[np.float64]:
    """Raises ExplanationError: it is null somewhere."""
    output = run.columns[name]
    if not output.is_valid().all():
        raise ExplanationError("not_finite", f"the output {name!r} is null for some coalitions")
    return output.array.astype(np.float64)
