"""What the console needs of its surroundings, and where other parts of monitoring bring what it shall show.

A further section of a pipeline's page (drift, objectives, cost, …) is a `PanelSource`, handed to `ConsoleSources`: no
template has to change. What nobody brings is not shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from headrace.analysis import ReadOut
from headrace.releases import Experiment, Release
from headrace.releases.of_records import RecordReleases
from services.monitoring.console.history import Over
from services.monitoring.events.query import Found
from services.monitoring.events.values import Query
from services.monitoring.explanations.records import ShownExplanation
from services.monitoring.outcomes.records import Outcome
from services.monitoring.rollouts.analyser import Status
from services.monitoring.ticks import Ticks

if TYPE_CHECKING:
    from services.monitoring.alerts.watch import Watch

Level = Literal["good", "watch", "bad", "none"]


@dataclass(frozen=True, slots=True)
class PanelRow:
    """`value`: as text, for people. `share`: length of a bar (0 to 1); None: no bar. `level`: shown as a word and a colour."""

    label: str
    value: str
    note: str = ""
    share: float | None = None
    level: Level = "none"


@dataclass(frozen=True, slots=True)
class Panel:
    """A section of a pipeline's page. `sentence`: what it says as a whole; `data`: the same for programs."""

    title: str
    sentence: str
    rows: Sequence[PanelRow] = ()
    level: Level = "none"
    data: Mapping[str, Any] = field(default_factory=dict)


# Pipeline → the section; None: there is nothing to show. May raise anything: the page then says that it can't be read.
PanelSource: TypeAlias = Callable[[str], Awaitable[Panel | None]]


Explain: TypeAlias = Callable[[bytes], Awaitable[ShownExplanation | None]]


@dataclass(frozen=True, slots=True)
class ConsoleSources:
    """What other parts of monitoring bring. `events`, `over` (what somebody computes of them), None: they are not kept; raise
    StorageError. `outcomes`: of (tenant, request id); raises StorageError. `explanation`: of an event's id, None: it has none;
    may raise anything: the page then says that it can't be read. `alerts`: what fires where no Alertmanager is set."""

    outcomes: Callable[[str, str], Awaitable[Sequence[Outcome]]]
    events: Callable[[Query], Awaitable[Found]] | None = None
    over: Over | None = None
    explanation: Explain | None = None
    panels: Sequence[PanelSource] = ()
    alerts: Watch | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What the pages are made of. `store` and `slow_s` block; the others do not.

    `status`: where the analyser sees a pipeline's rollout; `slow_s`: what counts as slow under a release, in seconds.
    """

    store: RecordReleases
    ticks: Ticks
    status: Callable[[str], Status | None]
    slow_s: Callable[[Release], float | None]
    read_out: Callable[[str], Awaitable[tuple[Experiment, ReadOut] | None]]
    others: ConsoleSources
