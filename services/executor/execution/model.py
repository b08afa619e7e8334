"""One version of a model that is ready to run, and a run of it in which a bad row fails alone (bisection)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.repository import Artifact, Metadata
from services.executor.backends.backend import (
    Array,
    BackendError,
    BackendLateError,
    BackendLostError,
    Tensors,
)
from services.executor.config import ModelSettings
from services.executor.failover.group import FailoverGroup, Member
from services.executor.scheduling.scheduler import Limits

# Starting a run takes a few tenths of a millisecond: less than a tenth of a run of this length.
_AHEAD_S = 0.005


@dataclass(frozen=True, slots=True)
class Model:
    """`artifact`: the verified bytes; a later activation uses the same bytes.

    `measured`: by how many bytes a process grew when it loaded and warmed up the model; 0 if not measured.
    """

    artifact: Artifact
    settings: ModelSettings
    group: FailoverGroup
    measured: int = 0

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that it takes: as measured, but at least what its backends report."""
        return max(
            self.measured, sum(m.backend.capabilities.memory_bytes for m in self.group.members if m.active)
        )

    def limits(self) -> Limits:
        """Limits of queue and runs with the backend that runs it now."""
        settings, able = self.settings, self.group.active.backend.capabilities
        most = min(settings.max_rows, able.max_rows or settings.max_rows)
        return Limits(
            max_rows=most,
            max_queue_rows=settings.max_queue_rows,
            instances=settings.instances if able.concurrent_runs else 1,
            max_delay=settings.max_delay_us / 1e6,
            max_bytes=settings.max_bytes,
            preferred=tuple(n for n in settings.preferred_rows if n <= most),
            buckets=able.buckets,
            lane_priority=settings.lane.priority if settings.lane else None,
            lane_rows=settings.lane.rows if settings.lane else 0,
            lane_instances=settings.lane.instances if settings.lane else 0,
            ahead=_AHEAD_S,
        )

    def run(self, inputs: Tensors, deadline: float) -> tuple[Tensors, Member]:
        """The declared outputs, and the backend that made them. Blocks. `deadline`: monotonic seconds.

        Raises what `FailoverGroup.run` raises, and BackendError for an output of a wrong shape.
        """
        rows = len(next(iter(inputs.values())))
        outputs, member = self.group.run(inputs, deadline)
        check_shapes(self.metadata, outputs, rows)
        return outputs, member


def check_shapes(about: Metadata, outputs: Tensors, rows: int) -> None:
    """Raises BackendError if an output does not have the declared shape."""
    for spec in about.outputs:
        found = outputs[spec.name].shape
        if found != (rows, *spec.row_shape):
            raise BackendError(f"output {spec} of {rows} rows came back with shape {list(found)}")


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
