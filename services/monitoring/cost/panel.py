"""The section of a pipeline's page that tells what it cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from headrace.cost import Account, Report, report
from headrace.cost.usage import IDLE
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow

DAY_S = 86_400.0
_MOST_ROWS = 8
_SHARE = 0.01


class CostPanel:
    """A `PanelSource`. `accounts`: of hours that end after a time. `budget`: of 1,000 rows of a pipeline; None: there is none."""

    def __init__(
        self,
        accounts: Callable[[float], Awaitable[Sequence[Account]]],
        budget: Callable[[str], float | None],
        wall: Callable[[], float],
    ) -> None:
        self._wall = wall
        self._accounts = accounts
        self._budget = budget

    async def __call__(self, pipeline: str) -> Panel | None:
        """None: nothing was charged yet."""
        accounts = await self._accounts(self._wall() - DAY_S)
        if not accounts:
            return None
        whole = report(accounts[-1], "pipeline")
        own = next((g for g in whole.groups if g.name == pipeline), None)
        if own is None:
            return None
        money = partial(words.money, currency=whole.account.currency)
        budget = self._budget(pipeline)
        rows = [
            PanelRow(service, money(amount), share=_part(amount, own.amount))
            for service, amount in sorted(own.services.items(), key=lambda s: -s[1])
        ]
        rows += _tenants(pipeline, whole) + _versions(pipeline, whole)
        a_thousand = own.per_1000
        told = f"{money(own.amount)} in the last 24 hours"
        level: Level = "none"
        if a_thousand is not None:
            told += f"; {money(a_thousand)} for 1,000 predictions"
            if budget is not None:
                level = "bad" if a_thousand > budget else "good"
                told += f", of {money(budget)} that they may cost"
        told += f". Idle, for all pipelines: {money(whole.idle.amount)} of a bill of {money(whole.bill)}."
        data = {"amount": own.amount, "per_1000": a_thousand, "budget_per_1000": budget, **whole.values()}
        return Panel("Cost", told, rows, level, data)


def _tenants(pipeline: str, whole: Report) -> list[PanelRow]:
    """Who pays for it, the most first."""
    amounts: dict[str, float] = {}
    for line in whole.account.charges:
        if line.key.pipeline == pipeline and line.key.traffic != IDLE:
            amounts[line.key.tenant] = amounts.get(line.key.tenant, 0.0) + line.amount
    total = sum(amounts.values())
    dearest = sorted(amounts.items(), key=lambda a: -a[1])[:_MOST_ROWS]
    return [
        PanelRow(
            f"tenant {tenant or '(none)'}",
            words.money(amount, whole.account.currency),
            share=_part(amount, total),
        )
        for tenant, amount in dearest
        if amount > _SHARE * total
    ]


def _versions(pipeline: str, whole: Report) -> list[PanelRow]:
    """What 1,000 rows of each version cost that ran in it, for comparing arms; of a version, all pipelines count."""
    here = {line.key.version for line in whole.account.charges if line.key.pipeline == pipeline}
    found = [g for g in report(whole.account, "version").groups if g.name in here and g.per_1000 is not None]
    dearest = max((g.per_1000 or 0.0 for g in found), default=0.0)
    return [
        PanelRow(
            f"1,000 rows of {g.name}",
            words.money(g.per_1000 or 0.0, whole.account.currency),
            share=_part(g.per_1000 or 0.0, dearest),
        )
        for g in found[:_MOST_ROWS]
    ]


def _part(amount: float, total: float) -> float:
    return min(max(amount / total, 0.0), 1.0) if total > 0 else 0.0
