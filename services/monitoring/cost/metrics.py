"""The instruments of cost. Labels are pipelines of documents, kinds of rows and of resources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from headrace.cost import Bill, Charge, Prices


class CostMetrics:
    """Counts what was charged and billed, in the currency of the prices."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._cost = Counter(
            "headrace_cost",
            "What was charged, by pipeline and kind: live, cached, shadow, replayed, explained, refused; "
            "overhead (used, but by no prediction), idle (reserved, not used).",
            ("pipeline", "kind"),
            registry=registry,
        )
        self._bill = Counter(
            "headrace_cost_bill", "What was reserved, at its price.", ("resource",), registry=registry
        )
        self._budget = gauge(
            "headrace_cost_budget_per_1000",
            "What 1,000 rows of a pipeline may cost, as the prices file says.",
            ("pipeline",),
        )
        self.prices_broken = gauge("headrace_cost_prices_broken", "1 while the prices file has a mistake.")
        self.failing = gauge(
            "headrace_cost_failing", "1 while what processes use can't be read or written down."
        )
        self.silent = gauge("headrace_cost_silent_processes", "Processes that did not say what they use.")
        # Negative amounts (more was used than is reserved), until later ones make up for them: a counter never falls.
        self._owed: defaultdict[tuple[str, str], float] = defaultdict(float)

    def charged(self, charges: Iterable[Charge], bills: Iterable[Bill]) -> None:
        """Counts one interval."""
        amounts: defaultdict[tuple[str, str], float] = defaultdict(float)
        for charge in charges:
            amounts[charge.key.pipeline, charge.key.traffic] += charge.amount
        for name, amount in amounts.items():
            due = self._owed[name] + amount
            self._owed[name] = min(due, 0.0)
            self._cost.labels(*name).inc(max(due, 0.0))
        for bill in bills:
            self._bill.labels(bill.resource).inc(bill.amount)

    def budgets(self, prices: Prices, pipelines: Iterable[str]) -> None:
        """Shows what is in force."""
        own: Mapping[str, float] = prices.budget.pipelines
        self._budget.clear()
        for pipeline in {*pipelines, *own} - {""}:
            budget = own.get(pipeline, prices.budget.per_1000)
            if budget is not None:
                self._budget.labels(pipeline).set(budget)
