"""Processes that say what they used, and a ledger, for tests."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost import Key, PricesFile, Work
from headrace.cost.account import key_of
from services.monitoring.cost import ledger
from services.monitoring.cost.collector import Collected, Collector
from services.monitoring.cost.from_events import CostObserver
from services.monitoring.cost.keeper import CostKeeper
from services.monitoring.cost.metrics import CostMetrics
from services.monitoring.cost.processes import Page, Target, ask, read
from services.monitoring.cost.settings import CostSettings
from services.monitoring.database.facts import Facts
from tests.services.monitoring.monitoring_outcomes import NOW, Log

A, B = Key("a", "p", "m:1"), Key("b", "p", "m:1")


def page(cpu_s: float, memory_gb: float = 0.0, started: float = 1.0, **more: float) -> str:
    """A page of metrics. `more`: a name with labels → value."""
    lines = {
        "process_cpu_seconds_total": cpu_s,
        "process_resident_memory_bytes": memory_gb * 1e9,
        "process_start_time_seconds": started,
        **more,
    }
    return "# HELP x y\n" + "".join(f"{name} {value!r}\n" for name, value in lines.items())


@dataclass
class World:
    """`pages`: instance → its page; one without a page does not answer. `now`: the wall clock."""

    folder: Path
    facts: Facts
    pages: dict[str, str | None] = field(default_factory=dict)
    now: float = NOW
    log: Log = field(default_factory=Log)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    @property
    def prices(self) -> Path:
        return self.folder / "prices.yaml"

    @property
    def settings(self) -> CostSettings:
        return CostSettings(
            targets=self.folder / "targets.json",
            prices=self.prices,
        )

    @contextmanager
    def collector(self) -> Iterator[Collector]:
        with ThreadPoolExecutor(2) as asking:
            prices = PricesFile(self.settings.prices)
            yield Collector(self.settings, None, prices, self.facts, lambda: self.now, asking, self._ask)

    @contextmanager
    def keeper(self) -> Iterator[tuple[CostKeeper, CostObserver]]:
        with self.collector() as collector:
            observer = CostObserver()
            prices = collector._prices
            yield (
                CostKeeper(collector, observer, prices, CostMetrics(self.registry), self.log, 600.0),
                observer,
            )

    def later(
        self,
        collector: Collector,
        seconds: float,
        work: dict[Key, Work] | None = None,
        **pages: str | None,
    ) -> Collected | None:
        """Collects so many seconds later, when the processes have these pages."""
        self.now += seconds
        self.pages = pages
        self.name_targets()
        return collector.collect(work or {})

    def account(self) -> pb.CostAccount:
        """What the ledger says of the last hour."""
        [found] = self.facts.query(lambda connection: ledger.accounts(connection, self.now - 3600))
        return found

    def name_targets(self) -> None:
        groups: list[Any] = [{"targets": [name], "labels": {"instance": name}} for name in self.pages]
        (self.folder / "targets.json").write_text(json.dumps(groups))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def _ask(self, target: Target) -> Page | None:
        if ":" in target.address:
            return ask(target)
        text = self.pages[target.instance]
        return None if text is None else read(target, text)


def cpu_s(account: pb.CostAccount, key: Key, service: str = "") -> float:
    """CPU seconds of a key."""
    return sum(
        line.quantity
        for line in account.charges
        if line.key == key_of(key) and line.resource == "cpu" and service in ("", line.service)
    )
