"""Series of promtool's cases, as processes would say them, evaluated by monitoring."""

import re
from collections import defaultdict
from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry

from headrace.slo import alerts
from headrace.slo.servers import Alert
from services.monitoring.alerts.counts import ObjectiveHistory
from services.monitoring.alerts.watch import AlertMetrics, Watch
from services.monitoring.cost.processes import Page, Target
from services.monitoring.database.facts import Facts
from tests.libs.slo.promtool_case import Case

MIDNIGHT = 20_000 * 86_400.0
_KEY = 'pipeline="small",objective="availability"'
_UNITS = {"s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"(?P<gap>_)(?:x(?P<gaps>\d+))?|(?P<first>[\d.]+)(?P<step>[+-][\d.]+)?(?:x(?P<more>\d+))?")


def door(requests: float, bad: float, target: float = 0.999) -> list[str]:
    """What a door says of the one objective of the pipeline `small`."""
    return [
        f"headrace_objective_requests_total{{{_KEY}}} {requests}",
        f"headrace_objective_bad_total{{{_KEY}}} {bad}",
        f'headrace_objective_target{{{_KEY},period_s="2592000"}} {target}',
    ]


def seconds(text: str) -> float:
    """Of a duration, such as "90m"."""
    return int(text[:-1]) * _UNITS[text[-1]]


def values(notation: str) -> Iterator[float | None]:
    """The values of promtool's notation, such as "0+10x5 _x3 7"; None: there is none."""
    for part in notation.split():
        found = _PART.fullmatch(part)
        assert found, part
        if found["gap"]:
            yield from [None] * int(found["gaps"] or 1)
        else:
            for n in range(int(found["more"] or 0) + 1):
                yield float(found["first"]) + n * float(found["step"] or 0)


class Monitoring:
    """A watch whose time is its tests'. `told`: what fired, each time."""

    def __init__(self, facts: Facts) -> None:
        self.now = MIDNIGHT
        self.told: list[list[Alert]] = []
        self.registry = CollectorRegistry()
        log = structlog.get_logger()
        history = ObjectiveHistory(facts)
        tell = lambda found: self.told.append(list(found))  # noqa: E731  # used once
        self.watch = Watch(alerts(), history, AlertMetrics(self.registry), tell, lambda: self.now, log)

    def read(self, said: dict[str, list[str]], silent: tuple[str, ...] = ()) -> None:
        """One reading: instance → the lines that it says."""
        known = {name: Target(name, f"{name}:1") for name in (*said, *silent)}
        pages = [Page(known[name], "\n".join(lines), 1.0) for name, lines in said.items()]
        self.watch.evaluate(list(known.values()), pages)

    @property
    def left(self) -> float | None:
        """What is left of the budget of `door`."""
        labels = {"pipeline": "small", "objective": "availability"}
        return self.registry.get_sample_value("headrace_objective_budget_left", labels)

    def firing(self, name: str) -> list[str]:
        """The levels of the alerts of this name that fire; "": of one without levels."""
        return sorted(a.labels.get("level", "") for a in self.watch.alerts() if a.labels["alertname"] == name)


def replayed(case: Case, facts: Facts) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """(alert, instant, levels that must fire, levels that do)."""
    series = [(text, list(values(notation))) for text, notation in case.series]
    monitoring, steps = Monitoring(facts), max(len(found) for _, found in series)
    instants = {seconds(instant) for _, instant, _ in case.expected}
    for step in range(steps):
        at = step * seconds(case.interval)
        # Of days each fifth step is enough.
        if steps > 150 and step % 5 and at not in instants:
            continue
        said, silent = defaultdict[str, list[str]](list), []
        for text, found in series:
            instance = (re.findall(r'instance="(\w+)"', text) or ["one"])[0]
            value = found[step] if step < len(found) else None
            if text.startswith("up{"):
                said[instance] if value else silent.append(instance)
            elif value is not None:
                said[instance].append(f"{text} {value}")
        monitoring.now = MIDNIGHT + at
        monitoring.read(said, tuple(silent))
        for name, instant, levels in case.expected:
            if seconds(instant) == at:
                yield name, instant, levels, monitoring.firing(name)
