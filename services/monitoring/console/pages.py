"""What each page says, gathered from the sources. Returns plain values, raises Fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from headrace.releases import Broken
from headrace.releases.changes import rolled_back_to
from services.monitoring.console import faults
from services.monitoring.console.actions import Actions
from services.monitoring.console.facts import live, releases
from services.monitoring.console.facts.assessment import assess
from services.monitoring.console.known import KnownReleases, PipelineFacts, Reach, notice
from services.monitoring.console.ports import Panel, PanelSource, Sources
from services.monitoring.console.threads import Threads
from services.monitoring.ports import Log

_REPOSITORY = "the model repository"
_CHANGES = 12
_ENTRIES = 100


class Pages:
    """`now`: the time as ISO 8601 text. If the store is away, the pages show what was known last, and say so."""

    def __init__(
        self,
        sources: Sources,
        known: KnownReleases,
        actions: Actions,
        counts: live.Live,
        threads: Threads,
        reach: Reach,
        log: Log,
        now: Callable[[], str],
    ) -> None:
        self._sources = sources
        self._releases = known
        self._actions = actions
        self._live = counts
        self._threads = threads
        self._reach = reach
        self._log = log
        self._now = now

    async def overview(self) -> dict[str, Any]:
        """What changed, is it safe, roll back: every pipeline with its last change, the newest first."""
        known, notices = await self._releases.look()
        cards = [self._card(facts) for facts in known.pipelines]
        # What needs a look first, then the newest.
        cards.sort(key=lambda card: (_needs_a_look(card), str(card["release"]["at"])), reverse=True)
        rows = [row for facts in known.pipelines for row in releases.history_rows(facts.history)]
        rows.sort(key=lambda row: str(row["at"]), reverse=True)
        attention = [card["pipeline"] for card in cards if _needs_a_look(card)]
        return {
            "at": self._now(),
            "notices": notices,
            "routers": self._sources.routers(),
            "attention": attention,
            "pipelines": cards,
            "changes": rows[:_CHANGES],
        }

    async def pipeline(self, name: str) -> dict[str, Any]:
        """Everything about one pipeline."""
        values = await self.pipeline_now(name)
        facts = self._releases.find(name)
        basis = facts.basis()
        back = releases.ways_back(basis, facts.history)
        rows = releases.history_rows(facts.history)
        for row in rows:
            row["can_go_back"] = back.get(row["number"], False)
        panels, failed = await self._panels(name)
        experiment, unread = await self._experiment(name)
        notices = [*values["notices"], *failed, *unread]
        return {**values, "notices": notices, "history": rows, "panels": panels, "experiment": experiment}

    async def pipeline_now(self, name: str) -> dict[str, Any]:
        """The part of a pipeline's page that changes by itself."""
        known, notices = await self._releases.look()
        facts = self._releases.find(name)
        release = facts.history[0]
        status = self._sources.status(name)
        return {
            **self._card(facts),
            "at": self._now(),
            "notices": notices,
            "routers": self._sources.routers(),
            "live": self._table(facts),
            "rollout": releases.rollout(release, status, known.freeze),
            "actions": self._actions.offered(facts, known.freeze),
        }

    async def series(self, name: str) -> dict[str, Any]:
        """The last 15 minutes, for the chart."""
        return self._live.series(name)

    async def rollback(self, name: str, number: int | None) -> dict[str, Any]:
        """What going back to release `number` would change; None: to what was live before."""
        facts = await self._releases.fresh(name)
        way = releases.way_back(facts.basis(), facts.history, number)
        if not way["possible"]:
            raise faults.malformed("number", str(way["why"]))
        card = self._card(facts)
        missing = await self._missing(number, facts)
        return {**card, "way": way, "asked": number, "at": self._now(), "notices": missing}

    async def roll_back(
        self, name: str, number: int | None, expected: int, author: str, reason: str
    ) -> dict[str, Any]:
        """Goes back, if `expected` is still the newest release. Raises Fault: nothing was changed."""
        made, changes = await self._releases.change(
            name, lambda basis, history, _: rolled_back_to(basis, history, number), expected, author, reason
        )
        self._log.info("rolled back from the console", pipeline=name, number=made.number, author=author)
        return releases.made_row(made, changes)

    async def models(self) -> dict[str, Any]:
        """All models and their versions."""
        found, notices = [], []
        try:
            if self._sources.models is None:
                notices.append(notice("watch", "No model repository is set here (console.models)."))
            else:
                found = await self._threads.run(self._sources.models.all)
        except OSError as error:
            notices.append(self._reach.away(_REPOSITORY, error))
        return {"at": self._now(), "models": found, "notices": notices}

    async def model(self, model: str, version: str) -> dict[str, Any]:
        """One version of a model."""
        if self._sources.models is None:
            raise faults.no_model(model, version)
        try:
            found = await self._threads.run(partial(self._sources.models.one, model, version))
        except OSError as error:
            self._reach.away(_REPOSITORY, error)
            raise faults.unreachable(_REPOSITORY) from None
        if found is None:
            raise faults.no_model(model, version)
        return {"at": self._now(), "notices": [], **found}

    async def audit(self) -> dict[str, Any]:
        """The newest entries of the journals."""
        trails, notices = [], []
        for trail in self._sources.trails:
            try:
                view = await self._threads.run(partial(trail.read, _ENTRIES))
            except OSError as error:
                notices.append(self._reach.away(f"the audit of {trail.name}", error))
                continue
            trails.append({"name": trail.name, **asdict(view), "entries": list(view.entries)})
        return {"at": self._now(), "trails": trails, "notices": notices}

    def _card(self, facts: PipelineFacts) -> dict[str, Any]:
        release, older = facts.history[0], facts.history[1] if len(facts.history) > 1 else None
        arms, status = self._sources.arms(facts.name), self._sources.status(facts.name)
        outcomes = self._sources.succession(facts.name)
        return {
            "pipeline": facts.name,
            "release": releases.release_row(release, older),
            "newest": facts.basis().newest,
            "arms": releases.arm_rows(release),
            "assessment": assess(facts.history, arms, status, facts.slow_s, outcomes).values(),
            "way_back": releases.way_back(facts.basis(), facts.history),
            "rates": self._live.rates(facts.name),
            "frozen": release.frozen,
            "problem": _broken(facts.broken),
        }

    def _table(self, facts: PipelineFacts) -> dict[str, Any]:
        span, figures = self._live.minute(facts.name)
        told = {row["arm"]: row for row in releases.arm_rows(facts.history[0])}
        # Also arms that a release has just taken away.
        names = [*told, *(arm for arm in sorted(figures) if arm not in told)]
        gone = {"weight": 0.0, "models": []}
        rows = [
            {**told.get(arm, gone), **live.arm_row(arm, figures.get(arm, live.NOTHING), span, facts.slow_s)}
            for arm in names
        ]
        slow = live.milliseconds(facts.slow_s) if facts.slow_s is not None else None
        return {"window_s": round(span), "slow_ms": slow, "arms": rows}

    async def _missing(self, number: int | None, facts: PipelineFacts) -> list[dict[str, str]]:
        """Warns of versions that the way back names and that are gone."""
        models = self._sources.models
        if models is None:
            return []
        made = rolled_back_to(facts.basis(), facts.history, number)
        try:
            problems = await self._threads.run(partial(models.missing, made))
        except OSError as error:
            self._reach.away(_REPOSITORY, error)
            return [
                notice(
                    "watch",
                    "The models can't be listed now, so it is not known whether all versions are still there.",
                )
            ]
        return [notice("bad", problem) for problem in problems]

    async def _panels(self, name: str) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        panels, notices = [], []
        for source in self._sources.panels:
            try:
                panel = await source(name)
            except Exception as error:  # noqa: BLE001 - a section that fails must not take the page with it
                self._log.warning("a section of the console failed", source=_named(source), error=repr(error))
                notices.append(notice("watch", "A section of this page can't be read now; the log says why."))
                continue
            if panel is not None:
                panels.append(_panel(panel))
        return panels, notices

    async def _experiment(self, name: str) -> tuple[dict[str, Any] | None, list[dict[str, str]]]:
        try:
            return releases.experiment(await self._sources.read_out(name)), []
        except Exception as error:  # noqa: BLE001 - as above: outcomes that can't be read stop nothing else
            self._log.warning("an experiment can't be read out", pipeline=name, error=repr(error))
            return None, [notice("watch", "The outcomes can't be read now, so the experiment is not shown.")]


def _needs_a_look(card: Mapping[str, Any]) -> bool:
    return card["assessment"]["level"] == "bad" or bool(card["problem"])


def _broken(broken: Broken | None) -> str | None:
    return (
        f"Release {broken.number} can't be used, so what proved itself before it serves: {broken.problem}"
        if broken
        else None
    )


def _panel(panel: Panel) -> dict[str, Any]:
    return {**asdict(panel), "rows": [asdict(row) for row in panel.rows]}


def _named(source: PanelSource) -> str:
    return str(getattr(source, "__qualname__", type(source).__name__))
