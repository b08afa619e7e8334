"""What explaining predictions took → who caused how much work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.cost.usage import EXECUTOR, EXPLAINED, ROUTER, SHAPES, Key, Work


@dataclass(frozen=True, slots=True)
class ExplanationWork:
    """Of one tenant and pipeline. `rows`: that the stages ran for so many explanations; `busy_us`: µs by service, of the executor
    by `executor/MODEL:VERSION`."""

    tenant: str
    pipeline: str
    explanations: int
    rows: int
    busy_us: dict[str, float]


class ExplanationCost:
    """`add` takes work to be written, as `CostObserver.put_back`; None: no cost is told."""

    def __init__(self, add: Callable[[dict[Key, Work]], None] | None) -> None:
        self._add = add

    def take(self, works: Sequence[ExplanationWork]) -> None:
        """Counts the works of one message. That one which comes again counts once is its caller's business."""
        if self._add is None:
            return
        for work in works:
            self._add(_keys(work))


def _keys(work: ExplanationWork) -> dict[Key, Work]:
    """The executor's work by model, as its own counters have it; what else there is, by all models together."""
    models = sorted(name.partition("/")[2] for name in work.busy_us if name.startswith(f"{EXECUTOR}/"))
    whole = Key(work.tenant, work.pipeline, "+".join(models), EXPLAINED)
    router = {ROUTER: SHAPES[ROUTER].us(work.rows, work.explanations)}
    found = {whole: Work(work.rows, work.explanations, router)}
    for name, us in work.busy_us.items():
        service, _, model = name.partition("/")
        key = Key(work.tenant, work.pipeline, model, EXPLAINED) if model else whole
        found.setdefault(key, Work()).add(Work(busy_us={service: us}))
    return found
