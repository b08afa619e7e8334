"""Questions to the stored events whose answers are sections of a pipeline's page, and of its JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from services.monitoring.console.ports import Panel, PanelSource
from services.monitoring.console.requests.views import Views
from services.monitoring.events.store import EventStore
from services.monitoring.queries.freshness import freshness

# Of a pipeline at this time (seconds since 1970), with the views that its documents name; None: there is nothing to show. Blocks;
# raises StorageError.
Question: TypeAlias = Callable[[EventStore, str, float, Views], Panel | None]
Over: TypeAlias = Callable[[Callable[[EventStore], Panel | None]], Awaitable[Panel | None]]
QUESTIONS: tuple[Question, ...] = (freshness,)


def sections(over: Over, views: Views, wall: Callable[[], float]) -> list[PanelSource]:
    """Each question as a section. `over`: of `Reception`; `wall`: seconds since 1970."""

    def section(question: Question) -> PanelSource:
        return lambda pipeline: over(lambda store: question(store, pipeline, wall(), views))

    return [section(question) for question in QUESTIONS]
