"""`headrace cost` and `headrace plan`: what predictions cost, and what a load would need."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cli.commands.operations import service_calls
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place, seconds
from headrace.cli.installation.layout import Layout
from headrace.cli.tables import headed_table
from headrace.cost import (
    Group,
    Measurement,
    Plan,
    PlanError,
    Prices,
    Report,
    of_account,
    of_file,
    report,
)
from headrace.cost import plan as planned
from headrace.cost.plan import DEFAULT_HEADROOM
from headrace.cost.prices import CPU, FIXED, GPU, MEMORY, STORAGE, read_prices
from headrace.hop.config import ConfigError

Since = Annotated[
    str, typer.Option("--since", help="How long ago it begins, such as 1h, 7d; whole hours count.")
]
_NOW = time.time  # noqa: TID251 - the ledger is by date
# Rows of a request in the measurement and in the plan, above which the plan is more of a guess.
_FAR = 4
# What rounding leaves: of an amount, and of a sum of the bill's parts.
_NOTHING = 1e-12
_ROUNDING = 1e-9


def cost(
    by: Annotated[
        Literal["tenant", "pipeline", "version"], typer.Option("--by", help="What the lines are of.")
    ] = "pipeline",
    since: Since = "24h",
    as_json: AsJson = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """What predictions cost, by measured use; what nobody used has a line of its own, and all lines are the bill."""
    layout = place(home)
    problem = ""
    try:
        read_prices(layout.prices)
    except ConfigError as error:
        problem = str(error)
        told = f"the prices can't be used, so those before are in force: {problem}"
        err.print(told, style="yellow", markup=False, soft_wrap=True)
    found = [report(account, by) for account in _accounts(layout, since)]
    if as_json:
        print(json.dumps({"prices_problem": problem, "accounts": [r.values() for r in found]}, indent=1))
        return
    for one in found:
        _print(one)


def plan(
    rate: Annotated[float, typer.Option("--rate", min=0.001, help="Requests a second.")],
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of each request.")] = 1,
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="As this one was measured; absent: as all were.")
    ] = "",
    p99: Annotated[
        float | None, typer.Option("--p99", min=0.1, help="Milliseconds that 99 % must take at most.")
    ] = None,
    headroom: Annotated[
        float, typer.Option("--headroom", min=0.05, max=0.95, help="Part of the peak to fill.")
    ] = (DEFAULT_HEADROOM),
    measurement: Annotated[
        Path | None,
        typer.Option(
            "--measurement", help="A recorded one, such as load/capacity.json, instead of this home's ledger."
        ),
    ] = None,
    shape: Annotated[
        Literal["apart", "together"], typer.Option("--shape", help="Of a recorded measurement.")
    ] = "apart",
    since: Since = "24h",
    as_json: AsJson = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """How many cores, processes and how much memory a load needs, and their price, by what was measured."""
    layout = place(home)
    try:
        prices = read_prices(layout.prices)
        if measurement is not None:
            measured = of_file(measurement, shape)
        else:
            measured = of_account(_accounts(layout, since)[-1], pipeline, "this home's ledger")
        found = planned(measured, prices, rate, rows, p99, headroom)
    except (ConfigError, PlanError) as error:
        fail(str(error))
    if as_json:
        sums = {"cores": found.cores, "processes": found.processes, "memory_gb": found.memory_gb}
        told = {"measurement": {"source": measured.source, "when": measured.when, "rows": measured.rows}}
        print(json.dumps(asdict(found) | sums | told | {"currency": prices.currency}, indent=1))
        return
    _print_plan(found, measured, prices, f"{rate:g} requests/s of {rows} row{'s' * (rows > 1)}", rows)


def _accounts(layout: Layout, since: str) -> Sequence[pb.CostAccount]:
    """What the ledger says, one account a currency; ends the command if that is nothing."""
    request = pb.ReadCostRequest()
    request.since.FromNanoseconds(int((_NOW() - seconds(since, "--since")) * 1e9))
    rpc = pb.DESCRIPTOR.services_by_name["CostService"].methods_by_name["ReadCost"]
    reply = service_calls.ask(layout, "monitoring", rpc, request, pb.ReadCostResponse)
    if not reply.accounts:
        fail(
            f"the ledger says nothing of the last {since}; it is written while the system runs, each 15 seconds"
        )
    return reply.accounts


def _print(found: Report) -> None:
    account = found.account
    began, ended = (f"{t.ToDatetime(UTC):%Y-%m-%d %H:%M}" for t in (account.since, account.until))
    hours = account.watched.ToSeconds() / 3600
    out.print(f"{began} to {ended} UTC, of which {hours:.2f} h were watched; in {account.currency}\n")
    table = headed_table(
        found.by,
        "rows",
        "CPU s",
        "cpu",
        "memory",
        "gpu",
        "storage",
        "fixed",
        "sum",
        "per 1,000 rows",
        numbers=True,
    )
    for group in [*found.groups, found.overhead, found.idle]:
        table.add_row(*_fields(group))
    bills = found.bills
    reserved = [_amount(bills[r].amount) if r in bills else "" for r in (CPU, MEMORY, GPU, STORAGE, FIXED)]
    table.add_row("bill", "", "", *reserved, _amount(found.bill), "", style="bold")
    out.print(table)
    out.print()
    if found.adds_up:
        out.print("the lines are the bill, to 0.1 %", style="green")
    else:
        err.print(
            f"the lines are {found.charged:.6g}, and not the bill of {found.bill:.6g}", style="bold red"
        )
    if found.gpu_used is None:
        out.print("no GPU is reserved, so nothing is told of the use of GPUs", style="dim")
    else:
        out.print(f"GPUs: models used {found.gpu_used:.1%} of what is reserved")
    if min(found.idle.amounts.values(), default=0.0) < -_ROUNDING * found.bill:
        err.print(
            "more was used than is reserved: set `reserved` in settings/prices.yaml to what is paid for",
            style="yellow",
        )


def _fields(group: Group) -> list[str]:
    amounts = [_amount(group.amounts.get(r, 0.0)) for r in (CPU, MEMORY, GPU, STORAGE, FIXED)]
    rows = str(group.rows) if group.rows else ""
    thousand = "" if group.per_1000 is None else _amount(group.per_1000)
    return [
        group.name,
        rows,
        f"{group.cpu_s:.1f}" if group.cpu_s else "",
        *amounts,
        _amount(group.amount),
        thousand,
    ]


def _amount(amount: float) -> str:
    return f"{amount:.4g}" if abs(amount) > _NOTHING else ""


def _print_plan(found: Plan, measured: Measurement, prices: Prices, load: str, rows: int) -> None:
    out.print(f"{load}, by {measured.source}: {measured.when}\n", soft_wrap=True)
    table = headed_table("service", "CPU µs/request", "cores", "processes", "memory GB", numbers=True)
    for need in found.needs:
        table.add_row(
            need.service, f"{need.us:.0f}", f"{need.cores:.2f}", str(need.processes), f"{need.memory_gb:.2f}"
        )
    all_us = sum(n.us for n in found.needs)
    sums = ("all", f"{all_us:.0f}", f"{found.cores:.2f}", str(found.processes), f"{found.memory_gb:.2f}")
    table.add_row(*sums, style="bold")
    out.print(table)
    out.print(
        f"\n{found.per_month:.2f} {prices.currency} a month; {found.per_million:.4g} a million requests"
    )
    out.print(f"headroom: {found.why}", soft_wrap=True)
    beside = "" if "monitoring" in measured.shapes else ", monitoring"
    out.print(
        f"not in it: storage, GPUs, shadows, explanations, the features' store, the network{beside}",
        style="dim",
    )
    if measured.rows and not 1 / _FAR <= rows / measured.rows <= _FAR:
        told = f"measured with {measured.rows:.1f} rows a request; {rows} is far from it, so this is a guess"
        err.print(told, style="yellow")
