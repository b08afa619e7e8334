"""`scaling rows`: what a row costs, the more of them a request has; `--keep`: by service, for `capacity`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from load.scenarios.scaling.table import Found, Table, flights_target, redis_store
from load.systems.headrace import Setup, configuration, headrace

_AIM = 25.0
_FROM, _TO = 1, 64


class Line(NamedTuple):
    """One line of the table."""

    shape: str
    rows: int
    at_once: int
    found: Found


def run(options: argparse.Namespace) -> None:
    """Prints the tables, and whether 64 rows at a time are as many times the rows of one at a time as they should be."""
    table = Table("rows/request", options)
    seen: list[Line] = []
    with redis_store(options.home) as store:
        print(configuration(Setup(options.home, options.shapes[0], feast=store.feast)))
        table.begin()
        for shape in options.shapes:
            with headrace(Setup(options.home, shape, feast=store.feast)) as running:
                for each in options.rows:
                    found = table.add(str(each), running, flights_target(running, store, each), each)
                    seen += [Line(shape, each, at_once, what) for at_once, what in found.items()]
    table.end()
    alone = {(line.shape, line.rows): line.found.point.rate for line in seen if line.at_once == 1}
    for shape in options.shapes:
        if (shape, _FROM) in alone and (shape, _TO) in alone:
            print(verdict(shape, alone[shape, _TO] * _TO / (alone[shape, _FROM] * _FROM)))
    if options.keep:
        options.keep.write_text(json.dumps([_kept(line) for line in seen], indent=1) + "\n")


def _kept(line: Line) -> dict[str, Any]:
    """What `capacity` reads."""
    point, us = line.found.point, line.found.point.median(lambda f: f.server_us)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "shape": line.shape,
        "rows": line.rows,
        "at_once": line.at_once,
        "rate": round(point.rate),
        "p99_ms": round(point.median(lambda f: f.p99_us) / 1e3, 1),
        "services_us": {name: round(part * us, 1) for name, part in line.found.shares.items()},
        "store_us": round(point.median(lambda f: f.helpers_us), 1),
        "memory_mib": {name: round(mib) for name, mib in line.found.memory.items()},
        "disturbed": point.median(lambda f: f.other_cores) > 0.2,
    }


def verdict(shape: str, times: float) -> str:
    """Rows per second at 64 a request against 1, one caller, in words."""
    held = "holds" if times >= _AIM else "SHORT"
    return f"{shape}, c = 1: {times:.1f} times the rows at {_TO} a request (aim {_AIM:g}: {held})"
