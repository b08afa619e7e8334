"""What each page says, gathered from the sources. Returns plain values, raises Fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from headrace.hop.errors import Reason
from headrace.releases import LIVE
from headrace.releases.changes.basis import ACTIVE
from services.monitoring.console import faults, history
from services.monitoring.console.actions import Actions
from services.monitoring.console.facts import live, releases
from services.monitoring.console.facts.assessment import assess
from services.monitoring.console.facts.models import ModelFacts
from services.monitoring.console.facts.trails import trail
from services.monitoring.console.known import REPOSITORY, KnownReleases, PipelineFacts
from services.monitoring.console.ports import PanelSource, Sources
from services.monitoring.console.reach import Notices, Reach, notice

_CHANGES = 12
_QUIET_S = 86_400.0
_ENTRIES = 100
# Reading many days takes a while.
_PATIENCE_S = 30.0
_BROKEN = "Release {} can't be used, so what proved itself before it serves"
_NO_SECTION = "A section of this page can't be read now; the log says why."
_NO_OUTCOMES = "The outcomes can't be read now, so the experiment is not shown."


class Pages:
    """If the store can't be reached, the pages show what was known last, and say so. `models` None: no repository is set;
    `journal`: of the models' audit."""

    def __init__(
        self,
        sources: Sources,
        panels: Sequence[PanelSource],
        known: KnownReleases,
        actions: Actions,
        counts: live.Live,
        models: ModelFacts | None,
        journal: Path | None,
        reach: Reach,
    ) -> None:
        self._sources = sources
        self._panels = panels
        self._releases = known
        self._actions = actions
        self._live = counts
        self._models = models
        self._journal = journal
        self._reach = reach

    async def overview(self) -> dict[str, Any]:
        """What changed, is it safe, roll back: every pipeline with its last change, the newest first."""
        known, notices = await self._releases.current()
        cards = [self._card(facts) for facts in known.pipelines]
        # What needs a look first, then the newest.
        cards.sort(key=lambda card: (card["attention"], str(card["release"]["at"])), reverse=True)
        rows = [row for facts in known.pipelines for row in releases.history_rows(facts.history)]
        rows.sort(key=lambda row: str(row["at"]), reverse=True)
        return {
            "at": self._reach.at(),
            "notices": notices,
            "routers": self._sources.ticks.routers(),
            "attention": [card["pipeline"] for card in cards if card["attention"]],
            "pipelines": cards,
            "changes": rows[:_CHANGES],
        }

    async def pipeline(self, name: str, days: int | None = None) -> dict[str, Any]:
        """Everything about one pipeline. `days`: of its chart; None: the last 15 minutes."""
        values = await self.pipeline_now(name)
        facts, notices = self._releases.find(name), values["notices"]
        rows = releases.history_rows(facts.history)
        back = releases.ways_back(facts.basis(), facts.history)
        for row in rows:
            row["can_go_back"] = not row["rolled_back_by"] and back.get(row["number"], False)
        panels = [
            await self._reach.attempt("a section", source(name), None, notices, _NO_SECTION, (Exception,))
            for source in self._panels
        ]
        read_out = self._sources.read_out(name)
        experiment = await self._reach.attempt(
            "an experiment", read_out, None, notices, _NO_OUTCOMES, (Exception,)
        )
        return {
            **values,
            "days": days,
            "history": rows,
            "panels": [panel for panel in panels if panel is not None],
            "experiment": releases.experiment(experiment),
        }

    async def pipeline_now(self, name: str) -> dict[str, Any]:
        """The part of a pipeline's page that changes by itself."""
        known, notices = await self._releases.current()
        facts = self._releases.find(name)
        return {
            **self._card(facts),
            "at": self._reach.at(),
            "notices": notices,
            "routers": self._sources.ticks.routers(),
            "live": self._table(facts),
            "rollout": releases.rollout(facts.history[0], self._sources.status(name), known.freeze),
            "actions": self._actions.offered(facts, known.freeze),
        }

    async def series(self, name: str, days: int | None) -> dict[str, Any]:
        """The last 15 minutes or days, for the chart. Raises Fault."""
        if not days:
            return self._live.series(name)
        if days > history.MAX_DAYS or (over := self._sources.others.over) is None:
            raise faults.malformed(
                "days", f"are at most {history.MAX_DAYS}, of events that are kept (events.files)"
            )
        asked = asyncio.wait_for(history.series(over, name, days, self._reach.wall()), _PATIENCE_S)
        return await self._reach.need("the store of events", asked)

    async def models(self) -> dict[str, Any]:
        """All models and their versions."""
        notices: Notices = []
        found: list[dict[str, Any]] = []
        if self._models is None:
            notices.append(notice("watch", "No model repository is set here (console.models)."))
        else:
            found = await self._reach.attempt(REPOSITORY, self._reach.run(self._models.all), [], notices)
        return {"at": self._reach.at(), "models": found, "notices": notices}

    async def model(self, model: str, version: str) -> dict[str, Any]:
        """One version of a model."""
        found = None
        if self._models is not None:
            one = partial(self._models.one, model, version)
            found = await self._reach.need(REPOSITORY, self._reach.run(one))
        if found is None:
            model, version = model[:80], version[:80]
            said = f"there is no version {version} of model {model}"
            raise faults.absent(said, Reason.REASON_MODEL_UNKNOWN, model=model, version=version)
        return {"at": self._reach.at(), "notices": [], **found}

    async def audit(self) -> dict[str, Any]:
        """The newest entries of the journals."""
        notices: Notices = []
        trails: list[dict[str, Any]] = []
        if self._journal is not None:
            read = partial(trail, "models", "Models: added, loaded, refused", self._journal, _ENTRIES)
            found = await self._reach.attempt("the audit of models", self._reach.run(read), None, notices)
            trails += [found] if found is not None else []
        return {"at": self._reach.at(), "trails": trails, "notices": notices}

    def _card(self, facts: PipelineFacts) -> dict[str, Any]:
        release, older = facts.history[0], facts.history[1] if len(facts.history) > 1 else None
        arms, status = self._sources.ticks.snapshot(facts.name).arms, self._sources.status(facts.name)
        assessment, broken = assess(facts.history, arms, status, facts.slow_s), facts.broken
        attention = assessment.level == "bad" or broken is not None
        changing = release.rollout is not None and release.rollout.state in ACTIVE
        return {
            "pipeline": facts.name,
            "release": releases.release_row(release, older),
            "newest": facts.basis().newest,
            "assessment": assessment.values(),
            "way_back": releases.way_back(facts.basis(), facts.history),
            "rates": self._live.rates(facts.name),
            "frozen": release.frozen,
            "problem": broken and f"{_BROKEN.format(broken.number)}: {broken.problem}",
            "attention": attention,
            # Nothing has changed for a day, and nothing is changing.
            "quiet": not (attention or changing)
            and (self._reach.now() - release.at).total_seconds() > _QUIET_S,
        }

    def _table(self, facts: PipelineFacts) -> dict[str, Any]:
        """Also arms that a release has just taken away."""
        release, slow_s = facts.history[0], facts.slow_s
        span, figures = self._live.minute(facts.name)
        names = sorted({*release.arms, *figures}, key=lambda arm: (arm != LIVE, arm not in release.arms, arm))
        rows = [
            {
                "weight": release.assign.weights.get(arm, 0.0),
                "models": dict(release.arms[arm].models) if arm in release.arms else {},
                **live.arm_row(arm, figures.get(arm, live.NOTHING), span, slow_s),
            }
            for arm in names
        ]
        slow_ms = live.milliseconds(slow_s) if slow_s is not None else None
        return {"window_s": round(span), "slow_ms": slow_ms, "arms": rows}
