"""What runs a stage, whatever its kind: the call of a service, and what its reply means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

from headrace.columns import Batch, Column, RowError, Timing
from headrace.columns.column import Mask
from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from headrace.pipeline import ColumnType, ModelUse
from services.router import errors

_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_TYPE = attrgetter("dtype", "row_shape")


# A tuple: a dataclass takes twice as long to make, and one is made for each stage of a batch.
class StageResult(NamedTuple):
    """Columns for the rows that were sent, in that order.

    `annotations`: columns that the pipeline does not declare and only the answer carries; a row for which they say nothing
    holds −1 where the type is signed, else 0. `errors`: position → why that row failed.
    `fallbacks`: name → bool (rows,), the rows that used it. `refusals`: what a demanded view had instead of present
    values → how many rows were refused for it. `timings`: the callee's own, counted from when it got the call.
    `models`: those that ran. `asked`: model → rows that it was asked for, in stages that choose among models. `attributes`: for
    the stage's span.
    """

    columns: Sequence[Column] = ()
    annotations: Sequence[Column] = ()
    errors: Mapping[int, RowError] = _NOTHING
    fallbacks: Mapping[str, Mask] = _NOTHING
    refusals: Mapping[str, int] = _NOTHING
    timings: Sequence[Timing] = ()
    models: Sequence[ModelUse] = ()
    asked: Mapping[str, int] = _NOTHING
    attributes: Mapping[str, str] = _NOTHING

    def times(self, stage: str, service: str, start_us: int, took_us: int, rows: int) -> list[Timing]:
        """The timing of a stage that began at `start_us` and took `took_us`, and the callee's, each within it.

        The rows may have waited here for a call in flight before they were sent, but the reply came back at once: so the
        callee's timings end where the stage ends.
        """
        found, end = [Timing(stage, service, start_us, took_us, rows, self.attributes)], 0
        for t in self.timings:
            ended = t.start_us + t.duration_us
            if ended > end:
                end = ended
        offset = start_us + took_us - end if took_us > end else start_us
        for t in self.timings:
            name, start = f"{stage}/{t.stage}", offset + t.start_us
            found.append(Timing(name, t.service, start, t.duration_us, t.row_count, t.attributes))
        return found


class StageRunner(Protocol):
    """Runs one stage of one pipeline."""

    @property
    def service(self) -> str:
        """The service that does the work."""
        ...

    async def run(self, batch: Batch) -> StageResult:
        """Runs the stage over rows with the columns it reads. Raises Fault if it failed for all of them."""
        ...


RunnerFactory: TypeAlias = Callable[[Any], StageRunner]
"""Makes the runner of a stage; the stage is of the kind that the factory is for."""


@dataclass(frozen=True, slots=True)
class RunnerKind:
    """How the router runs one kind of stage. `name`: of its `headrace.pipeline.StageKind`.

    `callee`: the service that is called, and the key of its client in the router's settings. `connect`: takes that client,
    the router's settings and a clock (monotonic seconds); called once, so that the batches of all stages of this kind can
    share messages. `settings`: class of the further settings that the kind adds to the router's; None: it adds none.
    """

    name: str
    callee: str
    connect: Callable[[Client, Any, Callable[[], float]], RunnerFactory]
    settings: type[Settings] | None = None


class Declared:
    """Columns with the types that a document declares; None: any type."""

    def __init__(self, types: Mapping[str, ColumnType | None]) -> None:
        self.types = types
        self._names = tuple(types)
        self._typed = tuple(name for name, kind in types.items() if kind is not None)
        self._types = [(kind.dtype, kind.row_shape) for kind in types.values() if kind is not None]

    def of(self, columns: Mapping[str, Column]) -> list[Column] | None:
        """The declared ones; None: one is absent or of another type. Without a loop in Python, as there are dozens."""
        named = columns.__getitem__
        try:
            found = [*map(named, self._names)]
        except KeyError:
            return None
        return found if [*map(_TYPE, map(named, self._typed))] == self._types else None

    def misfit(self, columns: Mapping[str, Column]) -> str:
        """The name of the first that is absent or of another type. There is one."""
        for name, kind in self.types.items():
            column = columns.get(name)
            if column is None or (kind is not None and _TYPE(column) != (kind.dtype, kind.row_shape)):
                return name
        raise AssertionError("all columns are as declared")


def columns_of(stage: str, reply: Batch, wanted: Declared, rows: int) -> list[Column]:
    """The wanted columns of a reply; those of a reply in which every row failed are not there.

    Raises Fault INTERNAL if one is absent or not as declared.
    """
    if (count := len(reply.rows.request_ids)) != rows:
        raise errors.unusable_reply(stage, f"{count} rows for {rows}")
    if len(reply.errors) == rows:
        return []
    found = wanted.of(reply.columns)
    if found is not None:
        return found
    name = wanted.misfit(reply.columns)
    column = reply.columns.get(name)
    if column is None:
        raise errors.unusable_reply(stage, f"column {name!r} is missing")
    got, kind = ColumnType(column.dtype, column.row_shape), wanted.types[name]
    raise errors.unusable_reply(stage, f"column {name!r} is {got}, the pipeline declares {kind}")
