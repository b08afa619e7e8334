"""Evaluates objectives and conditions whenever all processes were read, and knows what fires, as Alertmanager does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from headrace.slo import WINDOWS_S, Count, reached
from headrace.slo.budgets import BURN as BURN_QUERY
from headrace.slo.budgets import LEFT, TARGET
from headrace.slo.rules import BURN, annotated
from headrace.slo.servers import Alert, Silence
from services.monitoring.alerts.conditions import Series, Signals, samples
from services.monitoring.alerts.counts import Name, ObjectiveHistory, Reading
from services.monitoring.alerts.metrics import AlertMetrics
from services.monitoring.cost.processes import Page, Target
from services.monitoring.ports import Log

Key: TypeAlias = tuple[tuple[str, str], ...]
"""The labels of an alert, sorted."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OBJECTIVE = re.compile(
    r'^headrace_objective_(requests|bad|target)(?:_total)?\{pipeline="(.*?)",objective="(.*?)"(?:,period_s="(\d+)")?\} (\S+)',
    re.MULTILINE,
)


@dataclass(slots=True)
class _Active:
    """`since`: when its condition began to hold; it fires `for_s` seconds later."""

    annotations: Mapping[str, str]
    since: float
    for_s: float


@dataclass(slots=True)
class _Objectives:
    """What doors say of objectives: their counters, and by name the target and the period in seconds."""

    readings: list[Reading] = field(default_factory=list)
    targets: dict[Name, tuple[float, float]] = field(default_factory=dict)


class Watch:
    """`rules`: the alerts of deploy/alerts/rules.yml. `wall`: seconds since 1970. `tell`: gets what fires, each time.
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
        now, found = self._wall(), self._active.copy()
        firing = {key: one for key, one in found.items() if now - one.since >= one.for_s}
        return [self._alert(key, one, firing) for key, one in firing.items()]

    def silences(self) -> dict[str, Silence]:
        """Those in force, by id."""
        now = datetime.fromtimestamp(self._wall(), UTC).isoformat()
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
        expression = parse_qs(asked).get("query", [""])[0]
        result = [
            {"metric": {"pipeline": pipeline, "objective": objective}, "value": [0, str(value)]}
            for (pipeline, objective), value in self._answers.get(expression, {}).items()
        ]
        return json.dumps({"data": {"resultType": "vector", "result": result}}).encode()

    def pending_and_firing(self) -> bytes:
        """The answer of Prometheus's API to what fires, or will if it lasts."""
        now = self._wall()
        alerts = [
            {
                "labels": dict(key),
                "annotations": dict(one.annotations),
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
        values += [(Series("up", (("instance", t.instance),)), float(t.instance in answered)) for t in known]
        self._signals.add(now, values)
        said = _objectives(pages)
        self._history.add(now, said.readings)
        counts = self._history.windows(now, {name: period for name, (_, period) in said.targets.items()})
        self._stand(said.targets, counts)
        held = self._active
        true = (*self._burning(said.targets, counts), *self._holding()) if self._rules else ()
        self._active = {
            key: _Active(annotations, held[key].since if key in held else now, for_s)
            for key, annotations, for_s in true
        }
        self._tell(self.alerts())

    def _stand(
        self, targets: Mapping[Name, tuple[float, float]], counts: Mapping[Name, Mapping[float, Count]]
    ) -> None:
        shortest = WINDOWS_S[0]
        burns, left = {}, {}
        for name, (target, period_s) in targets.items():
            if (burn := counts[name][shortest].burn(1 - target)) is not None:
                burns[name] = burn
            if (spent := counts[name][period_s].burn(1 - target)) is not None:
                left[name] = 1 - spent
        self._answers = {
            TARGET: {name: target for name, (target, _) in targets.items()},
            BURN_QUERY: burns,
            LEFT: left,
        }
        self._metrics.left = left

    def _burning(
        self, targets: Mapping[Name, tuple[float, float]], counts: Mapping[Name, Mapping[float, Count]]
    ) -> Iterator[tuple[Key, Mapping[str, str], float]]:
        for name, (target, _) in targets.items():
            for level in reached(1 - target, counts[name]):
                burn = counts[name][level.long_s].burn(1 - target) or 0.0
                labels = {"pipeline": name[0], "objective": name[1]}
                yield self._of(self._rules[BURN, level.name], labels, burn)

    def _holding(self) -> Iterator[tuple[Key, Mapping[str, str], float]]:
        for alert, labels, value in self._signals.holding():
            yield self._of(self._rules[f"Headrace{alert}", ""], dict(labels), value)

    def _of(
        self, rule: Mapping[str, Any], own: Mapping[str, str], value: float
    ) -> tuple[Key, Mapping[str, str], float]:
        labels = {"alertname": rule["alert"], **own, **rule["labels"]}
        wait = rule.get("for", "0s")
        return (
            tuple(sorted(labels.items())),
            annotated(rule, labels, value),
            int(wait[:-1]) * _UNITS[wait[-1]],
        )

    def _alert(self, key: Key, one: _Active, firing: Mapping[Key, _Active]) -> Alert:
        labels = dict(key)
        silences = tuple(n for n in self.silences() if self._silences[n][0].items() <= labels.items())
        faster = tuple(_digest(other) for other in firing if _is_faster(dict(other), labels))
        state = "suppressed" if silences or faster else "active"
        return Alert(_digest(key), labels, one.annotations, state, _text(one.since), silences, faster)


def _is_faster(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether it is a faster level of the same objective."""
    same = all(one.get(n) == other.get(n) for n in ("alertname", "pipeline", "objective"))
    return same and one.get("speed", "") < other.get("speed", "")


def _objectives(pages: Sequence[Page]) -> _Objectives:
    found = _Objectives()
    for page in pages:
        counted: dict[Name, dict[str, float]] = {}
        for what, pipeline, objective, period_s, value in _OBJECTIVE.findall(page.text):
            if what == "target":
                found.targets[pipeline, objective] = float(value), float(period_s)
            else:
                counted.setdefault((pipeline, objective), {})[what] = float(value)
        process = f"{page.target.instance}@{page.started:.2f}"
        found.readings += [Reading(process, n, c["requests"], c["bad"]) for n, c in counted.items()]
    return found


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
