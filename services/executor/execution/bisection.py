"""A run in which bad rows fail alone: if it fails, its halves are run, and halves of these."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.executor.backends.backend import Array, BackendLateError, BackendLostError, Tensors

# Finds one bad row among n in 2·log2(n) further runs, and shows that a model fails on everything.
FEW_FURTHER_RUNS = 16
# After so many rows without a good one among them, the model is broken, and not the rows.
_BARREN_ROWS = 64


class FurtherRuns:
    """How many further runs a failed one may take to find its bad rows.

    All that it needs, since good rows of other requests must not fail with bad ones; but few while nothing succeeds: a broken
    model would take twice as many runs as it gets rows, and the CPU from the models that work.
    """

    def __init__(self) -> None:
        self._barren = 0

    @property
    def hopeless(self) -> bool:
        """Whether the model seems to be broken."""
        return self._barren >= _BARREN_ROWS

    def allowed(self, rows: int) -> int:
        """For a run of `rows` on a thread; on the event loop, where all others wait for it, there are few."""
        # A binary tree with a leaf for each row has fewer nodes than that.
        return FEW_FURTHER_RUNS if self.hopeless else 2 * rows

    def learn(self, rows: int, ran: Array | None) -> None:
        """A run of `rows` ended. `ran`: which rows succeeded (bool (rows,)); None: all."""
        # Several threads may do this at once: a count that is lost does no harm.
        self._barren = 0 if ran is None or ran.any() else self._barren + rows


@dataclass(slots=True, eq=False)
class RunOutcome:
    """`outputs`: of the rows that succeeded, in order. `ran`: which rows did (bool (rows,)); None: all.

    `undecided`: rows count as failed, but it is not known whether they are bad: more further runs would tell.
    """

    outputs: Tensors
    ran: Array | None = None
    # The engine's first error, for the log; None: there was none.
    error: Exception | None = None
    undecided: bool = False


def run_with_bisection(
    run: Callable[[Tensors], Tensors],
    inputs: Tensors,
    rows: int,
    most: int,
    over: Callable[[], bool] = lambda: False,
) -> RunOutcome:
    """Runs all rows; if that fails, runs halves, and halves of these, until the failing rows are alone.

    Rows that are left after `most` further runs, or when `over` returns True, count as failed. Never raises: what the
    engine raises is in the outcome.
    """
    try:
        return RunOutcome(run(inputs))
    except (BackendLostError, BackendLateError) as error:
        # No row is at fault, and no backend is left to run the halves.
        return RunOutcome({}, np.zeros(rows, bool), error)
    except Exception as error:  # noqa: BLE001 - engines raise anything; the outcome carries it to the log
        first = error
    ran = np.zeros(rows, bool)
    parts: list[tuple[int, Tensors]] = []
    waiting = deque(_halves(0, rows))
    for attempt in range(most):
        if not waiting or over():
            break
        # In turn the largest part, which saves many rows at once, and the smallest, which shows soonest whether any row is good.
        start, stop = waiting.pop() if attempt % 2 else waiting.popleft()
        try:
            outputs = run({name: array[start:stop] for name, array in inputs.items()})
        except Exception:  # noqa: BLE001 - as above; the first error is enough for the log
            waiting += _halves(start, stop)
        else:
            parts.append((start, outputs))
            ran[start:stop] = True
    parts.sort(key=lambda part: part[0])
    names = parts[0][1] if parts else ()
    found = {n: np.concatenate([outputs[n] for _, outputs in parts]) for n in names}
    return RunOutcome(found, ran, first, undecided=bool(waiting))


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start < 2:
        return []
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]
