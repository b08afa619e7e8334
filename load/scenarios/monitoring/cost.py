"""`cost`: what a tenant pays that sends ten times the rows of another, both beside a third one, by `headrace cost`.

Three tenants ask at once, each by its own Poisson process: one at the given rate, one at ten times that, one at five times; for
half of the time the light model, then the heavy one. What is compared is the price in the ledger, which came from the events
and from the processes' own counters of CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

from headrace.state.tenants import TenantSpec
from load.generator.arrivals import steady
from load.generator.load_generator import Caller
from load.generator.open_loop import RequestStream, run_open_loop
from load.systems.headrace import AMPLE, Running, Setup, command, configuration, headrace

_ONE, _TEN, _OTHER = "one", "ten", "other"
_TIMES = {_ONE: 1.0, _TEN: 10.0, _OTHER: 5.0}
_MODELS = ("flights", "flights_heavy")
_BEGUN_S = 60.0
_AIM = 0.1
_BILL = 0.001
_DEADLINE_S = 5.0
# An interval of the ledger, and the time of reading the processes.
_WRITTEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Paid:
    """What the ledger says of a tenant."""

    rows: int
    amount: float


def run(options: argparse.Namespace) -> None:
    """Prints the table. Raises SystemExit if ten times the rows do not cost ten times as much."""
    tenants = {name: TenantSpec(pipelines=("*",), limits=AMPLE) for name in ("load", *_TIMES)}
    with headrace(Setup(options.home, options.shape, tenants=tenants)) as running:
        print(configuration(running.setup), flush=True)
        before = _paid(_begun(running))
        sent = dict.fromkeys(_TIMES, 0)
        for model in _MODELS:
            made = run_open_loop(running, model, _streams(running, options), check=False)
            for name in _TIMES:
                sent[name] += len(made.outcome(name).answered)
        wanted = {name: before.get(name, Paid(0, 0.0)).rows + count for name, count in sent.items()}
        whole = _written(running, wanted)
    after = _paid(whole)
    paid = {n: _less(after[n], before.get(n, Paid(0, 0.0))) for n in _TIMES}
    print("| tenant | rows | price | µ of a row |\n|---|--:|--:|--:|")
    for name, one in paid.items():
        print(f"| {name} | {one.rows} | {one.amount:.6f} | {one.amount / one.rows * 1e6:.3f} |")
    rows, price = (getattr(paid[_TEN], f) / getattr(paid[_ONE], f) for f in ("rows", "amount"))
    away = abs(whole["charged"] / whole["bill"] - 1)
    print(
        f"\n{rows:.2f} times the rows cost {price:.2f} times as much; sums away from the bill by {away:.1e}"
    )
    if abs(price / rows - 1) > _AIM or away > _BILL:
        raise SystemExit(f"aim: {rows:.2f} ± {_AIM:.0%}, and {_BILL:.1%} of the bill")


def _streams(running: Running, options: argparse.Namespace) -> list[RequestStream]:
    return [
        RequestStream(
            Caller(name, running.keys[name], _DEADLINE_S), steady(times * options.rate, options.seconds / 2)
        )
        for name, times in _TIMES.items()
    ]


def _written(running: Running, wanted: dict[str, int]) -> Any:
    """The account once it has all rows. Raises SystemExit: it never had them."""
    until = time.monotonic() + _WRITTEN_S
    while True:
        whole = _asked(running)
        paid = _paid(whole)
        if all(paid.get(name, Paid(0, 0.0)).rows >= rows for name, rows in wanted.items()):
            return whole
        if time.monotonic() > until:
            raise SystemExit(f"the ledger lacks rows: {wanted} were answered, it has {paid}")
        time.sleep(1.0)


def _begun(running: Running) -> Any:
    """The ledger before anything is sent; in a new home it is written after some seconds."""
    ends = time.monotonic() + _BEGUN_S
    while True:
        try:
            return _asked(running)
        except SystemExit:
            if time.monotonic() > ends:
                raise
            time.sleep(1)


def _asked(running: Running) -> Any:
    text = command(running.setup.home, "cost", "--by", "tenant", "--since", "7d", "--json")
    return json.loads(text)["accounts"][-1]


def _paid(account: Any) -> dict[str, Paid]:
    return {g["name"]: Paid(g["rows"], g["amount"]) for g in account["groups"]}


def _less(after: Paid, before: Paid) -> Paid:
    return Paid(after.rows - before.rows, after.amount - before.amount)
