"""Finds bad rows by bisection: a bad row must fail alone, not together with its batch peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.executor.backends.backend import Array, BackendLateError, BackendLostError, Tensors

# One bad row among n needs 2·log2(n) further runs. The limit is for a model that fails on every row.
MAX_FURTHER_RUNS = 16


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """`outputs`: of the rows that succeeded, in order. `ran`: which rows did (bool (rows,)); None: all."""

    outputs: Tensors
    ran: Array | None = None
    # The engine's first error, for the log; None: there was none.
    error: Exception | None = None


def run_with_bisection(
    run: Callable[[Tensors], Tensors], inputs: Tensors, rows: int, over: Callable[[], bool] = lambda: False
) -> RunOutcome:
    """Runs all rows; if that fails, runs halves, and halves of these, until the failing rows are alone.

    Rows that are left after MAX_FURTHER_RUNS, or when `over` returns True, count as failed. Never raises: what the
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
    waiting = _halves(0, rows)
    for _ in range(MAX_FURTHER_RUNS):
        if not waiting or over():
            break
        start, stop = waiting.pop()
        try:
            outputs = run({name: array[start:stop] for name, array in inputs.items()})
        except Exception:  # noqa: BLE001 - as above; the first error is enough for the log
            waiting += _halves(start, stop)
        else:
            parts.append((start, outputs))
            ran[start:stop] = True
    parts.sort(key=lambda part: part[0])
    names = parts[0][1] if parts else ()
    return RunOutcome({n: np.concatenate([outputs[n] for _, outputs in parts]) for n in names}, ran, first)


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start < 2:
        return []
    middle = (start + stop) // 2
    return [(middle, stop), (start, middle)]
