"""Alerts of plain thresholds, by the metrics of all processes: what holds of the values now, or of their growth.

The alerts of libs/headrace/slo/rules.yml that are not in this table, but for burn rates, need Prometheus.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Sorted by name."""
Series: TypeAlias = tuple[str, Labels]
"""A metric and its labels."""

_MINUTE, _HOUR = 60.0, 3600.0
_KEPT_S = 80 * _MINUTE


@dataclass(frozen=True, slots=True)
class Condition:
    """`metric`: by name, a regular expression. `by`: labels that alerts have; of several series the largest counts, of growth the
    sum. `within_s`: the growth over so long, else the value now. `where`: a label, and what its value must be."""

    alert: str
    metric: str
    by: tuple[str, ...] = ("instance",)
    within_s: float = 0.0
    least: float = 1.0
    most: float = math.inf
    where: tuple[str, str] = ("", "")


_PIPELINE, _DRIFT = ("pipeline",), ("pipeline", "arm", "column", "check")
_DOCUMENTS = r"headrace_(router|ingress)_quarantined_documents"
_LIVE, _SHADOW = ("arm", r"(?!.+/shadow$).*"), ("arm", r".+/shadow")
TABLE = (
    Condition("TargetDown", "up", least=0, most=0),
    Condition("DiskWritesFailing", "headrace_(monitoring_storage|monitoring_events|ingress_security_log)_failing"),
    Condition("DiskWritesFailing", "headrace_executor_unsaved"),
    Condition("ModelQuarantined", "headrace_executor_quarantined", ("model", "version")),
    Condition("PipelineDown", _DOCUMENTS, _PIPELINE, where=("serves", "nothing")),
    Condition("DocumentQuarantined", _DOCUMENTS, _PIPELINE, where=("serves", "last_good")),
    Condition("DriftSevere", "headrace_drift_level", _DRIFT, least=2, where=_LIVE),
    Condition("Drift", "headrace_drift_level", _DRIFT, most=1, where=_LIVE),
    Condition("Drift", "headrace_drift_level", _DRIFT, where=_SHADOW),
    Condition("ConceptDrift", "headrace_drift_concept", ("pipeline", "arm"), where=_LIVE),
    Condition("DriftBlind", "headrace_drift_unusable_baselines_total", within_s=30 * _MINUTE),
    Condition("DriftBlind", "headrace_monitoring_failed_observations_total", within_s=30 * _MINUTE),
    Condition("EventsDropped", "headrace_(router_dropped|monitoring_(dropped|refused))_events_total", within_s=10 * _MINUTE),
    Condition("JournalUnwritable", "headrace_router_unjournaled_rows_total", within_s=5 * _MINUTE),
    Condition("JournalUnwritable", "headrace_router_journal", least=0, most=0),
    Condition("EventsUnreadable", "headrace_monitoring_unreadable_event_files_total", within_s=_HOUR),
    Condition("EventFilesFailing", "headrace_monitoring_event_files_failing", ("instance", "work", "pipeline")),
    Condition("AuditFailing", "headrace_audit_failing"),
    Condition("AuditGap", "headrace_audit_gaps", within_s=15 * _MINUTE),
    Condition("AuditNotExported", "headrace_audit_export_failing"),
    Condition("CostUntold", "headrace_cost_(failing|prices_broken)"),
)  # fmt: skip
# This one compares with what was missing before: what a router sends again is missing, too, for a moment.
MISSING, _MISSING = "EventsMissing", "headrace_monitoring_missing_events"
_SETTLED_S, _FROM_S = 10 * _MINUTE, 20 * _MINUTE
METRICS = (*(c.metric for c in TABLE if c.metric != "up"), _MISSING)
_LINE = re.compile(rf"^({'|'.join(f'(?:{m})' for m in METRICS)})(?:\{{(.*)\}})? (\S+)", re.MULTILINE)
_GROWS = re.compile("|".join([_MISSING, *(c.metric for c in TABLE if c.within_s)]))
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(instance: str, page: str) -> Iterator[tuple[Series, float]]:
    """What of a process's metrics conditions are about."""
    for found in _LINE.finditer(page):
        name, labels, value = found[1], found[found.re.groups - 1], found[found.re.groups]
        named = {**dict(LABEL.findall(labels or "")), "instance": instance}
        yield (name, tuple(sorted(named.items()))), float(value)


class Signals:
    """The values now, and those of an hour where growth counts. What a process that is gone said is no longer there."""

    def __init__(self) -> None:
        self._values: Mapping[str, dict[Labels, deque[tuple[float, float]]]] = {}
        self._now = 0.0

    def add(self, now: float, values: Iterable[tuple[Series, float]]) -> None:
        """The values of all processes now. A counter that is new counts as a whole, but at the first time of all:
        the 0 before it is of 1970 then."""
        before, self._values = self._values, defaultdict(dict)
        for (metric, labels), value in values:
            known = before.get(metric, {}).get(labels) or deque([(self._now, 0.0)])
            known.append((now, value))
            since = now - (_KEPT_S if _GROWS.fullmatch(metric) else 0)
            while known[0][0] < since:
                known.popleft()
            self._values[metric][labels] = known
        self._now = now

    def holding(self) -> Iterator[tuple[str, Labels, float]]:
        """(alert without "Headrace", its labels, the value) of all conditions that hold."""
        for condition in TABLE:
            for labels, value in self._of(condition).items():
                if condition.least <= value <= condition.most:
                    yield condition.alert, labels, value
        values = [v for found in self._values.get(_MISSING, {}).values() for v in found]
        recent = [v for t, v in values if t >= self._now - _SETTLED_S]
        earlier = [v for t, v in values if t <= self._now - _FROM_S]
        if earlier and min(recent) > max(earlier):
            yield MISSING, (), min(recent)

    def _of(self, condition: Condition) -> Mapping[Labels, float]:
        (label, wanted), since = condition.where, self._now - condition.within_s
        groups: defaultdict[Labels, list[float]] = defaultdict(list)
        for metric in filter(re.compile(condition.metric).fullmatch, self._values):
            for all_labels, values in self._values[metric].items():
                labels = dict(all_labels)
                if re.fullmatch(wanted, labels.get(label, "")):
                    own = tuple((name, labels.get(name, "")) for name in condition.by)
                    groups[own].append(_growth(values, since) if condition.within_s else values[-1][1])
        return {own: sum(found) if condition.within_s else max(found) for own, found in groups.items()}


def _growth(values: Iterable[tuple[float, float]], since: float) -> float:
    """By how much a counter grew; one that is smaller than before began anew."""
    grown, last = 0.0, None
    for time, value in values:
        if time >= since and last is not None:
            grown += value - last if value >= last else value
        last = value
    return grown
