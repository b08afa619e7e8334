"""Evaluates objectives and conditions whenever all processes were read, and knows what fires, as Alertmanager does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Gauge

from headrace.slo import WINDOWS_S, Count, reached
from headrace.slo.budgets import BURN as BURN_QUERY
from headrace.slo.budgets import LEFT, TARGET
from headrace.slo.rules import BURN, annotated
from headrace.slo.servers import Alert, Silence
from services.monitoring.alerts.conditions import LABEL, Signals, samples
from services.monitoring.alerts.counts import Name, ObjectiveHistory, Reading
from services.monitoring.cost.processes import Page, Target
from services.monitoring.ports import Log

Key: TypeAlias = tuple[tuple[str, str], ...]
"""The labels of an alert, sorted."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OBJECTIVE = re.compile(r"^headrace_objective_(requests|bad|target)(?:_total)?\{(.*)\} (\S+)", re.MULTILINE)


class AlertMetrics:
    """For dashboards: Prometheus itself keeps too little to know it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.left = Gauge(
            "headrace_objective_budget_left",
            "Share of the error budget of its period that is left; below 0 the promise is broken.",
            ["pipeline", "objective"],
            registry=registry,
        )


@dataclass(slots=True)
class _Active:
    """`since`: when its condition began to hold; it fires `for_s` seconds later."""

    annotations: Mapping[str, str]
    for_s: float
    since: float


class Watch:
    """`rules`: the alerts of `headrace.slo`. `wall`: seconds since 1970. `tell`: gets what fires, each time.
    It evaluates in one thread at a time; others may ask what it saw."""

    def __init__(
        self,
        rules: Sequence[Mapping[str, Any]],
        history: ObjectiveHistory,
        metrics: AlertMetrics,
        tell: Callable[[Sequence[Alert]], None],
        wall: Callable[[], float],
        log: Log,
    ) -> None:
        self._rules = {(rule["alert"], rule["labels"].get("level", "")): rule for rule in rules}
        self._history = history
        self._metrics = metrics
        self._tell = tell
        self._wall = wall
        self._log = log
        self._signals = Signals()
        self._active: dict[Key, _Active] = {}
        self._silences: dict[str, tuple[Mapping[str, str], Silence]] = {}
        self._answers: dict[str, Mapping[Name, float]] = {}
        self._failed = ""

    def evaluate(self, known: Sequence[Target], pages: Sequence[Page]) -> None:
        """Evaluates once. `known`: all processes; `pages`: of those that answered. What fails is logged once."""
        try:
            self._evaluate(known, pages)
            self._failed = ""
        except Exception as error:  # noqa: BLE001 - who reads the processes must go on
            if repr(error) != self._failed:
                self._log.error("alerts can't be evaluated", error=repr(error))
            self._failed = repr(error)

    def alerts(self) -> list[Alert]:
        """What fires, as Alertmanager says it: silenced ones, and levels that a faster one explains, are suppressed."""
        now = self._wall()
        firing = {key: one for key, one in self._active.copy().items() if now - one.since >= one.for_s}
        return [self._alert(dict(key), one, firing) for key, one in firing.items()]

    def silences(self) -> dict[str, Silence]:
        """Those in force, by id."""
        now = _text(self._wall())
        return {name: silence for name, (_, silence) in self._silences.copy().items() if silence.end > now}

    def silence(
        self, matchers: Mapping[str, str], start: datetime, end: datetime, author: str, comment: str
    ) -> str:
        """Silences alerts that have these labels until `end`, or until this process ends. Returns the silence's id."""
        name = _digest([dict(matchers), start.isoformat(), author])
        self._silences[name] = dict(matchers), Silence(name, author, comment, end.isoformat())
        return name

    def query(self, asked: str) -> bytes:
        """The answer of Prometheus's API to one of the three queries of `headrace slo status`; others have no values."""
        found = self._answers.get(parse_qs(asked).get("query", [""])[0], {})
        names = ("pipeline", "objective")
        result = [
            {"metric": dict(zip(names, n, strict=True)), "value": [0, f"{v}"]} for n, v in found.items()
        ]
        return json.dumps({"data": {"result": result}}).encode()

    def pending_and_firing(self) -> bytes:
        """The answer of Prometheus's API to what fires, or will if it lasts."""
        now = self._wall()
        alerts = [
            {
                "labels": dict(key),
                "annotations": one.annotations,
                "state": "firing" if now - one.since >= one.for_s else "pending",
                "activeAt": _text(one.since),
            }
            for key, one in self._active.copy().items()
        ]
        return json.dumps({"data": {"alerts": alerts}}).encode()

    def _evaluate(self, known: Sequence[Target], pages: Sequence[Page]) -> None:
        now = self._wall()
        answered = {page.target.instance for page in pages}
        values = [sample for page in pages for sample in samples(page.target.instance, page.text)]
        up = [(("up", (("instance", t.instance),)), float(t.instance in answered)) for t in known]
        self._signals.add(now, [*values, *up])
        readings, targets, periods = _objectives(pages)
        self._history.add(now, readings)
        counts = self._history.windows(now, periods)
        self._answers = {
            TARGET: targets,
            BURN_QUERY: _burns(targets, counts, dict.fromkeys(targets, WINDOWS_S[0])),
            LEFT: {name: 1 - spent for name, spent in _burns(targets, counts, periods).items()},
        }
        self._metrics.left.clear()
        for name, left in self._answers[LEFT].items():
            self._metrics.left.labels(*name).set(left)
        active: dict[Key, _Active] = {}
        for rule, own, value in self._true(targets, counts):
            labels = {"alertname": rule["alert"], **own, **rule["labels"]}
            wait, key = rule.get("for", "0s"), tuple(sorted(labels.items()))
            since = self._active[key].since if key in self._active else now
            active[key] = _Active(annotated(rule, labels, value), int(wait[:-1]) * _UNITS[wait[-1]], since)
        self._active = active
        self._tell(self.alerts())

    def _true(
        self, targets: Mapping[Name, float], counts: Mapping[Name, Mapping[float, Count]]
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, str], float]]:
        """Rules whose expression is true now, with their labels and the value."""
        for name, target in targets.items():
            for level in reached(1 - target, counts[name]):
                burn = counts[name][level.long_s].burn(1 - target) or 0.0
                yield self._rules[BURN, level.name], {"pipeline": name[0], "objective": name[1]}, burn
        for alert, labels, value in self._signals.holding():
            yield self._rules[f"Headrace{alert}", ""], dict(labels), value

    def _alert(self, labels: Mapping[str, str], one: _Active, firing: Mapping[Key, _Active]) -> Alert:
        silences = tuple(n for n in self.silences() if self._silences[n][0].items() <= labels.items())
        faster = tuple(_digest(dict(other)) for other in firing if _is_faster(dict(other), labels))
        state = "suppressed" if silences or faster else "active"
        return Alert(_digest(labels), labels, one.annotations, state, _text(one.since), silences, faster)


def _burns(
    targets: Mapping[Name, float],
    counts: Mapping[Name, Mapping[float, Count]],
    windows: Mapping[Name, float],
) -> dict[Name, float]:
    """How budgets burn in a window of each; those without requests are not in it."""
    burns = {name: counts[name][windows[name]].burn(1 - target) for name, target in targets.items()}
    return {name: burn for name, burn in burns.items() if burn is not None}


def _is_faster(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether it is a faster level of the same objective."""
    same = all(one.get(n) == other.get(n) for n in ("alertname", "pipeline", "objective"))
    return same and one.get("speed", "") < other.get("speed", "")


def _objectives(pages: Sequence[Page]) -> tuple[list[Reading], dict[Name, float], dict[Name, float]]:
    """What doors say of objectives: their counters, and by name the target and the period in seconds."""
    readings, targets, periods = [], {}, {}
    for page in pages:
        counted: dict[Name, dict[str, float]] = {}
        for what, text, value in _OBJECTIVE.findall(page.text):
            labels = dict(LABEL.findall(text))
            name = labels["pipeline"], labels["objective"]
            counted.setdefault(name, {})[what] = float(value)
            if what == "target":
                targets[name], periods[name] = float(value), float(labels["period_s"])
        process = f"{page.target.instance}@{page.started:.2f}"
        readings += [Reading(process, *n, c["requests"], c["bad"]) for n, c in counted.items()]
    return readings, targets, periods


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
